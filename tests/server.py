"""Run the real application server on the test database, as `make demo` and production run it."""

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
import requests
from django.db import connection

BASE_DIR = Path(__file__).resolve().parent.parent

# For modules that use the server: pytest-xdist runs them all in one worker, so that they share one server.
MARKS = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("server")]


_NUMBERS = itertools.count(1)

_DATABASES = {"DATABASE_URL", "DATABASE_REPLICA_URL", "DATABASE_DIRECT_URL", "REDIS_URL_FOR_TESTS"}


def run_alone(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a module of the tests that starts its own PostgreSQL, without the databases of these tests."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=BASE_DIR,
        env={name: value for name, value in os.environ.items() if name not in _DATABASES},
        capture_output=True,
        text=True,
        check=False,
    )


# Runs a command with a socket as systemd passes one: as file descriptor 3, with the pid that it is for.
AS_SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.argv[2], sys.argv[2:])
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def database_url() -> str:
    """Return the URL of the database that the tests run in."""
    url = urlsplit(os.environ["DATABASE_URL"])
    return urlunsplit(url._replace(path="/" + connection.settings_dict["NAME"]))


class Server:
    """A running server, started with ``environment`` in addition to the environment of the tests.

    With a ``listener`` it gets that socket, as systemd passes one.
    """

    def __init__(self, directory: Path, listener: socket.socket | None = None, /, **environment: str) -> None:
        self.port = int(listener.getsockname()[1]) if listener else free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "manage.py", "serve", "--port", str(self.port)]
        if listener:
            command = [sys.executable, "-c", AS_SYSTEMD, str(listener.fileno()), *command]
        # A pipe would fill up and block the server.
        self._log = directory / f"server-{self.port}-{next(_NUMBERS)}.log"
        limits = {name: "1000000" for name in os.environ if name.startswith("RATE_LIMIT_")}
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                command,
                cwd=BASE_DIR,
                pass_fds=[listener.fileno()] if listener else [],
                env=os.environ
                | limits
                | {"DATABASE_URL": database_url(), "DATABASE_POOL_SIZE": "5", "WORKER": "off"}
                | environment,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise AssertionError(self.log)
            time.sleep(0.05)

    def _answers(self) -> bool:
        # gunicorn listens before a worker is ready, and a signal in between makes it wait for half a minute. Only an
        # answer shows that a worker is ready.
        try:
            return requests.get(f"{self.url}/api", timeout=30).status_code == 404
        except (requests.ConnectionError, requests.Timeout):  # a socket of systemd accepts before there is a server
            return False

    @property
    def log(self) -> str:
        return self._log.read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send the signal ``number`` and wait for the end. Returns the exit status."""
        self.process.send_signal(number)
        return self.process.wait(60)

    def kill(self) -> None:
        """Kill the server and its workers with SIGKILL."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in (self.process.pid, *map(int, children)):
            os.kill(pid, signal.SIGKILL)
        self.process.wait(10)


@contextlib.contextmanager
def slow_refills(*, commit: bool) -> Iterator[str]:
    """Make each transaction that inserts a refill take two more seconds, before or in its COMMIT.

    Yields a condition on pg_stat_activity that is true of a backend meanwhile.
    """
    when = "CONSTRAINT TRIGGER slow AFTER INSERT ON refills_refill DEFERRABLE INITIALLY DEFERRED"
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_sleep(2); RETURN NULL; END $$;
            CREATE {when if commit else "TRIGGER slow AFTER INSERT ON refills_refill"}
            FOR EACH {"ROW" if commit else "STATEMENT"} EXECUTE FUNCTION be_slow();
            """
        )
    try:
        yield f"query {'=' if commit else '<>'} 'COMMIT' AND wait_event = 'PgSleep'"
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION be_slow() CASCADE")


def backends(condition: str) -> int:
    """Return how many backends of the tests' database meet a condition on pg_stat_activity."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND {condition}")
        return int(cursor.fetchone()[0])


def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition is true, for up to 20 seconds."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="session")
def server(django_db_setup, django_db_blocker, tmp_path_factory) -> Iterator[str]:
    """Return the address of a running server. `make test` has collected its static files."""
    with django_db_blocker.unblock():
        server = Server(tmp_path_factory.mktemp("server"))
    yield server.url
    server.stop()
