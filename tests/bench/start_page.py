"""Measure the desk's start page: ``python -m tests.bench.start_page [load] [cpu]``.

``load`` first fills the empty database that DATABASE_URL names: 5,000,000 orders of 58 days, of 100,001 customers and
5,000 services, a third of them of one customer; a fifth have a refill, all requested within the last 30 days, of which
60,000 are in flight. It leaves out the indexes of links and names, which take long to build and are not read here.
Prints the time of the page, and of its longest statements. ``cpu`` measures the time on a processor, in Django and the
database, for a machine that does other work meanwhile.
"""

import os
import re
import statistics
import sys
import time

import django
from django.core.management import call_command

from tests.bench.desk import ACCOUNT, ACCOUNTS, SERVICE, SERVICE_ROWS, cpu_clock

ORDERS, REFILLS, IN_FLIGHT = 5_000_000, 1_000_000, 60_000
CUSTOMERS, SERVICES, AGENTS = 100_000, 5_000, 10
ROUNDS = int(os.environ.get("ROUNDS", "100"))

# ULIDs: 48 bits of the time in milliseconds, then 80 random bits.
BEGAN = "(extract(epoch FROM now())::bigint - %(orders)s)"
ULID = f"(lpad(to_hex(({BEGAN} + n) * 1000), 12, '0') || substr(md5('{{}}' || n), 1, 20))::uuid"
AT = f"to_timestamp({BEGAN} + n)"
ORDER_ROWS = f"""
    INSERT INTO orders_order (id, number, account_id, service_id, link, quantity, charge, currency, start_count,
        remains, status, created_at, completed_at)
    SELECT {ULID.format("order")}, n, {ACCOUNT}, {SERVICE}, 'https://www.instagram.com/p/' || n, 1000, 0.9, 'USD',
        1234, 0, 'completed', {AT}, {AT}
    FROM generate_series(1::bigint, %(orders)s) AS n
"""
REFILL_ROWS = f"""
    INSERT INTO refills_refill (id, order_id, account_id, service_id, status, created_at, approved_at, approved_by_id,
        settled_at, settled_by_id, note)
    SELECT id, order_id, account_id, service_id, status, at,
        CASE WHEN status = 'approved' THEN at END, CASE WHEN status = 'approved' THEN agent END,
        CASE WHEN status IN ('completed', 'rejected') THEN least(at + nth %% 100000 * interval '1 s', now()) END,
        CASE WHEN status IN ('completed', 'rejected') THEN agent END, ''
    FROM (
        SELECT nth, {ULID.format("refill")} AS id, {ULID.format("order")} AS order_id, {ACCOUNT} AS account_id,
            {SERVICE} AS service_id, now() - interval '30 days' * (1 - nth / %(refills)s.0) AS at,
            (SELECT min(id) FROM apikeys_account) + nth / 7 %% %(agents)s AS agent,
            CASE WHEN nth <= %(refills)s - %(in_flight)s THEN CASE nth %% 10 WHEN 0 THEN 'rejected' ELSE 'completed' END
                WHEN nth %% 4 = 0 THEN 'approved' ELSE 'pending' END AS status
        FROM (SELECT nth, nth * 5 AS n FROM generate_series(1::bigint, %(refills)s) AS nth) AS fifth
    ) AS made
"""

# The indexes that belong to no constraint. They are built after the rows.
INDEXES = """
    SELECT indexname, indexdef
    FROM pg_indexes
    WHERE schemaname = current_schema() AND tablename IN ('orders_order', 'refills_refill', 'apikeys_account')
        AND indexname NOT IN (SELECT conname FROM pg_constraint)
"""


def load() -> None:
    from django.db import connection, transaction
    from django.utils import timezone

    from refills.figures import rebuild

    call_command("migrate", verbosity=0)
    figures = {
        "orders": ORDERS,
        "refills": REFILLS,
        "in_flight": IN_FLIGHT,
        "customers": CUSTOMERS,
        "services": SERVICES,
        "agents": AGENTS,
    }
    with connection.cursor() as cursor:
        cursor.execute(INDEXES)
        indexes = cursor.fetchall()
        cursor.execute(f"DROP INDEX {', '.join(name for name, _ in indexes)}")
        with transaction.atomic():  # because now() stays the same within a transaction
            cursor.execute("SET LOCAL statement_timeout = 0")
            cursor.execute("SET LOCAL session_replication_role = replica")  # no checks of foreign keys, no triggers
            for statement in (ACCOUNTS, SERVICE_ROWS, ORDER_ROWS, REFILL_ROWS):
                sql = re.sub(r"%\((\w+)\)s", lambda name: str(figures[name[1]]), statement)
                cursor.execute(sql.replace("%%", "%"))
        cursor.execute("SET statement_timeout = 0")
        for name, definition in indexes:
            if "link" not in name and "name_parts" not in name:
                cursor.execute(definition)
        rebuild(timezone.now())
        cursor.execute("VACUUM ANALYZE")


def measure() -> None:
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext
    from django.urls import reverse

    from apikeys.models import Account

    client, url = Client(SERVER_NAME="localhost"), reverse("admin:index")
    client.force_login(Account.objects.filter(is_superuser=True).order_by("id")[3])
    with CaptureQueriesContext(connection) as queries:
        response = client.get(url, secure=True)
    assert response.status_code == 200, response.status_code
    slowest = sorted(queries, key=lambda query: -float(query["time"]))[:12]  # before other requests empty the list
    clock = cpu_clock() if "cpu" in sys.argv else lambda: time.perf_counter() * 1000
    took = []
    for _ in range(ROUNDS):
        began = clock()
        client.get(url, secure=True)
        took.append(clock() - began)
    sys.stdout.write(
        f"The page, {ROUNDS} times: p50 {statistics.median(took):.0f} ms, "
        f"p95 {statistics.quantiles(took, n=20)[-1]:.0f} ms, longest {max(took):.0f} ms\n"
    )
    for query in slowest:
        text = " ".join(query["sql"].split())
        sys.stdout.write(f"{float(query['time']) * 1000:6.0f} ms  {text[:100]}\n")


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "notpanel.settings")
    django.setup()
    if "load" in sys.argv:
        load()
    measure()
