"""manage.py work, and the worker that manage.py serve keeps running beside the server."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.db import connection

from notpanel.kit import queue
from tests.server import BASE_DIR, MARKS, Server, backends, database_url

pytestmark = [*MARKS, pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="/proc tells the processes")]


@pytest.fixture(autouse=True)
def _empty(transactional_db):
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")
        cursor.execute("DELETE FROM procrastinate_workers")


def wait_for(condition):
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def workers(parent):
    """Return the processes below ``parent`` that run manage.py work."""
    found = []
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # it has just ended
            if b"work\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(int(pid))
    return found


def test_a_worker_takes_up_the_job_of_a_killed_one_and_stops_when_it_is_told_to():
    queue.wake("refills.tasks.sweep", {"timestamp": 0})
    queue.wake("notpanel.tasks.take_up_jobs_of_dead_workers", {"timestamp": 0})
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET status = 'doing' WHERE task_name = 'refills.tasks.sweep'")
    process = subprocess.Popen(
        [sys.executable, "manage.py", "work"],
        cwd=BASE_DIR,
        env=os.environ | {"DATABASE_URL": database_url()},
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: not _left())
    finally:
        process.terminate()

    assert process.wait(30) == 0


def _left():
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM procrastinate_jobs WHERE args->>'timestamp' = '0'")
        return cursor.fetchone()[0]


def test_serve_keeps_a_worker_running_and_takes_it_along(tmp_path):
    server = Server(tmp_path, WORKER="on")
    try:
        wait_for(lambda: workers(server.process.pid))
        [first] = workers(server.process.pid)
        wait_for(lambda: backends("application_name = 'notpanel work'"))
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: workers(server.process.pid) not in ([], [first]))
        [second] = workers(server.process.pid)
    finally:
        server.stop()

    wait_for(lambda: not Path(f"/proc/{second}").exists())


def test_a_worker_behind_pgbouncer_says_what_it_needs():
    process = subprocess.run(
        [sys.executable, "manage.py", "work"],
        cwd=BASE_DIR,
        env=os.environ | {"DATABASE_URL": database_url(), "DATABASE_PGBOUNCER": "on"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert process.returncode == 1
    assert "DATABASE_DIRECT_URL" in process.stderr
