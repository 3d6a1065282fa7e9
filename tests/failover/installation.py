"""A site on two database servers, and a failover from one to the other while customers' programs keep running."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import requests

from notpanel.kit.public_id import from_uuid
from tests.failover.clusters import PASSWORD, Cluster, Machine, wait_until
from tests.failover.load import Load
from tests.server import BASE_DIR, Server

WAYS = ("killed", "lagging", "frozen", "vanished")
LAG = 1.0  # seconds
BEFORE = 50  # refills that are requested before the failure, at least
NEW_JOB = """
    INSERT INTO procrastinate_jobs (queue_name, task_name, args)
    VALUES ('default', 'notpanel.tasks.take_up_jobs_of_dead_workers', '{"timestamp": 0}')
    RETURNING id
"""
JOB = "SELECT count(*) FROM procrastinate_jobs WHERE id = %d"  # one that succeeded is deleted
WORKERS = "SELECT count(*) FROM procrastinate_workers WHERE last_heartbeat > now() - interval '10 seconds'"
REFILLS = "SELECT id, order_id FROM refills_refill"


@dataclass(frozen=True)
class Failover:
    """What happens to the primary, and what is found afterwards. Times are in seconds."""

    way: str
    synchronous: bool
    told: int  # refills that customers were told of, in all
    lost: int  # of those, which the new primary does not have
    doubled: int  # orders with more than one refill
    unavailable: int  # answers 503
    wrong: tuple[str, ...]  # answers that break the contract, and what the audit found
    promotion: float  # from the order to promote until the standby took writes
    answered: float  # from the order to promote until the first 200 to a request sent after it
    away: float  # from the failure until then
    longest_wait: float  # for an answer, whatever it was
    worker: float  # from the order to promote until a job was done

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {value:.1f}" if isinstance(value, float) else f"{name} {value}"
            for name, value in asdict(self).items()
        )


class Installation:
    """Two servers, of which the second follows the first, and a site that names both, with its worker."""

    def __init__(
        self, directory: Path, machines: Sequence[Machine], orders: int, programs: Path | None = None, redis: str = ""
    ) -> None:
        self.primary, self.standby = (
            Cluster(name, directory, machine, programs) for name, machine in zip(("one", "two"), machines, strict=True)
        )
        self.clusters = self.primary, self.standby
        self.server: Server | None = None
        self._directory, self._orders, self._redis, self._first = directory, orders, redis, 1

    def start(self) -> None:
        self.primary.make()
        hosts = ",".join(cluster.host for cluster in self.clusters)
        database = f"postgresql://notpanel:{PASSWORD}@{hosts}/notpanel?target_session_attrs="
        self._environment = {
            "DATABASE_URL": f"{database}read-write",
            "DATABASE_REPLICA_URL": f"{database}prefer-standby",
            "REDIS_URL": self._redis,
            "WEB_CONCURRENCY": "2" if self._redis else "1",
            "WORKER": "on",
        }
        self.key = self.manage("-m", "tests.failover.data", str(self._orders))
        self.standby.follow(self.primary)
        self.server = Server(self._directory, **self._environment)

    def stop(self) -> None:
        if self.server:
            self.server.stop()
        for cluster in self.clusters:
            cluster.stop()

    def manage(self, *arguments: str) -> str:
        """Run a program with the settings of the site. Returns what it printed. Raises RuntimeError if it failed."""
        command, environment = [sys.executable, *arguments], os.environ | self._environment
        done = subprocess.run(command, cwd=BASE_DIR, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{arguments} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def fail_over(self, way: str, orders: int, *, synchronous: bool, noticed_after: float) -> Failover:
        """Let the primary fail under load, and promote the standby after some seconds. ``rejoin()`` comes next.

        The way “lagging” kills the primary when the standby has received nothing for LAG.
        """
        assert self.server
        old, new = self.primary, self.standby
        old.commit_on_both(new.name if synchronous else "")
        load = Load(f"{self.server.url}/api/v2", self.key, range(self._first, self._first + orders))
        self._first += orders
        load.start()
        try:
            wait_until(lambda: load.answers_with(200) >= BEFORE, "The site does not answer.")
            wait_until(lambda: old.ask(WORKERS, "notpanel") > 0, "No worker is alive.")
            cursor = load.list_changed()[1]
            with new.receiving_nothing() if way == "lagging" else contextlib.nullcontext():
                time.sleep(LAG if way == "lagging" else 0)
                failed = time.monotonic()
                _fail(old, way)
            time.sleep(noticed_after)
            if way == "frozen":
                old.kill()  # fenced before the other one is promoted
            ordered = time.monotonic()
            new.promote()
            promoted = time.monotonic()
            job = JOB % new.ask(NEW_JOB, "notpanel")
            wait_until(lambda: load.answers_with(200, sent_after=ordered) >= 20, "The site does not answer.")
            wait_until(lambda: new.ask(job, "notpanel") == 0, "No worker does what is due.")
            worked = time.monotonic()
        finally:
            load.stop()
        refills = new.rows(REFILLS, "notpanel")
        wrong = [*load.wrong, *self._problems(load, cursor, len(refills))]
        return Failover(
            way=way,
            synchronous=synchronous,
            told=len(load.told),
            lost=len(set(load.told.values()) - {from_uuid("ref", refill) for refill, _ in refills}),
            doubled=len(refills) - len({order for _, order in refills}),
            unavailable=load.answers_with(503, sent_after=0),
            wrong=tuple(wrong),
            promotion=promoted - ordered,
            answered=load.first_success(ordered) - ordered,
            away=load.first_success(ordered) - failed,
            longest_wait=load.longest_wait(failed),
            worker=worked - ordered,
        )

    def rejoin(self) -> float:
        """Let the old primary follow the new one, and change the roles. Returns how many seconds it took."""
        old, new = self.primary, self.standby
        old.kill()
        old.machine.come_back()
        began = time.monotonic()
        old.rejoin(new)
        self.primary, self.standby = new, old
        return time.monotonic() - began

    def _problems(self, load: Load, cursor: str, refills: int) -> Iterator[str]:
        """Yield what an operator would find wrong after the failover."""
        try:
            self.manage("manage.py", "audit")
        except RuntimeError as error:
            yield str(error)
        status, _ = load.list_changed(cursor)
        if status != 400:
            yield f"refill_list answered {status} to a cursor of the old primary"
        if (listed := load.count_listed()) != refills:
            yield f"refill_list has {listed} of {refills} refills"
        ready = requests.get(f"{load.url.removesuffix('/api/v2')}/readyz", timeout=30)
        if ready.status_code != 200:
            yield f"/readyz: {ready.text}"


def _fail(cluster: Cluster, way: str) -> None:
    match way:
        case "killed" | "lagging":
            cluster.kill()
        case "frozen":
            cluster.signal(signal.SIGSTOP)
        case "vanished":
            cluster.machine.vanish()
