"""Measure how long refills wait for healthy suppliers while others do not answer or answer slowly.

``python -m tests.suppliers.neighbours [ILL]`` (10 unless told) starts a worker and 50 suppliers. ILL of them are ill:
half of those never answer, the others take ten seconds. A refill is requested of each supplier every five seconds,
fourteen times. It makes a test database on the server that DATABASE_URL names, and drops it.
"""

import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "notpanel.settings")

SUPPLIERS = 50
ROUNDS, PAUSE = 14, 5.0  # seconds
FOUND_OUT = 6  # rounds in which the worker finds out which suppliers are ill
ANSWER, SLOW_ANSWER = 0.1, 10.0  # seconds
LAST = 5.0  # seconds that the last refills have to be sent


def measure(ill: int) -> tuple[list[float], list[float]]:
    """Return the seconds for which refills of suppliers that are well waited: in the first rounds, then in the rest."""
    from django.utils import timezone

    from refills.models import Dispatch, DispatchStep
    from tests import factories
    from tests.conftest import new_customer
    from tests.server import BASE_DIR, database_url
    from tests.supplier import stub

    def answering(seconds: float) -> Callable[[dict[str, str]], bytes]:
        def answer(asked: dict[str, str]) -> bytes:
            time.sleep(seconds)
            return b'{"refill": "%d"}' % time.time_ns()

        return answer

    with ExitStack() as stack:
        well = stack.enter_context(stub(answering(ANSWER)))
        slow = stack.enter_context(stub(answering(SLOW_ANSWER)))
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1000))
        mute = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        urls = [mute if n % 2 else slow.url for n in range(ill)] + [well.url] * (SUPPLIERS - ill)
        suppliers: list[Any] = [factories.Supplier(url=url, poll_seconds=3600) for url in urls]
        services = [factories.Service(supplier=supplier) for supplier in suppliers]
        customer = new_customer()
        worker = subprocess.Popen(
            [sys.executable, "manage.py", "work", "--with-parent"],
            cwd=BASE_DIR,
            env=os.environ | {"DATABASE_URL": database_url()},
            stderr=subprocess.DEVNULL,
        )
        stack.callback(worker.wait)
        stack.callback(worker.kill)
        began = time.monotonic()
        first_ends = timezone.now() + timedelta(seconds=FOUND_OUT * PAUSE)
        for turn in range(1, ROUNDS + 1):
            orders: list[Any] = [
                factories.Order(account=customer.account, service=service, supplier_order="815") for service in services
            ]
            answers = customer.post("refill", orders=",".join(order.pk for order in orders)).json()
            assert all("refill" in answer for answer in answers)
            time.sleep(max(began + turn * PAUSE - time.monotonic(), 0))
        time.sleep(LAST)
        healthy = [supplier.pk for supplier in suppliers[ill:]]
        steps = DispatchStep.objects.filter(dispatch__supplier__in=healthy, attempt=1, kind=DispatchStep.Kind.SEND)
        sent = dict(steps.values_list("dispatch", "at"))
        waited: tuple[list[float], list[float]] = [], []
        for dispatch in Dispatch.objects.filter(supplier__in=healthy):
            at = sent.get(dispatch.pk)
            seconds = (at - dispatch.asked_at).total_seconds() if at else float("inf")
            waited[dispatch.asked_at > first_ends].append(seconds)
        return waited


def main(ill: int) -> None:
    import tests.environment  # noqa: F401  # as pytest does, before the settings are read

    os.environ |= {name: "1000000000" for name in os.environ if name.startswith("RATE_LIMIT_")}
    import logging

    import django

    django.setup()
    logging.getLogger("notpanel.request_log").setLevel(logging.WARNING)
    from django.db import connection
    from django.test.utils import setup_test_environment

    setup_test_environment()
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    try:
        waited = measure(ill)
    finally:
        connection.creation.destroy_test_db(connection.settings_dict["NAME"], verbosity=0)
    sys.stdout.write(f"{SUPPLIERS - ill} suppliers well, {ill} ill: seconds until refills were answered\n")
    for title, found in zip(("at first", "then"), map(sorted, waited), strict=True):
        p99 = found[len(found) * 99 // 100]
        sys.stdout.write(
            f"  {title}: {len(found)} refills, median {statistics.median(found):.2f}, p99 {p99:.2f}, "
            f"longest {found[-1]:.2f}\n"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
