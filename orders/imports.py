"""Create and change services and orders from CSV files: a whole file, or none of it if a row is wrong."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from django.db import connection, transaction
from ulid import ULID

from apikeys.models import Account
from orders.csv_files import Column, FileErrors, amount, currency, flag, integer, one_of, read, text_up_to, time
from orders.models import DELIVERED, UNDER_WAY, Catalogue, Order, OrderStatus, Service

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
    services: dict[int, Service] = {}
    for line, row in read(file, SERVICE_COLUMNS, errors):
        if row["max"] < row["min"]:
            errors.add(line, "max: must not be below min")
        if row["id"] in services:
            errors.add(line, f"id: {row['id']} is in the file twice")
        services[row["id"]] = Service(**row)
    errors.refuse_if_any()
    names = [column.name for column in SERVICE_COLUMNS]
    with transaction.atomic():
        # Whatever writes services locks this row first, by a trigger, and its services next. With the row locked, no
        # service changes between the comparison and the write, and no deadlock is possible.
        list(Catalogue.objects.select_for_update(no_key=True))
        known = Service.objects.in_bulk()
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


# The columns that an import changes of an order that exists. The account and the service of an order never change.
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
_MANY = 10_000  # new orders, after which the table is analyzed
_THESE = ", ".join(_CHANGEABLE)
_OLD = ", ".join(f"o.{name}" for name in _CHANGEABLE)
_KNOWN = ", ".join(f"known.{name}" for name in _CHANGEABLE)
_NEW = ", ".join(f"excluded.{name}" for name in _CHANGEABLE)
_INCOMING = ", ".join(f"i.{name}" for name in _CHANGEABLE)


def import_orders(file: BinaryIO, *, dry_run: bool = False) -> Imported:
    """Create the orders of a CSV file, or change those whose number is known. Raises BadFile.

    The rows stream into a temporary table, so that memory does not grow with the file. One statement writes them from
    there. It locks and writes only orders that change.
    """
    orders, services, accounts = Order._meta.db_table, Service._meta.db_table, Account._meta.db_table
    errors = FileErrors()
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
                created_at timestamptz, completed_at timestamptz
            ) ON COMMIT DROP
            """
        )
        with cursor.copy("COPY incoming FROM STDIN") as copy:
            for line, row in read(file, ORDER_COLUMNS, errors):
                if error := _contradiction(row):
                    errors.add(line, error)
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
            SELECT line, 'number: ' || number || ' is in the file twice'
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
            errors.add(line, error)
        errors.refuse_if_any()
        cursor.execute(f"SELECT count(*), count(o.id) FROM incoming LEFT JOIN {orders} o USING (number)")
        total, known = cursor.fetchone()
        # Locked in the order of their ids, as requests for refills do: the next statement writes in another order.
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
            """
        )
        if total - known >= _MANY and not dry_run:
            # Connections keep their query plans. A plan made for an empty table would read all of a large one until
            # autovacuum analyzes it, a minute later.
            cursor.execute(f"ANALYZE {orders}")
        transaction.set_rollback(dry_run)
    return Imported(created=total - known, changed=changed, unchanged=known - changed)


def _contradiction(row: Mapping[str, Any]) -> str | None:
    """Return what contradicts itself in the row of an order, None if nothing does."""
    if row["status"] in DELIVERED and row["completed"] is None:
        return f"completed: must be given, because the order is {row['status']}"
    if row["status"] in UNDER_WAY and row["completed"] is not None:
        return f"completed: must be empty, because the order is {row['status']}"
    if row["completed"] is not None and row["completed"] < row["created"]:
        return "completed: must not be before created"
    return None
