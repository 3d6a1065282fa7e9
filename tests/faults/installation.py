"""A separate installation in a directory: all its processes, under a supervisor, and what its books begin with."""

import contextlib
import logging
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.server import free_port
from tests.suppliers.parts import Part, Postgres

CLIENTS = 8
MAX_CONNECTIONS = 60
LIMIT = 20  # requests a minute of the key that has a limit
SENT_TO_SUPPLIER = 7  # every so many orders is of a service whose refills are sent to the supplier
WITH_WEBHOOKS = 3  # so many of the accounts have an endpoint
DISK = "500m"  # the size of PostgreSQL's disk, where it may be filled
RESTARTED_AFTER = 0.1  # seconds after which a process that ended is started again, as systemd does


class Installation:
    """PostgreSQL, Redis, a server of two processes, a worker, a supplier, and a process that settles refills.

    With ``own_disk`` PostgreSQL gets a small disk, if this process may mount one: ``disk`` says where. The worker waits
    seconds where it would wait minutes.
    """

    def __init__(self, directory: Path, *, own_disk: bool) -> None:
        self.directory = directory
        self.disk = _mount(directory / "disk") if own_disk else None
        self.clock: Path | None = None  # the file that sets the clock, once the processes have one of their own
        self.limited_key = ""  # the key of a customer who may make LIMIT requests a minute
        self.wrong: list[str] = []  # what a fault itself found
        self.port = free_port()
        self.parts: list[Part] = []
        self._ended = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise)
        self.postgres = self._postgres((self.disk or directory) / "postgres")
        redis_port, supplier_port = free_port(), free_port()
        self.redis_url = f"redis://127.0.0.1:{redis_port}/0"
        self.supplier_url = f"http://127.0.0.1:{supplier_port}/api/v2"
        self.supplier_log = directory / "supplier-events.log"
        self.settled_log = directory / "settled.log"  # what the settler was told
        self._set_up_django()
        redis_options = ("--port", str(redis_port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory))
        self.redis = self._part("redis", *redis_options, program=shutil.which("redis-server") or "redis-server")
        self.server = self._part("server", "manage.py", "serve", "--port", str(self.port))
        self.worker = self._part("worker", "-m", "tests.suppliers.worker")
        self.settler = self._part("settler", "-m", "tests.faults.settler", str(self.settled_log))
        of_supplier = ("--port", str(supplier_port), "--log", str(self.supplier_log), "--settles-after", "2")
        self.supplier = self._part("supplier", "manage.py", "fakesupplier", "--with-parent", *of_supplier)

    def _part(self, name: str, *command: str, **options: Any) -> Part:
        part = Part(name, self.directory / f"{name}.log", *command, **options)
        self.parts.append(part)
        return part

    def _postgres(self, directory: Path) -> Part:
        """Make a cluster with the embedded server's programs. Returns the part that runs it."""
        made = Postgres(directory)
        self.database_url = made.url()
        (self.directory / "postgres.log").touch()
        command = shlex.split((directory / "postmaster.opts").read_text())
        made.stop()
        for setting in (f"max_connections={MAX_CONNECTIONS}", "min_wal_size=32MB", "max_wal_size=96MB"):
            command += ["-c", setting]
        return self._part("postgres", *command[1:], program=command[0], runs_as=directory)

    def _set_up_django(self) -> None:
        os.environ |= {"DATABASE_URL": self.database_url, "DATABASE_PGBOUNCER": "off"}
        import tests.environment  # noqa: F401  # as pytest does, before the settings are read

        os.environ |= {name: "1000000000" for name in os.environ if name.startswith("RATE_LIMIT_")}
        os.environ |= {"WORKER": "off", "WEB_CONCURRENCY": "2", "DATABASE_POOL_SIZE": "10", "UNDO_SECONDS": "1"}
        os.environ |= {"REDIS_URL": self.redis_url, "WEBHOOK_LOOPBACK": "on"}
        import django
        from django.conf import settings

        settings.DATABASES["default"]["OPTIONS"].pop("pool", None)
        django.setup()
        logging.disable(logging.INFO)  # this process creates accounts and keys, which is logged

    def start(self, orders: int, webhooks: str, cap: int) -> list["Customer"]:
        """Start everything, with ``orders`` for each customer and endpoints at ``webhooks``. Returns the customers."""
        from django.core.management import call_command

        self.postgres.keep_running()
        self.redis.keep_running()
        _until(self._database_answers)
        call_command("migrate", verbosity=0)
        call_command("collectstatic", interactive=False, verbosity=0)
        customers = _load(orders, self.supplier_url, webhooks, cap)
        self.limited_key = _limited_key()
        self._supervisor.start()
        _until(self.answers)
        return customers

    def _database_answers(self) -> bool:
        from django.db import OperationalError, connection

        try:
            connection.ensure_connection()
        except OperationalError:
            return False
        return True

    def answers(self) -> bool:
        """Return whether the server answers at all."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
                return b"200" in connection.recv(100)
        except OSError:
            return False

    def _supervise(self) -> None:
        while not self._ended.wait(RESTARTED_AFTER):
            for part in self.parts:
                part.keep_running()

    def end(self) -> None:
        """Kill everything that was started."""
        if self._supervisor.is_alive():
            self._ended.set()
            self._supervisor.join()
        for part in (part for part in self.parts if part is not self.postgres):
            part.kill()
        self.postgres.terminate(number=signal.SIGINT)
        if self.disk:
            subprocess.run(["umount", str(self.disk)], check=False)


def _mount(path: Path) -> Path | None:
    """Mount a small disk at ``path``. Returns None if this process may not."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=0711", "tmpfs", str(path)]
    if os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0:
        return path
    path.rmdir()
    return None


