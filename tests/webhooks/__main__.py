"""Measure webhooks with real workers: ``python -m tests.webhooks [speed|hanging|kills]``, all of them unless told.

It makes a test database on the server that DATABASE_URL names, and drops it. It ends with status 1 if an event was not
delivered or does not verify, or if a limit that the project promises is not kept. It takes about six minutes.
"""

import collections
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "notpanel.settings")

SECRET = "whsec_" + "c2VjcmV0" * 4
MOST_SECONDS = 5.0  # from commit to delivery, p99, while others hang
LEAST_PER_SECOND = 100  # deliveries of one worker


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Receiver:
    """The receiver, in a process of its own."""

    def __init__(self, directory: Path) -> None:
        from tests.server import free_port

        self.port, self._file = free_port(), directory / "got.jsonl"
        arguments = [sys.executable, "-m", "tests.webhooks.receiver", str(self.port), str(self._file)]
        self._process = subprocess.Popen(arguments)
        time.sleep(1)

    def stop(self) -> list[dict[str, Any]]:
        """Stop it, and return what it got. The library must verify every request."""
        from standardwebhooks.webhooks import Webhook

        self._process.terminate()
        self._process.wait(30)
        got = [json.loads(line) for line in self._file.read_text().splitlines()]
        for each in got:
            Webhook(SECRET).verify(each["body"], each["headers"])
        return got


