"""Measure the staff's lists at a million refills: ``python -m tests.bench.desk [load | cpu]``.

``load`` first fills the empty database that DATABASE_URL names: 1,200,000 orders of 100,001 customers and 5,000
services, a third of them of one customer; a million have a refill, of which 60,000 are in flight. Prints a table of
each list with the indexes that it used, as docs/measurements/desk-lists.md has it. ``cpu`` measures the time on a
processor, in Django and the database, for a machine that does other work meanwhile.
"""

import os
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import django
from django.core.management import call_command

ORDERS, REFILLS, IN_FLIGHT = 1_200_000, 1_000_000, 60_000
CUSTOMERS, SERVICES, AGENTS = 100_000, 5_000, 10
ROUNDS = int(os.environ.get("ROUNDS", "15"))

ACCOUNTS = """
    INSERT INTO apikeys_account (password, is_superuser, username, first_name, last_name, email, is_staff, is_active,
        date_joined, tier)
    SELECT '', n < 10, CASE WHEN n < 10 THEN 'agent' WHEN n = 10 THEN 'Giant' ELSE 'Shop' || md5('name' || n) END || n,
        '', '', CASE WHEN n % 2 = 0 THEN 'owner' || n || '@' || md5('host' || n % 1000) || '.example' ELSE '' END,
        n < 10, TRUE, now(), CASE WHEN n % 50 = 0 THEN 'agency' WHEN n % 5 = 0 THEN 'reseller' ELSE 'standard' END
    FROM generate_series(0, %(customers)s + 10) AS n
"""
SERVICE_ROWS = """
    INSERT INTO orders_service (id, name, category, type, rate, min, max, refill, cancel, active)
    SELECT n, 'Followers ' || n || ', refilled for as long as the account exists', 'Category ' || n % 50, 'Default',
        0.9, 50, 10000, TRUE, FALSE, TRUE
    FROM generate_series(1, %(services)s) AS n
"""
# ULIDs: 48 bits of the time in milliseconds, then 80 random bits. The latest refill was requested a minute ago.
BEGAN = "(extract(epoch FROM now())::bigint - 20 * %(orders)s)"
ULID = f"(lpad(to_hex(({BEGAN} + n * 20) * 1000), 12, '0') || substr(md5('{{}}' || n), 1, 20))::uuid"
AT = f"to_timestamp({BEGAN} + n * 20)"
ACCOUNT = "(SELECT min(id) FROM apikeys_account) + CASE WHEN n % 3 = 0 THEN 10 ELSE 11 + n * 7919 % %(customers)s END"
SERVICE = "1 + (n * 104729 % %(services)s)"
ORDER_ROWS = f"""
    INSERT INTO orders_order (id, number, account_id, service_id, link, quantity, charge, currency, start_count,
        remains, status, created_at, completed_at)
    SELECT {ULID.format("order")}, n, {ACCOUNT}, {SERVICE},
        'https://www.instagram.com/p/' || md5('link' || n / 3) || '/?igsh=' || n, 1000, 0.9, 'USD', 1234, 0,
        'completed', {AT}, {AT}
    FROM generate_series(1::bigint, %(orders)s) AS n
"""
REFILL_ROWS = f"""
    INSERT INTO refills_refill (id, order_id, account_id, service_id, status, created_at, approved_at, approved_by_id,
        settled_at, settled_by_id, claimed_at, claimed_by_id, snoozed_until, snoozed_by_id, note)
    SELECT id, order_id, account_id, service_id, status, at,
        CASE WHEN status = 'approved' THEN at END, CASE WHEN status = 'approved' THEN agent END,
        CASE WHEN status IN ('completed', 'rejected') THEN least(at + n % 100000 * interval '1 s', now()) END,
        CASE WHEN status IN ('completed', 'rejected') THEN agent END,
        CASE WHEN claimed THEN now() + interval '1 day' END, CASE WHEN claimed THEN agent END,
        CASE WHEN snoozed THEN now() + n % 1000 * interval '1 h' END, CASE WHEN snoozed THEN agent END, ''
    FROM (
        SELECT n, {ULID.format("refill")} AS id, {ULID.format("order")} AS order_id, {ACCOUNT} AS account_id,
            {SERVICE} AS service_id, {AT} AS at, (SELECT min(id) FROM apikeys_account) + n / 7 % %(agents)s AS agent,
            CASE WHEN n <= %(refills)s - %(in_flight)s THEN CASE n % 10 WHEN 0 THEN 'rejected' ELSE 'completed' END
                WHEN n % 4 = 0 THEN 'approved' ELSE 'pending' END AS status,
            n > %(refills)s - %(in_flight)s AND n % 30 = 7 AS claimed,
            n > %(refills)s - %(in_flight)s AND n % 20 = 1 AS snoozed
        FROM generate_series(1::bigint, %(refills)s) AS n
    ) AS made
"""


