"""Create and change services and orders from files. If one row is wrong, nothing of the file is imported.

A known service or order keeps what the file has no column for; a new one gets the column's default. An empty cell
clears a column that may be empty (refill_days, refill_limit, start_count, remains, completed, supplier). In a column
that may not be empty (type, active, currency, supplier_order) it counts as missing.
"""

import itertools
from collections.abc import Callable, Sequence
from datetime import UTC, tzinfo
from typing import Any

from django.db import connection, transaction
from ulid import ULID

from apikeys.models import Account
from notpanel.kit.cells import amount, currency, flag, integer, one_of, past_time, text_up_to, time
from notpanel.kit.row_files import Column, FileErrors, Imported, Readable, Row, defaults_of, parse, read
from orders.models import (
    DELIVERED,
    LONGEST_REFILL_PERIOD,
    UNDER_WAY,
    Catalogue,
    Order,
    OrderStatus,
    Service,
    Supplier,
)

LARGEST_BIGINT = 2**63 - 1
LARGEST_INTEGER = 2**31 - 1

SERVICE_COLUMNS = (
    Column("id", integer(1, LARGEST_INTEGER), also=("service", "service_id")),
    Column("name", text_up_to(255), also=("service_name", "title")),
    Column("category", text_up_to(255), also=("category_name",)),
    Column("type", text_up_to(50), optional=True, default="Default", also=("service_type",)),
    Column("rate", amount, also=("price", "price_per_1000", "rate_per_1000")),
    Column("min", integer(0, LARGEST_BIGINT), also=("minimum", "min_quantity", "min_order")),
    Column("max", integer(0, LARGEST_BIGINT), also=("maximum", "max_quantity", "max_order")),
    Column("refill", flag, also=("refillable", "refill_button")),
    Column("cancel", flag, also=("cancelable", "cancel_button")),
    Column("active", flag, optional=True, default=True, also=("enabled", "status")),
    Column("refill_days", integer(1, LONGEST_REFILL_PERIOD), optional=True, also=("refill_period",)),
    Column("refill_limit", integer(1, LARGEST_INTEGER), optional=True, also=("max_refills",)),
    Column("supplier", text_up_to(100), optional=True, also=("provider",)),
)

# The words of other panels. Most have no word of their own for refunded orders.
_STATUSES = {
    "canceled": OrderStatus.CANCELLED,
    "complete": OrderStatus.COMPLETED,
    "inprogress": OrderStatus.IN_PROGRESS,
    "refund": OrderStatus.REFUNDED,
}

ORDER_COLUMNS = (
    Column("number", integer(1, LARGEST_BIGINT), also=("id", "order", "order_id", "order_number")),
    Column("account", text_up_to(150), also=("user", "username", "user_name", "customer", "client")),
    Column("service", integer(1, LARGEST_INTEGER), also=("service_id",)),
    Column("link", text_up_to(2048), also=("url",)),
    Column("quantity", integer(1, LARGEST_BIGINT), also=("qty",)),
    Column("charge", amount, also=("price", "cost")),
    Column("currency", currency, optional=True, default="USD"),
    Column("start_count", integer(0, LARGEST_BIGINT), optional=True, also=("start", "start_counter")),
    # Below zero: more was delivered than ordered.
    Column("remains", integer(0, LARGEST_BIGINT, negative_is_zero=True), optional=True, also=("remain", "remaining")),
    Column("status", one_of(OrderStatus.values, _STATUSES), also=("order_status", "state")),
    Column("created", time, zoned=True, also=("created_at", "created_date", "date", "date_created", "order_date")),
    Column(
        "completed",
        past_time,
        optional=True,
        zoned=True,
        also=("completed_at", "completed_date", "date_completed", "completion_date"),
    ),
    Column("supplier_order", text_up_to(64), optional=True, default="", also=("provider_order",)),
)


def import_services(file: Readable, *, dry_run: bool = False) -> Imported:
    """Create the services of a file, or change those whose id is known. Raises BadFile."""
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
# The contradictions within an order, and the texts of their errors.
_CONTRADICTIONS = {
    "status = ANY(%(delivered)s) AND completed_at IS NULL": (
        "'completed: must be given, because the order is ' || status"
    ),
    "status = ANY(%(under_way)s) AND completed_at IS NOT NULL": (
        "'completed: must be empty, because the order is ' || status"
    ),
    "completed_at < created_at": "'completed: must not be before created'",
}
# The columns that a report of wrong rows adds, so that an import reads one that was put right.
REPORT_COLUMNS = ("line", "error")

