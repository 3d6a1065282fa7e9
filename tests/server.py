"""Run the real application server on the test database, as `make demo` and production run it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
import requests
from django.db import connection

BASE_DIR = Path(__file__).resolve().parent.parent

# For modules that use the server: pytest-xdist runs them all in one worker, so that they share one server.
MARKS = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("server")]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def database_url() -> str:
    """Return the URL of the database that the tests run in."""
    url = urlsplit(os.environ["DATABASE_URL"])
    return urlunsplit(url._replace(path="/" + connection.settings_dict["NAME"]))


class Server:
    """A running server, started with ``environment`` in addition to the environment of the tests."""

    def __init__(self, directory: Path, **environment: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = directory / f"server-{self.port}.log"  # a pipe would fill up and block the server
        limits = {name: "1000000" for name in os.environ if name.startswith("RATE_LIMIT_")}
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "serve", "--port", str(self.port)],
                cwd=BASE_DIR,
                env=os.environ
                | limits
                | {"DATABASE_URL": database_url(), "DATABASE_POOL_SIZE": "5", "WORKER": "off"}
                | environment,
                stderr=log,
            )
        deadline = time.monotonic() + 30
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
        except requests.ConnectionError:
            return False

    @property
    def log(self) -> str:
        return self._log.read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send the signal ``number`` and wait for the end. Returns the exit status."""
        self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture(scope="session")
def server(django_db_setup, django_db_blocker, tmp_path_factory) -> Iterator[str]:
    """Return the address of a running server. `make test` has collected its static files."""
    with django_db_blocker.unblock():
        server = Server(tmp_path_factory.mktemp("server"))
    yield server.url
    server.stop()
