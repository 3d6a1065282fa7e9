"""Request many refills through fake suppliers with every fault, while everything is killed at random.

``python -m tests.suppliers [REFILLS]`` (10,000 unless told) starts a PostgreSQL, a server, two workers and eight
suppliers of its own, requests a refill of each order over the API, approves those of manual suppliers, and kills a
process every few seconds, by SIGKILL. When all is quiet it ends with status 1 if a refill reached its supplier twice,
is neither settled nor waits for a person, or has gaps in its history. With ``--directory`` and ``--minutes`` it ends
after that time, with status 3, and the same command goes on. ``--quick`` waits seconds, not minutes.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "notpanel.settings")

from tests.server import free_port
from tests.suppliers.data import KINDS, load
from tests.suppliers.parts import Part, Postgres

GOES_ON = 3  # the exit status
BATCH = 25  # refills requested at once
DONE = ("A refill request is already pending", "Refill limit reached")  # an earlier answer was lost
# What is killed. Once everything was, the order is drawn anew.
KILLS = (*["worker"] * 3, *["supplier"] * 3, "server", "PostgreSQL", "a backend of PostgreSQL")
BY_HAND = 10  # every so many refills of a manual supplier is completed by hand


class Proof:
    """A run, whose files are in a directory: what was killed is in ``kills.log``."""

    def __init__(self, directory: Path, count: int, *, quick: bool) -> None:
        self.directory, self.count, self.quick = directory, count, quick
        self.chance = random.Random()
        self.plan = directory / "plan.json"
        self.kills = directory / "kills.log"
        self.postgres = Postgres(directory / "postgres")
        self.parts: list[Part] = [self.postgres]
        self.stopping, self.ended = threading.Event(), threading.Event()
        self.wrong: list[str] = []
        self.next_kills: list[str] = []

    def prepare(self) -> None:
        """Start PostgreSQL, and set up the database unless an earlier part of the run did."""
        os.environ |= {"DATABASE_URL": self.postgres.url(), "DATABASE_PGBOUNCER": "off"}
        import tests.environment  # noqa: F401  # as pytest does, before the settings are read

        os.environ |= {name: "1000000000" for name in os.environ if name.startswith("RATE_LIMIT_")}
        os.environ |= {"WORKER": "off", "REDIS_URL": "", "WEB_CONCURRENCY": "1", "DATABASE_POOL_SIZE": "5"}
        if self.quick:
            os.environ |= {"UNDO_SECONDS": "1"}
        import django
        from django.conf import settings
        from django.core.management import call_command

        settings.DATABASES["default"]["OPTIONS"].pop("pool", None)
        django.setup()
        kinds = KINDS[:3] if self.quick else KINDS
        if not self.plan.exists():
            call_command("migrate", verbosity=0)
            call_command("collectstatic", interactive=False, verbosity=0)
            ports = [free_port() for _ in kinds]
            key = load(self.count, ports, poll_seconds=1 if self.quick else 10)
            self.plan.write_text(json.dumps({"ports": ports, "key": key, "server": free_port()}))
        plan = json.loads(self.plan.read_text())
        self.key, self.url = plan["key"], f"http://127.0.0.1:{plan['server']}/api/v2"
        work = ("-m", "tests.suppliers.worker") if self.quick else ("manage.py", "work", "--with-parent")
        self.server = Part("server", self._log("server"), "manage.py", "serve", "--port", str(plan["server"]))
        self.workers = [Part("worker", self._log(f"worker-{n}"), *work) for n in (1, 2)]
        self.logs = [self._log(f"events-{n}") for n in range(1, len(kinds) + 1)]
        settles_after = "1" if self.quick else "20"
        shares = ("--faults", "0.2", "--refusals", "0.1", "--rejections", "0.2", "--settles-after", settles_after)
        self.suppliers = [
            Part(
                "supplier",
                self._log(f"supplier-{n}"),
                *("manage.py", "fakesupplier", "--with-parent", "--port", str(port), "--log", str(self.logs[n - 1])),
                *(*shares, "--takes", "0.1", "--seed", str(n), *kind.options),
            )
            for n, (port, kind) in enumerate(zip(plan["ports"], kinds, strict=True), 1)
        ]
        self.parts += [self.server, *self.workers, *self.suppliers]

    def _log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    # ---- What goes on meanwhile

    def keep_running(self) -> None:
        """Start whatever has ended, as a supervisor does."""
        while not self.ended.wait(0.1):
            for part in self.parts:
                part.keep_running()

    def request(self) -> None:
        """Request a refill of each order that has none, again and again until the answer comes."""
        import requests

        wanted = self.retried(self._orders_without_refill)
        self.chance.shuffle(wanted)
        while wanted and not self.stopping.is_set():
            batch = wanted[:BATCH]
            body = {"key": self.key, "action": "refill", "orders": ",".join(map(str, batch))}
            try:
                answer = requests.post(self.url, body, timeout=30)
                rows = answer.json()
            except requests.RequestException:  # killed, or an answer that broke off
                time.sleep(0.2)
                continue
            if answer.status_code == 503:
                time.sleep(0.2)
                continue
            if answer.status_code != 200:
                self.wrong.append(f"the API answered {answer.status_code}: {answer.text[:200]}")
                return
            self.wrong += [str(row) for row in rows if "refill" not in row and not row["error"].startswith(DONE)]
            del wanted[:BATCH]

    def approve(self) -> None:
        """Approve the refills of manual suppliers as they come, and complete some of them by hand."""
        from apikeys.models import Account
        from refills.models import Refill
        from refills.settlement import StatusChange, change_status
        from refills.statuses import RefillStatus

        def decide() -> None:
            staff = Account.objects.get(username="agent")
            waiting = Refill.objects.filter(status="pending", service__supplier__mode="manual", dispatch=None)
            found = list(waiting.order_by("id").values_list("pk", "order__number")[:200])
            for to, chosen in (
                (RefillStatus.APPROVED, [pk for pk, number in found if number % BY_HAND]),
                (RefillStatus.COMPLETED, [pk for pk, number in found if number % BY_HAND == 0]),
            ):
                change_status(chosen, StatusChange(to), staff)

        while not self.stopping.wait(0.5):
            self.retried(decide)

    def _orders_without_refill(self) -> list[int]:
        from orders.models import Order

        return list(Order.objects.filter(refills=None).values_list("number", flat=True))

    def retried(self, ask: Callable[[], Any]) -> Any:
        """Return what ``ask`` returns, once the database answers."""
        from django.db import InterfaceError, OperationalError, connection

        while True:
            try:
                return ask()
            except (OperationalError, InterfaceError):
                connection.close()
                time.sleep(0.2)

    # ---- Killing

    def kill_one(self) -> None:
        """Kill one process, most often a worker or a supplier. It is down for up to three seconds."""
        if not self.next_kills:
            self.next_kills = self.chance.sample(KILLS, len(KILLS))
        what, kills = self.next_kills.pop(), self.postgres.kill
        if what == "a backend of PostgreSQL":
            kills = self.postgres.kill_one_backend
        elif what != "PostgreSQL":
            kills = self.chance.choice([part for part in self.parts if part.name == what]).kill
        if kills(self.chance.uniform(0, 3)):
            with self.kills.open("a") as log:
                log.write(f"{what}\n")

    def run(self, minutes: float, every: float) -> bool:
        """Let it all go on until it is quiet, or for some minutes, with a kill every so many seconds.

        Returns whether it is quiet.
        """
        from tests.suppliers import judging

        ends_at = time.monotonic() + minutes * 60
        # The long form kills until all is quiet. The short one kills each process only once, or it would not end.
        is_killing = True
        next_kill = time.monotonic() + 3
        supervisor, *customers = [
            threading.Thread(target=what) for what in (self.keep_running, self.request, self.approve)
        ]
        for thread in (supervisor, *customers):
            thread.start()
        try:
            while time.monotonic() < ends_at and not self.wrong:
                if is_killing and next_kill <= time.monotonic():
                    self.kill_one()
                    next_kill = time.monotonic() + self.chance.uniform(0.5, 1.5) * every
                    is_killing = bool(self.next_kills) or not self.quick
                time.sleep(0.25)
                if customers[0].is_alive() or (self.quick and is_killing):
                    continue
                if self.retried(judging.unsettled) == 0:
                    is_killing = False  # only now: a job that a killed worker had may still be “doing”
                    if self.retried(lambda: judging.jobs("doing")) == 0:
                        return True
                if self.quick:
                    self.retried(lambda: wake("refills.tasks.sweep"))
            return False
        finally:
            self.stopping.set()
            for thread in customers:
                thread.join()
            self.ended.set()
            supervisor.join()

    def judge(self) -> list[str]:
        from orders.models import Supplier
        from tests.suppliers import judging

        logs = {
            supplier.pk: judging.read_log(path)
            for supplier, path in zip(Supplier.objects.order_by("id"), self.logs, strict=True)
        }
        for title, found in judging.figures(logs).items():
            print_table(title, found)
        print_table("kills", Counter(self.kills.read_text().splitlines()))
        return list(judging.problems(logs, self.count))

    def end(self) -> None:
        for part in self.parts[1:]:
            part.kill()
        self.postgres.stop()


def wake(*sweepers: str) -> None:
    """Do now what the queue does by itself once a minute."""
    from django.db import transaction

    from notpanel.kit import queue

    with transaction.atomic():
        for task in ("notpanel.tasks.take_up_jobs_of_dead_workers", *sweepers):
            if not _has_waiting(task):
                queue.wake(task, {"timestamp": 0})


def _has_waiting(task: str) -> bool:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM procrastinate_jobs WHERE status = 'todo' AND task_name = %s", [task])
        return cursor.fetchone() is not None


def print_table(title: str, found: dict[str, int]) -> None:
    sys.stdout.write(f"{title}:\n")
    for name, count in found.items():
        sys.stdout.write(f"  {name}: {count:,}\n")


def main(arguments: argparse.Namespace, directory: Path) -> int:
    proof = Proof(directory, arguments.refills, quick=arguments.quick)
    try:
        proof.prepare()
        began = time.monotonic()
        is_quiet = proof.run(arguments.minutes, 1.0 if arguments.quick else arguments.every)
        with (directory / "minutes.log").open("a") as log:
            log.write(f"{(time.monotonic() - began) / 60:.2f}\n")
        if not is_quiet and not proof.wrong:
            from tests.suppliers import judging

            sys.stdout.write(
                f"{proof.retried(judging.unsettled):,} refills are neither settled nor wait for a person\n"
            )
            return GOES_ON
        wrong = [*proof.wrong, *proof.retried(proof.judge)]  # the last kill may have been PostgreSQL's
    finally:
        proof.end()
    minutes = [float(line) for line in (directory / "minutes.log").read_text().split()]
    sys.stdout.write(f"{proof.count:,} refills in {sum(minutes):.1f} minutes, in {len(minutes)} parts\n")
    sys.stdout.write("".join(f"{problem}\n" for problem in wrong[:50]) + f"problems: {len(wrong) or 'none'}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    # Everything that was started is ended then.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    parser = argparse.ArgumentParser(prog="python -m tests.suppliers")
    parser.add_argument("refills", nargs="?", type=int, default=10_000)
    parser.add_argument("--directory", type=Path, help="keeps the run's files, so that it can go on")
    parser.add_argument("--minutes", type=float, default=120.0, help="after which everything is killed")
    parser.add_argument("--every", type=float, default=9.0, help="seconds between two kills, half to one and a half")
    parser.add_argument("--quick", action="store_true", help="three suppliers, and waits of seconds")
    parsed = parser.parse_args()
    if parsed.directory:
        parsed.directory.mkdir(parents=True, exist_ok=True, mode=0o711)
        sys.exit(main(parsed, parsed.directory.resolve()))
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o711)  # root's PostgreSQL runs as another user
        sys.exit(main(parsed, Path(made)))