# Takes the header of a file and, for a wrong row, its line, its error and its cells.
Report = Callable[[Sequence[str], int, str, list[str]], object]


def _becomes() -> dict[str, str]:
    """Return what each changeable column of an order becomes, as SQL: ``i`` is the file's row, ``known`` the order."""
    optional = {column.name: column for column in ORDER_COLUMNS if column.optional}
    become = {}
    for name, column in _CHANGEABLE.items():
        become[name] = f"i.{name}"
        if column in optional:
            become[name] = f"CASE WHEN '{column}' = ANY(i.absent) THEN known.{name} ELSE i.{name} END"
            if (default := optional[column].default) is not None:  # an empty cell says nothing
                become[name] = f"coalesce(i.{name}, known.{name}, '{default}')"
    return become


_BECOMES = _becomes()
_OF_THESE = ", ".join(_BECOMES.values())
_TO_THESE = ", ".join(f"{sql} AS {name}" for name, sql in _BECOMES.items())
_OPTIONAL = [column.name for column in ORDER_COLUMNS if column.optional]


def import_orders(
    file: Readable, *, dry_run: bool = False, zone: tzinfo = UTC, report_wrong: Report | None = None
) -> Imported:
    """Create the orders of a file, or change those whose number is known. Raises BadFile.

    With ``report_wrong``, wrong rows are left out and given to it in the order of the file; BadFile then means that the
    file could not be read to its end. ``zone`` is that of times that name no offset.

    The rows stream into a temporary table, so that memory does not grow with the file. One statement writes them from
    there. It locks and writes only orders that change.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        errors, header = _load(cursor, file, zone, keep_wrong=report_wrong is not None)
        # A second import waits for this one. Requests for refills lock rows only: they wait if this import changes
        # their orders, and not otherwise.
        cursor.execute(f"LOCK TABLE {Order._meta.db_table} IN SHARE ROW EXCLUSIVE MODE")
        wrong = 0
        if report_wrong:
            errors.refuse_if_any()  # of the file, not of its rows
            wrong = _leave_out_wrong(cursor, lambda *row: report_wrong(header, *row))
        else:
            cursor.execute(f"SELECT line, error FROM ({_WRONG}) AS wrong WHERE error IS NOT NULL ORDER BY 1", _GROUPS)
            for line, error in itertools.chain.from_iterable(iter(lambda: cursor.fetchmany(1000), [])):
                errors.add(line, error)
            errors.refuse_if_any()
        imported = _write(cursor, wrong, analyze=not dry_run)
        transaction.set_rollback(dry_run)
    return imported


def _load(cursor: Any, file: Readable, zone: tzinfo, *, keep_wrong: bool) -> tuple[FileErrors, Sequence[str]]:
    """Load the rows of a file into a temporary table. Returns the errors in it, and its header.

    With ``keep_wrong``, wrong rows are loaded too, as an error and the cells of the file; the errors that are returned
    are then those of the file itself.
    """
    errors, nothing = FileErrors(), dict.fromkeys(defaults_of(ORDER_COLUMNS))
    header: Sequence[str] = []
    cursor.execute("DROP TABLE IF EXISTS pg_temp.incoming, pg_temp.wrong")  # of an earlier import in this transaction
    cursor.execute(
        """
        CREATE TEMPORARY TABLE incoming (
            line bigint, id uuid, number bigint, account text, service integer, link text, quantity bigint,
            charge numeric, currency text, start_count bigint, remains bigint, status text,
            created_at timestamptz, completed_at timestamptz, supplier_order text,
            absent text[], error text, cells text[]
        ) ON COMMIT DROP
        """
    )
    with cursor.copy("COPY incoming FROM STDIN") as copy:
        for line, row, problems, cells, header in parse(  # noqa: B007 (the last is returned)
            file, ORDER_COLUMNS, errors, zone=zone, ignored=REPORT_COLUMNS
        ):
            if not problems:
                pk = ULID.from_datetime(row["created"]).to_uuid()
                absent = [name for name in _OPTIONAL if name not in row] or None
                copy.write_row((line, pk, *(nothing | row).values(), absent, None, cells if keep_wrong else None))
            elif keep_wrong:
                copy.write_row((line, None, *nothing.values(), None, "; ".join(problems), cells))
            else:
                for problem in problems:
                    errors.add(line, problem)
    cursor.execute("ANALYZE incoming")
    return errors, header


# Compares the values of each row with each other and with the database. A row may come without an error, or several
# times.
_WRONG = f"""
    SELECT line, 'account: “' || account || '” is unknown' AS error
    FROM incoming LEFT JOIN {Account._meta.db_table} a ON a.username = account WHERE a.id IS NULL
    UNION ALL
    SELECT line, 'service: ' || service || ' is unknown'
    FROM incoming LEFT JOIN {Service._meta.db_table} s ON s.id = service WHERE s.id IS NULL
    UNION ALL
    SELECT line, 'number: ' || number || ' is in the file twice'
    FROM (SELECT line, number, row_number() OVER (PARTITION BY number ORDER BY line) FROM incoming) AS numbered
    WHERE row_number > 1
    UNION ALL
    SELECT line, 'number: ' || number || ' is an order of another account or service'
    FROM incoming i JOIN {Order._meta.db_table} o USING (number) JOIN {Account._meta.db_table} a ON a.id = o.account_id
    WHERE a.username <> i.account OR o.service_id <> i.service
    UNION ALL
    SELECT line, CASE {" ".join(f"WHEN {condition} THEN {text}" for condition, text in _CONTRADICTIONS.items())} END
    FROM (SELECT i.line, {_TO_THESE} FROM incoming i LEFT JOIN {Order._meta.db_table} known USING (number)) AS become