class Worker:
    """``manage.py work`` on the test database."""

    def __init__(self) -> None:
        from tests.server import database_url

        environment = {"DATABASE_URL": database_url(), "WEBHOOK_LOOPBACK": "on", "LOG_LEVEL": "WARNING"}
        self.process = subprocess.Popen([sys.executable, "manage.py", "work"], env=os.environ | environment)

    def stop(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(60)


@contextmanager
def fresh() -> Iterator[Path]:
    """Empty the tables, and yield a directory for files."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "TRUNCATE procrastinate_jobs, procrastinate_workers, apikeys_webhookdelivery, apikeys_webhookendpoint, "
            "refills_refill, orders_order, orders_service, apikeys_account CASCADE"
        )
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def accounts_with_endpoints(count: int, port: int, hanging: int = 0) -> list[Any]:
    """Make accounts with an endpoint each; those of the first ``hanging`` never answer."""
    from apikeys.models import Account, WebhookEndpoint
    from apikeys.webhooks.models import EVENTS
    from notpanel.kit import secrets

    accounts = Account.objects.bulk_create(Account(username=f"customer{number}") for number in range(count))
    secret = secrets.encrypt(SECRET)
    WebhookEndpoint.objects.bulk_create(
        WebhookEndpoint(
            account=account,
            url=f"http://127.0.0.1:{port}/{'hang' if number < hanging else 'ok'}/{account.pk}",
            events=EVENTS,
            encrypted_secret=secret,
        )
        for number, account in enumerate(accounts)
    )
    return accounts


def orders_of(accounts: list[Any], each: int) -> list[Any]:
    """Make orders of the accounts, in random order."""
    from tests import factories

    service = factories.Service()
    orders = [factories.Order.build(account=account, service=service) for account in accounts for _ in range(each)]
    random.shuffle(orders)
    type(orders[0]).objects.bulk_create(orders)
    return orders


def request(order: Any) -> str:
    """Request a refill. Returns its id."""
    from refills.requesting import RequestedRefill, request_refills

    [refill] = request_refills(order.account_id, [order.pk])
    assert isinstance(refill, RequestedRefill)
    return refill.id


def refills_in(got: list[dict[str, Any]]) -> collections.Counter[str]:
    return collections.Counter(json.loads(each["body"])["data"]["refill"] for each in got)


def wait_until_told(count: int, seconds: float) -> None:
    """Wait until this many deliveries have ended."""
    from apikeys.models import WebhookDelivery

    deadline = time.monotonic() + seconds
    while WebhookDelivery.objects.filter(state="delivered").count() < count and time.monotonic() < deadline:
        time.sleep(0.5)


def speed() -> bool:
    """Let one worker deliver 10,000 events that wait for it."""
    with fresh() as directory:
        receiver = Receiver(directory)
        orders = orders_of(accounts_with_endpoints(200, receiver.port), 50)
        expected = {request(order) for order in orders}
        begun = time.time()
        worker = Worker()
        wait_until_told(len(expected), 300)
        worker.stop()
        got = receiver.stop()
    times = sorted(each["at"] for each in got)
    rate = len(got) / (times[-1] - times[0])
    found = refills_in(got)
    say(
        f"speed: {len(expected):,} events, {len(got):,} deliveries in {times[-1] - times[0]:.1f} s, "
        f"{rate:.0f} a second; the first {times[0] - begun:.1f} s after the worker was started; "
        f"{len(got) - len(found)} twice"
    )
    return set(found) == expected and rate >= LEAST_PER_SECOND


def hanging() -> bool:
    """Request refills at 20 a second for a minute, for 1,000 accounts whose endpoints answer, but for 50 that hang."""
    with fresh() as directory:
        receiver = Receiver(directory)
        accounts = accounts_with_endpoints(1000, receiver.port, hanging=50)
        slow = {account.pk for account in accounts[:50]}
        # Those that hang have ten events each.
        orders = orders_of(accounts[:50], 10) + orders_of(accounts, 1)
        random.shuffle(orders)
        worker = Worker()
        time.sleep(5)
        committed: dict[str, float] = {}
        begun = time.monotonic()
        for number, order in enumerate(orders):
            time.sleep(max(0.0, begun + number / 20 - time.monotonic()))
            refill = request(order)
            if order.account_id not in slow:
                committed[refill] = time.time()
        wait_until_told(len(committed), 60)
        worker.stop()
        got = receiver.stop()
    arrived: dict[str, float] = {}
    for each in got:
        arrived.setdefault(json.loads(each["body"])["data"]["refill"], each["at"])
    took = sorted(arrived[refill] - at for refill, at in committed.items() if refill in arrived)
    p50, p99 = statistics.median(took), took[int(len(took) * 0.99)]
    say(
        f"hanging: {len(orders):,} events in {len(orders) / 20:.0f} s, {len(committed):,} of them to the 950 endpoints "
        f"that answer; from commit to arrival p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, "
        f"at most {took[-1] * 1000:.0f} ms"
    )
    return len(took) == len(committed) and p99 < MOST_SECONDS


def kills() -> bool:
    """Request 3,000 refills, 100 a second, while two workers are killed again and again (SIGKILL)."""
    with fresh() as directory:
        receiver = Receiver(directory)
        orders = orders_of(accounts_with_endpoints(100, receiver.port), 30)
        expected = set()
        workers = [Worker(), Worker()]
        killed, next_kill, begun = 0, time.monotonic() + 5, time.monotonic()
        for number, order in enumerate(orders):
            time.sleep(max(0.0, begun + number / 100 - time.monotonic()))
            expected.add(request(order))
            if time.monotonic() >= next_kill:
                victim = random.randrange(2)
                workers[victim].stop(signal.SIGKILL)
                workers[victim] = Worker()
                killed += 1
                next_kill = time.monotonic() + random.uniform(1.0, 4.0)
        for victim in range(2):
            workers[victim].stop(signal.SIGKILL)
            workers[victim] = Worker()
        wait_until_told(len(expected), 200)
        for worker in workers:
            worker.stop()
        got = receiver.stop()
    found = refills_in(got)
    say(
        f"kills: {len(expected):,} events, {killed + 2} workers killed; {len(expected - set(found))} events lost, "
        f"{sum(count > 1 for count in found.values())} delivered more than once"
    )
    return set(found) == expected


MEASURES = {"speed": speed, "hanging": hanging, "kills": kills}


def main() -> int:
    import django
    from django.db import connection

    from notpanel.server import embedded

    embedded.provide()
    django.setup()
    name = connection.creation.create_test_db(verbosity=0, autoclobber=True)
    try:
        results = [measure() for measure in (MEASURES[each] for each in sys.argv[1:] or MEASURES)]
    finally:
        connection.creation.destroy_test_db(name, verbosity=0)
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
