"""The faults: each begins, lasts for some seconds, and is lifted."""

import contextlib
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import requests

from tests.faults.installation import LIMIT, Installation
from tests.suppliers.parts import Part

Inflict = Callable[[Installation], AbstractContextManager[None]]
BACK = 3000  # seconds by which the clock is set back: less than STAFF_IDLE_MINUTES, so that nobody is signed out


@dataclass(frozen=True)
class Fault:
    """A fault, which lasts ``seconds``.

    ``loses_answers``: requests may end without one. ``may_commit``: a request that got 503 may have been done, because
    PostgreSQL went away in the middle of a COMMIT.
    """

    name: str
    inflict: Inflict
    seconds: float
    loses_answers: bool = False
    may_commit: bool = False
    is_quick: bool = False  # whether the short form has it
    why_not: Callable[[Installation], str] = lambda site: ""  # why it cannot be inflicted here


@contextmanager
def killed(part: str, site: Installation) -> Iterator[None]:
    """Kill a part with all of its processes, by SIGKILL. It is down until the fault is lifted."""
    process: Part = getattr(site, part)
    kill_all_of(process)
    yield
    process.come_back()


def kill_all_of(part: Part) -> None:
    below = part.children  # PostgreSQL's are no longer in its group
    part.kill(math.inf)
    for pid in below:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextmanager
def stopped(part: str, site: Installation, number: int = signal.SIGTERM) -> Iterator[None]:
    """Stop a part as its supervisor does. It is down until the fault is lifted."""
    process: Part = getattr(site, part)
    process.terminate(math.inf, number)
    yield
    process.come_back()


@contextmanager
def frozen(find: Callable[[Installation], list[int]], site: Installation) -> Iterator[None]:
    """Freeze processes, by SIGSTOP."""
    pids = find(site)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    yield
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def all_of(part: str, site: Installation) -> list[int]:
    process: Part = getattr(site, part)
    return [pid for pid in (process.pid, *process.children) if pid]


def one_below(part: str, site: Installation) -> list[int]:
    return [getattr(site, part).children[-1]]


@contextmanager
def one_killed(part: str, site: Installation) -> Iterator[None]:
    """Kill one process of a part."""
    for pid in one_below(part, site):
        os.kill(pid, signal.SIGKILL)
    yield


@contextmanager
def one_backend_killed(site: Installation) -> Iterator[None]:
    """Kill a backend: PostgreSQL ends all the others and recovers."""
    with psycopg.connect(site.database_url) as connection:
        found = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        ).fetchone()
    os.kill(found[0], signal.SIGKILL) if found else None
    yield


@contextmanager
def no_connections_left(site: Installation) -> Iterator[None]:
    """End the connections of NotPanel, and take all that PostgreSQL has."""
    taken: list[Any] = []
    is_over = threading.Event()

    def take() -> None:
        while not is_over.is_set():
            try:
                taken.append(psycopg.connect(site.database_url, autocommit=True))
            except psycopg.OperationalError:
                time.sleep(0.01)
            else:
                taken[0].execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE backend_type = 'client backend' AND pid <> ALL(%s) AND pid <> pg_backend_pid()",
                    [[each.info.backend_pid for each in taken]],
                )

    thread = threading.Thread(target=take)
    thread.start()
    yield
    is_over.set()
    thread.join()
    for connection in taken:
        connection.close()


@contextmanager
def locked(statement: str, site: Installation) -> Iterator[None]:
    """Hold what a statement locks."""
    with psycopg.connect(site.database_url) as connection:
        connection.execute(statement)
        yield
        connection.rollback()


@contextmanager
def disk_full(site: Installation) -> Iterator[None]:
    """Fill PostgreSQL's disk, and begin one file of its log after another, until there is no room for the next."""
    assert site.disk
    ballast, is_over = site.disk / "ballast", threading.Event()
    with ballast.open("wb") as opened, contextlib.suppress(OSError):
        while True:
            opened.write(bytes(1 << 20))

    def use_up() -> None:
        while not is_over.wait(0.1):
            with contextlib.suppress(psycopg.Error), psycopg.connect(site.database_url, autocommit=True) as connection:
                for _ in range(20):
                    connection.execute(
                        "SELECT pg_logical_emit_message(false, 'fill', repeat('x', 1000)), pg_switch_wal()"
                    )

    thread = threading.Thread(target=use_up)
    thread.start()
    yield
    is_over.set()
    ballast.unlink()
    thread.join()


@contextmanager
def all_killed(site: Installation) -> Iterator[None]:
    """Kill every process, as a power failure does. From then on they have a clock that can be set, where possible."""
    for part in site.parts:
        kill_all_of(part)
    if shutil.which("cc"):
        give_them_a_clock(site)
    yield
    for part in site.parts:
        part.come_back()