"""
_GROUPS = {"delivered": list(DELIVERED), "under_way": list(UNDER_WAY)}


def _leave_out_wrong(cursor: Any, report: Callable[[int, str, list[str]], object]) -> int:
    """Report the wrong rows, and take them out of the temporary table. Returns how many there were."""
    cursor.execute(
        f"""
        CREATE TEMPORARY TABLE wrong ON COMMIT DROP AS
        SELECT line, string_agg(error, '; ' ORDER BY error) AS error
        FROM ({_WRONG} UNION ALL SELECT line, error FROM incoming) AS wrong WHERE error IS NOT NULL GROUP BY line
        """,
        _GROUPS,
    )
    count = 0
    with cursor.copy(
        "COPY (SELECT line, w.error, cells FROM wrong w JOIN incoming USING (line) ORDER BY 1) TO STDOUT"
    ) as rows:
        rows.set_types(["int8", "text", "text[]"])
        for row in rows.rows():
            report(*row)
            count += 1
    cursor.execute("DELETE FROM incoming USING wrong WHERE incoming.line = wrong.line")
    return count


def _write(cursor: Any, wrong: int, *, analyze: bool) -> Imported:
    """Write the rows of the temporary table, which are right, to the orders."""
    orders, accounts = Order._meta.db_table, Account._meta.db_table
    cursor.execute(f"SELECT count(*), count(o.id) FROM incoming LEFT JOIN {orders} o USING (number)")
    total, known = cursor.fetchone()
    # Locked in the order of their ids, as requests for refills do: the next statement writes in another order.
    cursor.execute(
        f"""
        SELECT count(*) FROM (
            SELECT 1 FROM {orders} known JOIN incoming i USING (number)
            WHERE ({_KNOWN}) IS DISTINCT FROM ({_OF_THESE}) ORDER BY known.id FOR UPDATE OF known
        ) AS locked
        """
    )
    [changed] = cursor.fetchone()
    cursor.execute(
        f"""
        INSERT INTO {orders} AS o (id, number, account_id, service_id, {_THESE})
        SELECT i.id, number, a.id, service, {_OF_THESE}
        FROM incoming i JOIN {accounts} a ON a.username = account LEFT JOIN {orders} known USING (number)
        WHERE known.id IS NULL OR ({_KNOWN}) IS DISTINCT FROM ({_OF_THESE}) ORDER BY number
        ON CONFLICT (number) DO UPDATE SET ({_THESE}) = ROW ({_NEW})
        """
    )
    if analyze and total - known >= _MANY:
        # Connections keep their query plans. A plan made for an empty table would read all of a large one until
        # autovacuum analyzes it, a minute later.
        cursor.execute(f"ANALYZE {orders}")
    return Imported(created=total - known, changed=changed, unchanged=known - changed, wrong=wrong)
