"""Services and orders from CSV files. A file is taken whole or, if a single row of it is wrong, not at all."""

import csv
import io
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, BinaryIO

from django.db import connection, transaction
from ulid import ULID

from apikeys.models import Account
from orders.models import DELIVERED, UNDER_WAY, Order, OrderStatus, Service

LARGEST_BIGINT = 2**63 - 1
LARGEST_INTEGER = 2**31 - 1
SHOWN_ERRORS = 50
STATUSES = tuple(OrderStatus.values)


@dataclass
class Imported:
    created: int
    changed: int
    unchanged: int


@dataclass
class BadFile(Exception):
    """The file was not imported. ``errors`` holds the first of its errors, as pairs of line number and text."""

    errors: list[tuple[int, str]] = field(default_factory=list)
    count: int = 0

    def add(self, line: int, text: str) -> None:
        self.count += 1
        if len(self.errors) < SHOWN_ERRORS:
            self.errors.append((line, text))

    def __str__(self) -> str:
        lines = [f"line {line}: {text}" for line, text in sorted(self.errors)]
        if self.count > len(lines):
            lines.append(f"and {self.count - len(lines):,} more")
        return "\n".join([*lines, "Nothing was imported."])


# ---- What a cell may hold. A converter returns the value, or raises ValueError with what is wrong.

Converter = Callable[[str], Any]


def integer(lowest: int, highest: int) -> Converter:
    def convert(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 20 and lowest <= int(text) <= highest):
            raise ValueError(f"“{text}” is not a whole number from {lowest} to {highest}")
        return int(text)

    return convert


def amount(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    # As numeric(14, 5) holds it: nothing is rounded quietly.
    if not (value.is_finite() and 0 <= value < 10**9 and value == value.quantize(Decimal("0.00001"))):
        raise ValueError(f"“{text}” is not an amount from 0 to 999999999.99999, with five decimals at most")
    return value


def text_up_to(longest: int) -> Converter:
    def convert(text: str) -> str:
        if not text or len(text) > longest or "\x00" in text:
            raise ValueError(f"must be text of 1 to {longest} characters")
        return text

    return convert


def moment(text: str) -> datetime:
    try:
        value = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"“{text}” is not a time such as 2026-05-31T12:00:00Z") from error
    if not 1970 < value.year < 9999:
        raise ValueError(f"{value.year} is not a year in which an order was made")
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def flag(text: str) -> bool:
    if text.lower() in ("true", "1", "yes"):
        return True
    if text.lower() in ("false", "0", "no"):
        return False
    raise ValueError(f"“{text}” is neither true nor false")


def status(text: str) -> str:
    if text not in STATUSES:
        raise ValueError(f"“{text}” is none of {', '.join(STATUSES)}")
    return text


def currency(text: str) -> str:
    if not (len(text) == 3 and text.isascii() and text.isalpha() and text.isupper()):
        raise ValueError(f"“{text}” is not a currency code such as USD")
    return text


@dataclass(frozen=True)
class Column:
    name: str
    convert: Converter
    optional: bool = False  # the column may be missing, and its cells empty
    default: Any = None


SERVICE_COLUMNS = (
    Column("id", integer(1, LARGEST_INTEGER)),
    Column("name", text_up_to(255)),
    Column("category", text_up_to(255)),
    Column("type", text_up_to(50), optional=True, default="Default"),
    Column("rate", amount),
    Column("min", integer(0, LARGEST_BIGINT)),
    Column("max", integer(0, LARGEST_BIGINT)),
    Column("refill", flag),
    Column("cancel", flag),
    Column("active", flag, optional=True, default=True),
    Column("refill_days", integer(1, LARGEST_INTEGER), optional=True),
    Column("refill_limit", integer(1, LARGEST_INTEGER), optional=True),
)

ORDER_COLUMNS = (
    Column("number", integer(1, LARGEST_BIGINT)),
    Column("account", text_up_to(150)),
    Column("service", integer(1, LARGEST_INTEGER)),
    Column("link", text_up_to(2048)),
    Column("quantity", integer(1, LARGEST_BIGINT)),
    Column("charge", amount),
    Column("currency", currency, optional=True, default="USD"),
    Column("start_count", integer(0, LARGEST_BIGINT), optional=True),
    Column("remains", integer(0, LARGEST_BIGINT), optional=True),
    Column("status", status),
    Column("created", moment),
    Column("completed", moment, optional=True),
)


