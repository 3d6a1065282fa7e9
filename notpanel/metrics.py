"""What ``/metrics`` answers to Prometheus: what the processes have counted, and figures of the database.

A middleware answers it before all others, as it does health checks. It answers even while everything else is down.
"""

import fcntl
import logging
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import IO

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, Error, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.http import HttpResponse
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from notpanel.environment import metrics_directory
from notpanel.kit import metrics, queue
from notpanel.server import vitals
from notpanel.server.checks import Unready, connect

logger = logging.getLogger(__name__)

PATH = "/metrics"
KEPT_FOR = 5.0  # seconds in which all processes of a server report the same figures of the database
TOO_OLD = 30.0  # seconds after which figures are no longer reported: the process that reads them hangs
PATIENCE = 6.0  # seconds that a process without figures waits for the one that reads them
BUDGET = 3.0  # seconds in which all statements together must have answered


def answer(authorization: str, role: str = "server") -> HttpResponse:
    """Answer ``/metrics`` to the holder of METRICS_TOKEN; 401 to everybody else. Servers report on the database too."""
    scheme, _, token = authorization.partition(" ")
    headers = {"Cache-Control": "no-store"}
    if scheme.lower() != "bearer" or not constant_time_compare(token.strip(), settings.METRICS_TOKEN):
        text, headers["WWW-Authenticate"] = b"Send METRICS_TOKEN.\n", "Bearer"
        return HttpResponse(text, "text/plain", 401, headers=headers | {"Content-Length": str(len(text))})
    vitals.publish(role)
    text = _as_text(metrics.collect())
    if role == "server":
        text += figures.text()
    headers["Content-Length"] = str(len(text))
    return HttpResponse(text, CONTENT_TYPE_PLAIN_0_0_4, headers=headers)


class _Collected(CollectorRegistry):
    """Metrics that were collected already, for prometheus_client to write."""

    def __init__(self, found: Iterable[Metric]) -> None:
        super().__init__()
        self._found = found

    def collect(self) -> Iterable[Metric]:
        return self._found


def _as_text(found: Iterable[Metric]) -> bytes:
    return generate_latest(_Collected(found))


# ---- The database


class Figures:
    """Reads figures from the database at most once in KEPT_FOR for all processes of a server, however many ask.

    The text is in a file of the directory that they share. The process that holds the lock reads the database. The
    others report what was read before, and wait only if that is too old.
    """

    def text(self) -> bytes:
        """Return the figures, as Prometheus reads them."""
        path = _directory() / "figures.txt"
        with path.with_suffix(".lock").open("a") as lock:
            deadline = time.monotonic() + PATIENCE
            while True:
                found, age = self._kept(path)
                if age < KEPT_FOR:
                    return found
                if self._is_locked(lock):
                    break
                if age < TOO_OLD:
                    return found
                if time.monotonic() >= deadline:
                    return _as_text([_up(False)])
                time.sleep(0.05)
            found, age = self._kept(path)
            if age >= KEPT_FOR:  # else another process has read between the look and the lock
                found = _as_text(read(timezone.now()))
                with suppress(OSError):  # no space is left
                    new = path.with_suffix(".new")
                    new.write_bytes(b"%f\n%b" % (time.monotonic(), found))
                    new.replace(path)
            return found

    @staticmethod
    def _is_locked(lock: IO[str]) -> bool:
        """Lock the file until it is closed, unless another process has. Returns whether it was locked."""
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    @staticmethod
    def _kept(path: Path) -> tuple[bytes, float]:
        """Return what was read last, and how many seconds ago, by a clock that all processes of a machine share."""
        try:
            read_at, _, found = path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return b"", float("inf")
        return found, time.monotonic() - float(read_at)


figures = Figures()


def _directory() -> Path:
    return Path(metrics_directory() or _own_directory().name)


@cache
def _own_directory() -> tempfile.TemporaryDirectory[str]:
    """Return a directory of this process, for a server that is not ours and whose processes share none."""
    return tempfile.TemporaryDirectory(prefix=metrics.PREFIX)


def read(now: datetime) -> Iterator[Metric]:
    """Yield the figures of the database. Those of a reader that fails are missing; ``notpanel_figures_up`` names it."""
    readable = GaugeMetricFamily("notpanel_figures_up", "1 if they could be read.", labels=["figures"])
    found: list[Metric] = []
    try:
        with _connection() as connection:
            ends_at = time.monotonic() + BUDGET
            for name, reader in metrics.readers.items():
                try:
                    found += _read(connection, reader, now, ends_at)
                    readable.add_metric([name], 1)
                except Error as error:
                    logger.warning("The figures of %s could not be read: %s", name, error)
                    readable.add_metric([name], 0)
            yield _up(True)
    except Unready:
        yield _up(False)
    yield from (readable, *found)


def _read(connection: BaseDatabaseWrapper, reader: metrics.Reader, now: datetime, ends_at: float) -> list[Metric]:
    milliseconds = max(int((ends_at - time.monotonic()) * 1000), 1)
    with transaction.atomic():
        with connection.cursor() as cursor:  # for this transaction alone: behind PgBouncer others get the connection
            cursor.execute("SET LOCAL statement_timeout = %s", [milliseconds])
        return list(reader(now))


@contextmanager
def _connection() -> Iterator[BaseDatabaseWrapper]:
    """Make a new connection the default one of this thread, because the pool may be exhausted. Raises Unready."""
    usual, own = connections[DEFAULT_DB_ALIAS], connect()
    connections[DEFAULT_DB_ALIAS] = own
    try:
        yield own
    finally:
        connections[DEFAULT_DB_ALIAS] = usual
        own.close()


def _up(up: bool) -> Metric:
    return GaugeMetricFamily("notpanel_database_up", "1 if the database takes a connection.", value=up)


def read_queue(now: datetime) -> Iterator[Metric]:
    """Yield the state of the queue, by one statement, which the index on status serves."""
    found = queue.figures(now)
    yield GaugeMetricFamily("notpanel_workers", "Workers that are alive, of all machines.", value=found.workers)
    yield GaugeMetricFamily("notpanel_jobs_waiting", "Jobs that are due and not begun.", value=found.waiting)
    yield GaugeMetricFamily("notpanel_jobs_failed", "Jobs that failed and are still kept.", value=found.failed)
    yield metrics.age("notpanel_jobs_oldest_seconds", "Seconds that the oldest job has been due.", found.oldest)