def load() -> None:
    from django.db import connection, transaction

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
        with transaction.atomic():  # because now() stays the same within a transaction
            cursor.execute("SET LOCAL statement_timeout = 0")
            cursor.execute("SET LOCAL session_replication_role = replica")  # no checks of foreign keys: all are valid
            for statement in (ACCOUNTS, SERVICE_ROWS, ORDER_ROWS, REFILL_ROWS):
                # The percent signs of the arithmetic are not those of parameters.
                cursor.execute(re.sub(r"%\((\w+)\)s", lambda name: str(figures[name[1]]), statement))
        cursor.execute("SET statement_timeout = 0")
        cursor.execute("VACUUM ANALYZE")


def lists() -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the name and the parameters of each list that is measured."""
    from django.utils import timezone

    from apikeys.models import Account
    from orders.models import Order
    from refills.models import Refill

    first = Account.objects.order_by("id").values_list("id", flat=True).first() or 0
    customer = Account.objects.get(pk=first + 5000)
    order = Order.objects.select_related("account").get(number=REFILLS // 2)
    bare = Order.objects.get(number=REFILLS + 12)
    flying = Refill.objects.in_flight().order_by("id")[IN_FLIGHT // 2]
    today = f"{timezone.now():%Y-%m-%d}"
    month = f"{timezone.now():%Y-%m}"
    yield "Waiting", {}
    yield "Late", {"age": "late"}
    yield "Mine", {"status": "mine"}
    yield "With supplier", {"status": "approved"}
    yield "Snoozed", {"status": "snoozed"}
    yield "Settled today", {"status": "today"}
    yield "in flight", {"status": "in_flight"}
    yield "settled", {"status": "settled"}
    yield "completed", {"status": "completed"}
    yield "rejected", {"status": "rejected"}
    yield "completed, last page", {"status": "completed", "p": "67"}
    for sort in ("age", "-age", "customer", "-customer", "service", "-service"):
        yield f"Waiting, sorted by {sort}", {"o": sort}
    yield "Late, sorted by customer", {"age": "late", "o": "customer"}
    yield "With supplier, sorted by service", {"status": "approved", "o": "service"}
    for sort in ("settlement", "age", "-age"):
        yield f"completed, sorted by {sort}", {"status": "completed", "o": sort}
        yield f"settled, sorted by {sort}", {"status": "settled", "o": sort}
    yield "settled on a day", {"settled_from": today, "settled_to": today}
    yield "settled since the month began", {"settled_from": f"{month}-01"}
    yield "rejected long ago", {"status": "rejected", "settled_to": "2020-01-01"}
    yield "due soon", {"age": "soon"}
    yield "requested in the last day", {"age": "1"}
    yield "completed, requested in the last day", {"status": "completed", "age": "1"}
    for status in ("", "in_flight", "completed", "rejected", "settled"):
        shown = {"status": status} if status else {}
        name = status or "Waiting"
        yield f"{name}, of a service", shown | {"service__id__exact": "77"}
        yield f"{name}, of a category", shown | {"category": "Category 7"}
        yield f"{name}, of a customer", shown | {"account": customer.username}
        yield f"{name}, of the largest customer", shown | {"account": "Giant10"}
        yield f"{name}, of a tier", shown | {"tier": "agency"}
    yield (
        "rejected, of the largest customer and a service",
        {
            "status": "rejected",
            "account": "Giant10",
            "service__id__exact": "78",
        },
    )
    yield "settled by an agent", {"settled_by": str(first + 3)}
    yield "rejected by an agent", {"settled_by": str(first + 4), "status": "rejected"}  # the one before has none
    yield "search: a refill's id", {"q": flying.pk}
    yield "search: a number", {"q": f"#{order.number}"}
    yield "search: a hundred numbers", {"q": "\n".join(str(REFILLS // 2 + n) for n in range(100))}
    yield "search: an order without refills", {"q": bare.pk}
    yield "search: a link", {"q": order.link}
    yield "search: a link without scheme and query", {"q": order.link.split("www.")[1].split("/?")[0].upper()}
    yield "search: a link that nobody has", {"q": "https://example.com/nobody"}
    yield "search: a user name", {"q": customer.username}
    yield "search: part of a user name", {"q": customer.username[8:16].upper()}
    yield "search: two letters", {"q": "ab"}
    yield "search: part of the largest customer's name", {"q": "GIANT"}
    yield "search: an e-mail address", {"q": Account.objects.get(pk=first + 5001).email or "owner5002@"}
    yield "search: the host of e-mail addresses", {"q": ".example"}
    yield "search: nothing is found", {"q": "xyzzy-plugh"}
    yield "search: rejected of the largest customer", {"q": "giant", "status": "rejected"}


def measure() -> None:
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext
    from django.urls import reverse

    from apikeys.models import Account

    client, url = Client(SERVER_NAME="localhost"), reverse("admin:refills_refill_changelist")
    client.force_login(Account.objects.filter(is_staff=True).order_by("id")[3])
    clock = cpu_clock() if "cpu" in sys.argv else lambda: time.perf_counter() * 1000
    times: list[float] = []
    worst: list[tuple[float, str]] = []
    _say("| list | p50 ms | p95 ms | indexes |\n| --- | --- | --- | --- |")
    for name, parameters in lists():
        with CaptureQueriesContext(connection) as queries:
            response = client.get(url, parameters, secure=True)
        captured = [query["sql"] for query in queries]  # before the next request clears them
        assert response.status_code == 200, (name, response.status_code)
        took = []
        for _ in range(ROUNDS):
            began = clock()
            client.get(url, parameters, secure=True)
            took.append(clock() - began)
        times += took
        p95 = statistics.quantiles(took, n=20)[-1]
        worst.append((p95, name))
        _say(f"| {name} | {statistics.median(took):.0f} | {p95:.0f} | {_indexes(captured)} |")
    found = statistics.quantiles(times, n=100)
    _say(f"\nAll: p50 {found[49]:.0f} ms, p95 {found[94]:.0f} ms, p99 {found[98]:.0f} ms")
    for p95, name in sorted(worst)[:-6:-1]:
        _say(f"  {name} ({p95:.0f} ms)")


def cpu_clock() -> Callable[[], float]:
    """Return a clock of the processor time of this process and of its connection's backend, in milliseconds.

    On a machine that does other work as well, that is the time of a request without this work.
    """
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SET max_parallel_workers_per_gather = 0")  # their time would not be counted
        cursor.execute("SELECT pg_backend_pid()")
        [pid] = cursor.fetchone()
    ran = Path(f"/proc/{pid}/schedstat")
    return lambda: time.process_time() * 1000 + int(ran.read_text().split()[0]) / 1_000_000


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _indexes(statements: list[str]) -> str:
    """Return the indexes of the statements that read refills, orders or accounts, and tables that were read whole."""
    from django.db import connection

    used: dict[str, None] = {}
    for sql in statements:
        if not re.match(r"SELECT .*(refills_refill|link_key|name_parts)", sql, re.DOTALL):
            continue
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {sql}")
            plan = "\n".join(row[0] for row in cursor.fetchall())
        if "-v" in sys.argv:
            sys.stderr.write(f"{sql}\n{plan}\n\n")
        for scan in re.findall(r"Seq Scan on (refills_refill|orders_order|apikeys_account)\b", plan):
            used[f"**all of {scan}**"] = None
        for index in re.findall(r"Index(?: Only)? Scan(?: Backward)? (?:using|on) (\w+)", plan):
            used[index] = None
    return ", ".join(f"`{name}`" if "*" not in name else name for name in used)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "notpanel.settings")
    django.setup()
    if "load" in sys.argv:
        load()
    else:
        measure()
