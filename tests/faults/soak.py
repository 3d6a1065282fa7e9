"""Serve for minutes at 70 % of what this machine can take, and look for leaks of memory, connections and files."""

import contextlib
import os
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.faults.clients import Client, Visitor
from tests.faults.installation import CLIENTS, Installation, running, say
from tests.faults.run import Run, retried
from tests.suppliers.parts import Part

CAP = 1000  # refills of an order, so that the orders last
ORDERS = 2000  # of each customer
MEASURED = 20.0  # seconds in which the capacity is measured
SHARE = 0.7  # of the capacity
SAMPLED_EVERY = 5.0  # seconds
# What counts as flat: over the last two thirds, a slope (least squares) below this per minute, or below a share of the
# mean, because PostgreSQL's processes come and go. What has neither is only reported.
FLAT = {"MiB": 0.2, "files": 0.2, "connections": 0.2}
SHARE_OF_MEAN = 0.005

Sample = dict[str, float]


class Pace:
    """Return how long to wait, so that so many requests a second come at random moments."""

    def __init__(self, rate: float) -> None:
        self.rate, self._next = rate, time.monotonic()

    def __call__(self) -> float:
        self._next += random.expovariate(self.rate)
        return max(0.0, self._next - time.monotonic())


def soak(minutes: float, directory: Path) -> int:
    """Run it. Returns the exit status: 1 if anything grows, or if an answer or the books are wrong."""
    with running(directory, ORDERS, own_disk=False, cap=CAP) as (site, customers, webhooks):
        clients = [Client(site.port, each, CAP, lambda: 0.0) for each in customers]
        run = Run(site, clients, Visitor(site.port))
        for each in (*clients, run.visitor):
            each.start()
        time.sleep(MEASURED / 2)
        capacity = len(run.answers(time.monotonic() - MEASURED / 4)) / (MEASURED / 4)
        began = time.monotonic()
        for client in clients:
            client.pause = Pace(SHARE * capacity / CLIENTS)
        say(f"{capacity:.0f} requests a second; from now on {SHARE * capacity:.0f}, for {minutes:g} minutes")
        samples: list[Sample] = []
        while time.monotonic() < began + 60 * minutes:
            time.sleep(SAMPLED_EVERY)
            samples.append({"minute": (time.monotonic() - began) / 60} | retried(lambda: sample(site)))
        took = sorted(answer.ended - answer.began for answer in run.answers(began))
        say(
            f"{len(took):,} answers, {len(took) / (60 * minutes):.0f} a second; median "
            f"{statistics.median(took) * 1000:.0f} ms, p99 {took[int(len(took) * 0.99)] * 1000:.0f} ms"
        )
        grows = report(samples)
        run.end(webhooks)
    wrong = run.wrong + grows
    say("".join(f"{problem}\n" for problem in wrong[:50]) + f"problems: {len(wrong) or 'none'}")
    return 1 if wrong else 0


def sample(site: Installation) -> Sample:
    """Return what is to stay flat, and what is only reported."""
    import redis
    from django.db import connection

    found: Sample = {}
    for name, pids in _processes(site):
        found[f"{name}: MiB"] = sum(map(_private_memory, pids)) / 1024
        # PostgreSQL's processes keep open what they have read, up to a limit of their own.
        found[f"{name}: files{' (reported)' if name == 'PostgreSQL' else ''}"] = sum(map(_open_files, pids))
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
        found["PostgreSQL: connections"] = cursor.fetchone()[0]
        cursor.execute("SELECT pg_database_size(current_database()) / 1024.0 / 1024.0")
        found["PostgreSQL: MiB on the disk (reported)"] = float(cursor.fetchone()[0])
    with redis.Redis.from_url(site.redis_url) as client:
        found["Redis: connections"] = client.info("clients")["connected_clients"]
    logs = (part.log.stat().st_size for part in (site.server, site.worker))
    found["logs: MiB on the disk (reported)"] = sum(logs) / 1024 / 1024
    return found


def _processes(site: Installation) -> Iterator[tuple[str, list[int]]]:
    """Yield the processes of each name."""
    of: dict[str, Part] = {"the worker": site.worker, "Redis": site.redis, "the server": site.server}
    for name, part in of.items():
        yield name, [part.pid] if part.pid else []
    for place, pid in enumerate(site.server.children, 1):
        yield f"process {place} of the server", [pid]
    yield "PostgreSQL", [pid for pid in (site.postgres.pid, *site.postgres.children) if pid]


def _private_memory(pid: int) -> float:
    """Return the KiB that a process shares with nobody through files or PostgreSQL's shared memory."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss_Anon:"):
                return float(line.split()[1])
    return 0.0


def _open_files(pid: int) -> int:
    with contextlib.suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/fd"))
    return 0


def report(samples: Sequence[Sample]) -> list[str]:
    """Say what was sampled. Returns what grows, in words."""
    last = samples[len(samples) // 3 :]
    minutes = [each["minute"] for each in last]
    wrong = []
    say(f"{'':38}    first    least     most     last   a minute")
    for name in samples[0]:
        if name == "minute":
            continue
        values = [each.get(name, 0.0) for each in samples]
        slope = statistics.linear_regression(minutes, [each.get(name, 0.0) for each in last]).slope
        figures = "".join(f"{value:9.1f}" for value in (values[0], min(values), max(values), values[-1]))
        say(f"{name:38}{figures}  {slope:+9.3f}")
        most = FLAT.get(name.rpartition(": ")[2], float("inf"))
        if slope > max(most, SHARE_OF_MEAN * statistics.mean(values)):
            wrong.append(f"{name} grows by {slope:.2f} a minute")
    return wrong
