"""Run calls in real threads and real transactions, to try rules that must hold under any race."""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection

# For modules with races: pytest-xdist runs them all in one worker, or they would need more connections than the
# database server accepts.
MARKS = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("races")]


def race(calls: Iterable[Callable[[], Any]]) -> list[Any]:
    """Make all calls at the same time, each in its own thread and connection. Returns their results in order."""
    calls = list(calls)
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        try:
            barrier.wait()
            return call()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as executor:
        return [future.result() for future in [executor.submit(run, call) for call in calls]]


def await_others():
    """Wait for the transactions that are running now: other tests have some, in databases of the same server."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_xact_id()")
        [[now]] = cursor.fetchall()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            cursor.execute("SELECT pg_snapshot_xmin(pg_current_snapshot()) > %s::xid8", [str(now)])
            if cursor.fetchone()[0]:
                return
            time.sleep(0.01)
    raise AssertionError("a transaction has been running for a minute")


class Waiting:
    """A call in a thread of its own. Once this is constructed, the call waits for a lock."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._executor = ThreadPoolExecutor(1)

        def run() -> Any:
            try:
                return call()
            finally:
                connection.close()

        self._future = self._executor.submit(run)
        while not self._is_blocked():
            assert not self._future.done(), f"it did not wait for a lock: {self._future.result()}"

    def _is_blocked(self) -> bool:
        # Behind PgBouncer the call's backend is not known, but nothing else waits in the tests' database.
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_stat_clear_snapshot()"
            )  # else a transaction always sees the activity of its first query
            cursor.execute(
                "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
                " AND backend_type = 'client backend' AND cardinality(pg_blocking_pids(pid)) > 0)"
            )
            return bool(cursor.fetchone()[0])

    def is_done(self) -> bool:
        return self._future.done()

    def result(self) -> Any:
        self._executor.shutdown()
        return self._future.result()