def read(file: BinaryIO, columns: tuple[Column, ...], bad: BadFile) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each good row of a CSV file with the number of its first line, and note the others in ``bad``."""
    reader = csv.reader(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""), strict=True)
    line = 1
    try:
        header = [name.strip() for name in next(reader, [])]
        known = {column.name: column for column in columns}
        missing = [column.name for column in columns if column.name not in header and not column.optional]
        unknown = [name for name in header if name not in known]
        if missing or unknown or len(set(header)) < len(header):
            bad.add(
                1,
                f"the columns must be {', '.join(known)}"
                + "".join(f"; {name} is missing" for name in missing)
                + "".join(f"; “{name}” is unknown" for name in unknown)
                + ("; one is named twice" if len(set(header)) < len(header) else ""),
            )
            return
        in_order = [known[name] for name in header]
        defaults = {column.name: column.default for column in columns}
        line = reader.line_num + 1
        for cells in reader:
            row = dict(defaults)
            if len(cells) != len(header):
                if cells:  # a blank line is nothing
                    bad.add(line, f"{len(cells)} cells, where the header has {len(header)}")
                line = reader.line_num + 1
                continue
            good = True
            for column, cell in zip(in_order, cells, strict=True):
                cell = cell.strip()
                if not cell and column.optional:
                    continue
                try:
                    row[column.name] = column.convert(cell)
                except ValueError as error:
                    good = False
                    bad.add(line, f"{column.name}: {error}")
            if good:
                yield line, row
            line = reader.line_num + 1
    except (csv.Error, UnicodeDecodeError) as error:
        bad.add(line, f"this is no CSV in UTF-8: {error}")


def import_services(file: BinaryIO, *, dry_run: bool = False) -> Imported:
    """Create the services of a CSV file, or change those whose id is known. Raises BadFile."""
    bad = BadFile()
    services: dict[int, Service] = {}
    for line, row in read(file, SERVICE_COLUMNS, bad):
        if row["max"] < row["min"]:
            bad.add(line, "max: must not be below min")
        if row["id"] in services:
            bad.add(line, f"id: {row['id']} comes twice")
        services[row["id"]] = Service(**row)
    if bad.count:
        raise bad
    names = [column.name for column in SERVICE_COLUMNS]
    with transaction.atomic():
        known = Service.objects.select_for_update(no_key=True).order_by("id").in_bulk()
        changed = sum(
            any(getattr(known[pk], name) != getattr(service, name) for name in names)
            for pk, service in services.items()
            if pk in known
        )
        created = len(services.keys() - known.keys())
        Service.objects.bulk_create(
            services.values(), update_conflicts=True, unique_fields=["id"], update_fields=names[1:], batch_size=1000
        )
        transaction.set_rollback(dry_run)
    return Imported(created, changed, len(services) - created - changed)


# The columns of Order that an import writes to an order that it finds; its account and its service never change.
_CHANGEABLE = (
    "link",
    "quantity",
    "charge",
    "currency",
    "start_count",
    "remains",
    "status",
    "created_at",
    "completed_at",
)
_MANY = 10_000  # new orders, after which the database looks at the table anew
_THESE = ", ".join(_CHANGEABLE)
_OLD = ", ".join(f"o.{name}" for name in _CHANGEABLE)
_KNOWN = ", ".join(f"known.{name}" for name in _CHANGEABLE)
_NEW = ", ".join(f"excluded.{name}" for name in _CHANGEABLE)
_INCOMING = ", ".join(f"i.{name}" for name in _CHANGEABLE)


def import_orders(file: BinaryIO, *, dry_run: bool = False) -> Imported:
    """Create the orders of a CSV file, or change those whose number is known. Raises BadFile.

    The rows stream into a temporary table, so that memory does not grow with the file; from there one statement
    writes them. An order that does not change is not written.
    """
    orders, services, accounts = Order._meta.db_table, Service._meta.db_table, Account._meta.db_table
    bad = BadFile()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        # Of imports at the same time one goes on. Requests for refills only lock rows: of orders that this import
        # changes they wait for its end, of others they do not.
        cursor.execute(f"LOCK TABLE {orders} IN SHARE ROW EXCLUSIVE MODE")
        cursor.execute("DROP TABLE IF EXISTS pg_temp.incoming")  # of an import within the same transaction
        cursor.execute(
            """
            CREATE TEMPORARY TABLE incoming (
                line bigint, id uuid, number bigint, account text, service integer, link text, quantity bigint,
                charge numeric, currency text, start_count bigint, remains bigint, status text,
                created_at timestamptz, completed_at timestamptz
            ) ON COMMIT DROP
            """
        )
        with cursor.copy("COPY incoming FROM STDIN") as copy:
            for line, row in read(file, ORDER_COLUMNS, bad):
                if error := _contradiction(row):
                    bad.add(line, error)
                else:
                    copy.write_row((line, ULID.from_datetime(row["created"]).to_uuid(), *row.values()))
        cursor.execute("ANALYZE incoming")
        cursor.execute(
            f"""
            SELECT line, 'account: “' || account || '” is unknown'
            FROM incoming LEFT JOIN {accounts} a ON a.username = account WHERE a.id IS NULL
            UNION ALL
            SELECT line, 'service: ' || service || ' is unknown'
            FROM incoming LEFT JOIN {services} s ON s.id = service WHERE s.id IS NULL
            UNION ALL
            SELECT line, 'number: ' || number || ' comes twice'
            FROM (SELECT line, number, row_number() OVER (PARTITION BY number ORDER BY line) FROM incoming) AS numbered
            WHERE row_number > 1
            UNION ALL
            SELECT line, 'number: ' || number || ' is an order of another account or service'
            FROM incoming i JOIN {orders} o USING (number) JOIN {accounts} a ON a.id = o.account_id
            WHERE a.username <> i.account OR o.service_id <> i.service
            ORDER BY 1
            """
        )
        for line, error in itertools.chain.from_iterable(iter(lambda: cursor.fetchmany(1000), [])):
            bad.add(line, error)
        if bad.count:
            raise bad
        cursor.execute(f"SELECT count(*), count(o.id) FROM incoming LEFT JOIN {orders} o USING (number)")
        total, known = cursor.fetchone()
        # Requests for refills lock orders by their ids; so does this, before it writes them in another order.
        cursor.execute(
            f"""
            SELECT count(*) FROM (
                SELECT 1 FROM {orders} o JOIN incoming i USING (number)
                WHERE ({_OLD}) IS DISTINCT FROM ({_INCOMING}) ORDER BY o.id FOR UPDATE OF o
            ) AS locked
            """
        )
        [changed] = cursor.fetchone()
        cursor.execute(
            f"""
            INSERT INTO {orders} AS o (id, number, account_id, service_id, {_THESE})
            SELECT i.id, number, a.id, service, {_INCOMING}
            FROM incoming i JOIN {accounts} a ON a.username = account LEFT JOIN {orders} known USING (number)
            WHERE known.id IS NULL OR ({_KNOWN}) IS DISTINCT FROM ({_INCOMING}) ORDER BY number
            ON CONFLICT (number) DO UPDATE SET ({_THESE}) = ROW ({_NEW})
            WHERE ({_OLD}) IS DISTINCT FROM ({_NEW})
            """
        )
        if total - known >= _MANY and not dry_run:
            # Requests run on plans that are kept. One that was made for an empty table reads all of a large one, until
            # this is found out; autovacuum would do it a minute later.
            cursor.execute(f"ANALYZE {orders}")
        transaction.set_rollback(dry_run)
    return Imported(created=total - known, changed=changed, unchanged=known - changed)


def _contradiction(row: Mapping[str, Any]) -> str | None:
    if row["status"] in DELIVERED and row["completed"] is None:
        return f"completed: must be given, for the order is {row['status']}"
    if row["status"] in UNDER_WAY and row["completed"] is not None:
        return f"completed: must be empty, for the order is {row['status']}"
    if row["completed"] is not None and row["completed"] < row["created"]:
        return "completed: must not be before created"
    return None
