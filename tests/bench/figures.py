"""Measure what counting the start page's figures costs each write: ``python -m tests.bench.figures``.

Fills the empty database that DATABASE_URL names with a few orders, then requests and settles their refills from eight
threads, in turns with and without the triggers that count. Prints medians.
"""

import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import django
from django.core.management import call_command

THREADS, BATCH, SINGLES = 8, 100, 25
ROUNDS = int(os.environ.get("ROUNDS", "16"))
EVENTS = ("insert", "update")


def main() -> None:
    from django.db import connection
    from django.utils import timezone

    from refills import figures
    from refills.models import Refill
    from refills.requesting import request_refills
    from refills.settlement import StatusChange, change_status
    from refills.statuses import RefillStatus
    from tests import factories

    call_command("migrate", verbosity=0)
    staff: Any = factories.Account(username="agent", is_staff=True)
    services = factories.Service.create_batch(50)
    new_order: Any = factories.Order
    accounts: list[Any] = factories.Account.create_batch(THREADS)
    orders: dict[int, list[Any]] = {
        account.pk: [new_order(account=account, service=services[n % 50]).pk for n in range(BATCH)]
        for account in accounts
    }

    def execute(*statements: str) -> None:
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def one_by_one(account: int) -> None:
        for order in orders[account][:SINGLES]:
            request_refills(account, [order])

    def batch(account: int) -> None:
        request_refills(account, orders[account])

    def settle(account: int) -> None:
        refills = Refill.objects.in_flight().filter(account=account).values_list("pk", flat=True)
        change_status(list(refills), StatusChange(RefillStatus.COMPLETED), staff)

    def start_over() -> None:
        execute("SET session_replication_role = replica")
        execute("DELETE FROM refills_transition", "DELETE FROM refills_refill")
        execute("SET session_replication_role = origin", "VACUUM refills_refill, refills_transition")
        figures.fold(timezone.now())

    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    with ThreadPoolExecutor(THREADS) as threads:

        def by_all(call: Callable[[int], None]) -> None:
            began = time.perf_counter()
            list(threads.map(call, orders))
            if turn >= 2:  # after a first round, which connects and plans
                found[call.__name__, state].append((time.perf_counter() - began) * 1000)

        for turn in range(2 * ROUNDS + 2):
            state = "ENABLE" if turn % 2 else "DISABLE"
            for event in EVENTS:
                execute(f"ALTER TABLE refills_refill {state} TRIGGER refills_count_refills_on_{event}")
            by_all(one_by_one)
            start_over()
            by_all(batch)
            by_all(settle)
            start_over()
    names = {
        "one_by_one": f"{THREADS * SINGLES} refills, requested one by one",
        "batch": f"{THREADS * BATCH} refills, requested in {THREADS} batches",
        "settle": f"{THREADS * BATCH} refills, settled in {THREADS} batches",
    }
    sys.stdout.write(f"| by {THREADS} threads | with | without |\n| --- | ---: | ---: |\n")
    for name, words in names.items():
        on, off = (statistics.median(found[name, state]) for state in ("ENABLE", "DISABLE"))
        sys.stdout.write(f"| {words} | {on:.0f} ms | {off:.0f} ms |\n")


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "notpanel.settings")
    django.setup()
    main()
