"""Create and change services and orders from CSV files: a whole file, or none of it if a row is wrong.

What a file does not say of a known service or order stays as it is; a new one gets the column's default. An absent
column says nothing. An empty cell empties a column that may be empty (refill_days, refill_limit, start_count, remains,
completed, supplier), and says nothing of one that may not (type, active, currency, supplier_order).
"""

import itertools
from collections.abc import Collection
from dataclasses import dataclass
from typing import BinaryIO

from django.db import connection, transaction
from ulid import ULID

from apikeys.models import Account
from orders.csv_files import (
    Column,
    FileErrors,
    Row,
    amount,
    currency,
    defaults_of,
    flag,
    integer,
    one_of,
    read,
    text_up_to,
    time,
)
from orders.models import DELIVERED, UNDER_WAY, Catalogue, Order, OrderStatus, Service, Supplier

LARGEST_BIGINT = 2**63 - 1
LARGEST_INTEGER = 2**31 - 1

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
    Column("supplier", text_up_to(100), optional=True),
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
    Column("status", one_of(OrderStatus.values)),
    Column("created", time),
    Column("completed", time, optional=True),
    Column("supplier_order", text_up_to(64), optional=True, default=""),
)


@dataclass(frozen=True)
class Imported:
    """How many rows of a file were new, changed and unchanged."""

    created: int
    changed: int
    unchanged: int


def import_services(file: BinaryIO, *, dry_run: bool = False) -> Imported:
    """Create the services of a CSV file, or change those whose id is known. Raises BadFile."""
    errors = FileErrors()
    rows: dict[int, Row] = {}
    named: dict[str | None, int] = {}  # the suppliers, each with the first line that names it
    for line, row in read(file, SERVICE_COLUMNS, errors, only_given=True):
        if row["max"] < row["min"]:
            errors.add(line, "max: must not be below min")
        if row["id"] in rows:
            errors.add(line, f"id: {row['id']} is in the file twice")
        rows[row["id"]] = row
        named.setdefault(row.get("supplier"), line)
    suppliers = _suppliers(named, errors)
    errors.refuse_if_any()
    defaults = defaults_of(SERVICE_COLUMNS)
    with transaction.atomic():
        # Every statement that writes services first locks this row, by a trigger, and then its services. With the row
        # locked, no service changes between the comparison and the write, and no deadlock is possible.
        list(Catalogue.objects.select_for_update(no_key=True))
        known = {service["id"]: service for service in Service.objects.values(*defaults)}
        services = {pk: known.get(pk, defaults) | _with_id(row, suppliers) for pk, row in rows.items()}
        changed = sum(service != known[pk] for pk, service in services.items() if pk in known)
        created = len(services.keys() - known.keys())
        Service.objects.bulk_create(
            [Service(supplier_id=service.pop("supplier"), **service) for service in services.values()],
            update_conflicts=True,
            unique_fields=["id"],
            update_fields=[name for name in defaults if name != "id"],
            batch_size=1000,
        )
        transaction.set_rollback(dry_run)
    return Imported(created, changed, len(services) - created - changed)


def _suppliers(named: dict[str | None, int], errors: FileErrors) -> dict[str | None, int | None]:
    """Return the ids of the suppliers by their names, and add an error for each that is unknown."""
    if not any(named):
        return {None: None}
    ids: dict[str | None, int | None] = {None: None, **dict(Supplier.objects.values_list("name", "pk"))}
    for name in named.keys() - ids.keys():
        errors.add(named[name], f"supplier: “{name}” is unknown")
    return ids


def _with_id(row: Row, suppliers: dict[str | None, int | None]) -> Row:
    """Return the row with its supplier's id in place of the name, if the file has that column."""
    return row | {"supplier": suppliers[row["supplier"]]} if "supplier" in row else row


# The columns of an existing order that an import can change, with those of the file. The account and the service of an
# order never change.
_CHANGEABLE = {
    "link": "link",
    "quantity": "quantity",
    "charge": "charge",
    "currency": "currency",
    "start_count": "start_count",
    "remains": "remains",
    "status": "status",
    "created_at": "created",
    "completed_at": "completed",
    "supplier_order": "supplier_order",
}
_MANY = 10_000  # new orders, after which the table is analyzed
_THESE = ", ".join(_CHANGEABLE)
_KNOWN = ", ".join(f"known.{name}" for name in _CHANGEABLE)
_NEW = ", ".join(f"excluded.{name}" for name in _CHANGEABLE)
# What contradicts itself in an order, and how that is told.
_CONTRADICTIONS = {
    "status = ANY(%(delivered)s) AND completed_at IS NULL": (
        "'completed: must be given, because the order is ' || status"
    ),
    "status = ANY(%(under_way)s) AND completed_at IS NOT NULL": (
        "'completed: must be empty, because the order is ' || status"
    ),
    "completed_at < created_at": "'completed: must not be before created'",
}