def _until(condition: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(condition)
        time.sleep(0.05)


class Customer:
    """An account with a key and orders of its own, by their numbers."""

    def __init__(self, account: Any, key: str, orders: range) -> None:
        self.account, self.key, self.orders = account, key, orders


def _load(orders: int, supplier_url: str, webhooks: str, cap: int) -> list[Customer]:
    """Write what the books begin with. Returns the customers."""

    from apikeys.keys import create_api_key
    from apikeys.models import Account, WebhookEndpoint
    from apikeys.webhooks.models import EVENTS
    from notpanel.kit import secrets
    from orders.models import Order, Service, Supplier
    from orders.suppliers import save_supplier
    from tests import factories

    Account.objects.create(username="agent", is_staff=True, is_superuser=True)
    supplier = Supplier(name="Supplier", url=supplier_url, mode="automatic")
    supplier.per_minute, supplier.poll_seconds = 1_000_000, 1
    save_supplier(supplier, key="their-key")
    of_service = {"category": "Followers", "rate": Decimal("0.90"), "min": 50, "max": 10_000, "refill": True}
    by_hand, sent = Service.objects.bulk_create(
        [
            Service(id=1, name="Settled by hand", refill_limit=cap, **of_service),
            Service(id=2, name="Sent to a supplier", refill_limit=cap, supplier=supplier, **of_service),
        ]
    )
    customers = []
    for place in range(CLIENTS):
        account = Account.objects.create(username=f"customer{place}", tier="agency")
        numbers = range(1 + place * orders, 1 + (place + 1) * orders)
        Order.objects.bulk_create(
            (
                factories.Order.build(
                    number=number,
                    account=account,
                    service=sent if number % SENT_TO_SUPPLIER == 0 else by_hand,
                    link=f"https://example.com/p/{number}",
                    supplier_order=str(800_000 + number),
                )
                for number in numbers
            ),
            batch_size=1000,
        )
        customers.append(Customer(account, create_api_key(account)[1], numbers))
        if place < WITH_WEBHOOKS:
            secret = secrets.encrypt("whsec_" + "c2VjcmV0" * 4)
            WebhookEndpoint.objects.create(account=account, url=webhooks, events=EVENTS, encrypted_secret=secret)
    return customers


def _limited_key() -> str:
    from apikeys.keys import create_api_key
    from apikeys.models import Account

    return create_api_key(Account.objects.create(username="limited"), limit_per_minute=LIMIT)[1]


@contextlib.contextmanager
def running(
    directory: Path, orders: int, *, own_disk: bool, cap: int
) -> Iterator[tuple[Installation, list[Customer], Any]]:
    """Run an installation. Yields it with its customers and the receiver of their webhooks."""
    from tests.receiver import receiver

    installation = Installation(directory, own_disk=own_disk)
    try:
        with receiver() as webhooks:
            yield installation, installation.start(orders, webhooks.url, cap), webhooks
    finally:
        installation.end()


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
