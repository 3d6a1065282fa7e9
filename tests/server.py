"""The real application server, as `make demo` and production run it, on the test database."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from django.db import connection

BASE_DIR = Path(__file__).resolve().parent.parent

# One worker of pytest-xdist runs them all, with one server.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("server")]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def database_url() -> str:
    """Return the URL of the database that the tests run in."""
    url = urlsplit(os.environ["DATABASE_URL"])
    return urlunsplit(url._replace(path="/" + connection.settings_dict["NAME"]))


def serve(port: int, **environment: str) -> subprocess.Popen[str]:
    """Start the server and wait until it listens."""
    limits = {name: "1000000" for name in os.environ if name.startswith("RATE_LIMIT_")}
    process = subprocess.Popen(
        [sys.executable, "manage.py", "serve", "--port", str(port)],
        cwd=BASE_DIR,
        env=os.environ | limits | {"DATABASE_URL": database_url(), "DATABASE_POOL_SIZE": "5"} | environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
    process.kill()
    raise AssertionError(process.communicate()[1])


@pytest.fixture(scope="session")
def server(django_db_setup, django_db_blocker) -> Iterator[str]:
    """The address of a running server."""
    subprocess.run(
        [sys.executable, "manage.py", "collectstatic", "--noinput", "--verbosity=0"], cwd=BASE_DIR, check=True
    )
    port = free_port()
    with django_db_blocker.unblock():
        process = serve(port)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.communicate(timeout=30)