def give_them_a_clock(site: Installation) -> None:
    """Let every process that is started from now on read a clock that ``set_clock`` sets."""
    site.clock, library = site.directory / "clock", site.directory / "clock.so"
    site.clock.write_bytes(bytes(8))
    source = Path(__file__).with_name("clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source)], check=True)
    for part in site.parts:
        part.environment |= {"LD_PRELOAD": str(library), "CLOCK_FILE": str(site.clock)}


def set_clock(site: Installation, seconds: int) -> None:
    """Set the clock of all processes at once, so many seconds before or after the real time."""
    assert site.clock
    with site.clock.open("r+b") as clock:
        clock.write(seconds.to_bytes(8, sys.byteorder, signed=True))


@contextmanager
def clock_set_back(site: Installation) -> Iterator[None]:
    """Set the clock of all processes back while they run, and right again when the fault is lifted."""
    spent: Counter[str] = Counter()
    ask_until_denied(site, spent)
    set_clock(site, -BACK)
    if not ask_until_denied(site, spent):
        site.wrong.append("with the clock set back, a key had nothing left of its limit")
    yield
    set_clock(site, 0)
    ask_until_denied(site, spent)
    if most := [count for count in spent.values() if count > LIMIT]:
        site.wrong.append(f"a key that may make {LIMIT} requests in a window made {most}")


def ask_until_denied(site: Installation, spent: Counter[str]) -> int:
    """Spend the limit of a key. Counts what was answered in each window, and returns how many there were."""
    answered = 0
    with requests.Session() as session:
        for _ in range(2 * LIMIT):
            request = {"key": site.limited_key, "action": "services"}
            answer = session.post(f"http://127.0.0.1:{site.port}/api/v2", request, timeout=30)
            if answer.status_code == 429:
                if not 1 <= int(answer.headers["Retry-After"]) <= 60:
                    site.wrong.append(f"a key over its limit was told to wait {answer.headers['Retry-After']} seconds")
                break
            answered += 1
            spent[answer.headers["X-RateLimit-Reset"]] += 1
    return answered


def why_no_disk(site: Installation) -> str:
    return "" if site.disk else "this process may not mount a small disk"


def why_no_clock(site: Installation) -> str:
    return (
        "" if site.clock else "there is no C compiler, or they were not all killed before, so they have no such clock"
    )


LOCK_ORDERS = "SELECT FROM orders_order WHERE number % 2 = 0 FOR UPDATE"
LOST: dict[str, Any] = {"loses_answers": True}
UNSURE: dict[str, Any] = {"may_commit": True}
QUICK: dict[str, Any] = {"is_quick": True}

FAULTS = (
    Fault("PostgreSQL killed", partial(killed, "postgres"), 1, **UNSURE, **QUICK),
    Fault("PostgreSQL stopped", partial(stopped, "postgres", number=signal.SIGINT), 8, **UNSURE),
    Fault("a backend of PostgreSQL killed", one_backend_killed, 0, **UNSURE),
    Fault("PostgreSQL frozen", partial(frozen, partial(all_of, "postgres")), 6),
    Fault("Redis killed", partial(killed, "redis"), 3, **QUICK),
    Fault("Redis stopped", partial(stopped, "redis"), 8),
    Fault("Redis frozen", partial(frozen, partial(all_of, "redis")), 5),
    Fault("a process of the server killed", partial(one_killed, "server"), 0, **LOST, **QUICK),
    Fault("a process of the server frozen", partial(frozen, partial(one_below, "server")), 5),
    Fault("the server killed", partial(killed, "server"), 0.5, **LOST),
    Fault("the server stopped", partial(stopped, "server"), 0.5, **LOST),
    Fault("the worker killed", partial(killed, "worker"), 1, **QUICK),
    Fault("the worker stopped", partial(stopped, "worker"), 1),
    Fault("the worker frozen", partial(frozen, partial(all_of, "worker")), 5),
    Fault("no connections left", no_connections_left, 6, **UNSURE),
    Fault("half of the orders locked", partial(locked, LOCK_ORDERS), 6),
    Fault("the accounts locked", partial(locked, "LOCK TABLE apikeys_account"), 6),
    Fault("the refills locked", partial(locked, "LOCK TABLE refills_refill"), 4, **QUICK),
    Fault("PostgreSQL’s disk full", disk_full, 6, **UNSURE, why_not=why_no_disk),
    Fault("all killed at once", all_killed, 1, **LOST, **UNSURE),
    # Once the clock is right again, an idle connection looks old, and the server closes it.
    Fault("the clock set back", clock_set_back, 10, **LOST, why_not=why_no_clock),
)