def import_orders(file: BinaryIO, *, dry_run: bool = False) -> Imported:
    """Create the orders of a CSV file, or change those whose number is known. Raises BadFile.

    The rows stream into a temporary table, so that memory does not grow with the file. One statement writes them from
    there. It locks and writes only orders that change.
    """
    orders, services, accounts = Order._meta.db_table, Service._meta.db_table, Account._meta.db_table
    errors, defaults = FileErrors(), dict.fromkeys(defaults_of(ORDER_COLUMNS))
    given: set[str] = set()  # the columns of the file
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        # A second import waits for this one. Requests for refills lock rows only: they wait if this import changes
        # their orders, and not otherwise.
        cursor.execute(f"LOCK TABLE {orders} IN SHARE ROW EXCLUSIVE MODE")
        cursor.execute("DROP TABLE IF EXISTS pg_temp.incoming")  # left by an earlier import in the same transaction
        cursor.execute(
            """
            CREATE TEMPORARY TABLE incoming (
                line bigint, id uuid, number bigint, account text, service integer, link text, quantity bigint,
                charge numeric, currency text, start_count bigint, remains bigint, status text,
                created_at timestamptz, completed_at timestamptz, supplier_order text
            ) ON COMMIT DROP
            """
        )
        with cursor.copy("COPY incoming FROM STDIN") as copy:
            for line, row in read(file, ORDER_COLUMNS, errors, only_given=True):
                given.update(row)
                cells = (defaults | row).values()
                copy.write_row((line, ULID.from_datetime(row["created"]).to_uuid(), *cells))
        cursor.execute("ANALYZE incoming")
        become = _become(given)
        of_these, to_these = ", ".join(become.values()), ", ".join(f"{sql} AS {name}" for name, sql in become.items())
        contradictions = " ".join(f"WHEN {condition} THEN {text}" for condition, text in _CONTRADICTIONS.items())
        cursor.execute(
            f"""
            SELECT line, 'account: “' || account || '” is unknown'
            FROM incoming LEFT JOIN {accounts} a ON a.username = account WHERE a.id IS NULL
            UNION ALL
            SELECT line, 'service: ' || service || ' is unknown'
            FROM incoming LEFT JOIN {services} s ON s.id = service WHERE s.id IS NULL
            UNION ALL
            SELECT line, 'number: ' || number || ' is in the file twice'
            FROM (SELECT line, number, row_number() OVER (PARTITION BY number ORDER BY line) FROM incoming) AS numbered
            WHERE row_number > 1
            UNION ALL
            SELECT line, 'number: ' || number || ' is an order of another account or service'
            FROM incoming i JOIN {orders} o USING (number) JOIN {accounts} a ON a.id = o.account_id
            WHERE a.username <> i.account OR o.service_id <> i.service
            UNION ALL
            SELECT line, error
            FROM (SELECT i.line, {to_these} FROM incoming i LEFT JOIN {orders} known USING (number)) AS become,
                LATERAL (SELECT CASE {contradictions} END AS error) AS judged
            WHERE error IS NOT NULL
            ORDER BY 1
            """,
            {"delivered": list(DELIVERED), "under_way": list(UNDER_WAY)},
        )
        for line, error in itertools.chain.from_iterable(iter(lambda: cursor.fetchmany(1000), [])):
            errors.add(line, error)
        errors.refuse_if_any()
        cursor.execute(f"SELECT count(*), count(o.id) FROM incoming LEFT JOIN {orders} o USING (number)")
        total, known = cursor.fetchone()
        # Locked in the order of their ids, as requests for refills do: the next statement writes in another order.
        cursor.execute(
            f"""
            SELECT count(*) FROM (
                SELECT 1 FROM {orders} known JOIN incoming i USING (number)
                WHERE ({_KNOWN}) IS DISTINCT FROM ({of_these}) ORDER BY known.id FOR UPDATE OF known
            ) AS locked
            """
        )
        [changed] = cursor.fetchone()
        cursor.execute(
            f"""
            INSERT INTO {orders} AS o (id, number, account_id, service_id, {_THESE})
            SELECT i.id, number, a.id, service, {of_these}
            FROM incoming i JOIN {accounts} a ON a.username = account LEFT JOIN {orders} known USING (number)
            WHERE known.id IS NULL OR ({_KNOWN}) IS DISTINCT FROM ({of_these}) ORDER BY number
            ON CONFLICT (number) DO UPDATE SET ({_THESE}) = ROW ({_NEW})
            """
        )
        if total - known >= _MANY and not dry_run:
            # Connections keep their query plans. A plan made for an empty table would read all of a large one until
            # autovacuum analyzes it, a minute later.
            cursor.execute(f"ANALYZE {orders}")
        transaction.set_rollback(dry_run)
    return Imported(created=total - known, changed=changed, unchanged=known - changed)


def _become(given: Collection[str]) -> dict[str, str]:
    """Return what each changeable column of an order becomes, as SQL: ``i`` is the file's row, ``known`` the order."""
    become = {name: f"{'i' if column in given else 'known'}.{name}" for name, column in _CHANGEABLE.items()}
    # An empty cell says nothing of these: they are never null.
    defaults = defaults_of(ORDER_COLUMNS)
    for name in ("currency", "supplier_order"):
        become[name] = f"coalesce(i.{name}, known.{name}, '{defaults[name]}')"
    return become
