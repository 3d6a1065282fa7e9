"""Fill the empty database that DATABASE_URL names: ``python -m tests.bench.data ORDERS FILE``.

Every order is completed and has one settled refill, so each may be refilled once more. The load requests refills of
LOADED orders that are spread evenly. Writes their ids to FILE, one per line, and the ids of the latest LOADED orders to
FILE.latest. Prints two raw keys of the customer who owns all orders, as JSON: one whose limits are out of reach, and
one that may make one request a minute.
"""

import json
import os
import sys
from decimal import Decimal
from pathlib import Path

import django
from django.core.management import call_command

SERVICES = 5000
LOADED = 10_000


def main(count: int, file: Path) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "notpanel.settings")
    django.setup()
    call_command("migrate", verbosity=0)

    from django.db import connection

    from apikeys.keys import create_api_key
    from apikeys.models import Account
    from orders.models import Order, Service

    customer = Account.objects.create(username="bench", tier=Account.Tier.AGENCY)
    staff = Account.objects.create(username="staff", is_staff=True)
    _, key = create_api_key(customer, limit_per_minute=1_000_000_000)
    _, limited_key = create_api_key(customer, limit_per_minute=1)
    Service.objects.bulk_create(
        Service(
            id=n,
            name=f"Followers {n}, refilled for as long as the account exists",
            category=f"Category {n % 50}",
            rate=Decimal(n) / 1000,
            min=50,
            max=10_000,
            refill=True,
        )
        for n in range(1, SERVICES + 1)
    )
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute(
            "SET session_replication_role = replica"
        )  # skips the checks of foreign keys, which are all valid
        # ULIDs: 48 bits of the time in milliseconds, then 80 random bits.
        ulid = "(lpad(to_hex(1700000000000 + n * 1000), 12, '0') || substr(md5(%s || n), 1, 20))::uuid"
        moment = "to_timestamp(1700000000 + n)"
        cursor.execute(
            f"""
            INSERT INTO orders_order (id, number, account_id, service_id, link, quantity, charge, currency,
                start_count, remains, status, created_at, completed_at)
            SELECT {ulid}, n, %s, 1 + n %% %s, 'https://example.com/p/' || n, 1000, 0.9, 'USD', 1234, 0, 'completed',
                {moment}, {moment}
            FROM generate_series(1, %s) AS n
            """,
            ["order", customer.pk, SERVICES, count],
        )
        cursor.execute(
            f"""
            INSERT INTO refills_refill (id, order_id, account_id, service_id, status, created_at, settled_at,
                settled_by_id, note)
            SELECT {ulid}, {ulid}, %s, 1 + n %% %s, 'completed', {moment}, {moment}, %s, ''
            FROM generate_series(1, %s) AS n
            """,
            ["refill", "order", customer.pk, SERVICES, staff.pk, count],
        )
        cursor.execute("VACUUM ANALYZE")
        cursor.execute("CHECKPOINT")
    step = count // LOADED
    numbers = {
        file: range(1, count + 1, step),
        file.with_suffix(".latest"): range(count - LOADED + 1, count + 1),
    }
    for path, wanted in numbers.items():
        ids = Order.objects.filter(number__in=wanted[:LOADED]).order_by("number").values_list("pk", flat=True)
        path.write_text("".join(f"{pk}\n" for pk in ids))
    sys.stdout.write(json.dumps({"key": key, "limited_key": limited_key}))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
