"""Put a real PgBouncer in transaction mode in front of the tests' database, if pgbouncer is on the PATH."""

import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from django.db import connection

from tests.server import free_port

LOCK_TIMEOUT = 500  # milliseconds

# Round robin: consecutive transactions get different connections of the three.
CONFIGURATION = """
[databases]
* = {server}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
server_round_robin = 1
"""


@pytest.fixture
def behind_pgbouncer(transactional_db, tmp_path) -> Iterator[dict[str, str]]:
    """Return the environment of a NotPanel whose database is behind PgBouncer."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not on the PATH")
    connection.ensure_connection()
    server = connection.connection.info
    names = ("host", "port", "user", "password")
    address = " ".join(f"{name}={value}" for name in names if (value := getattr(server, name)))
    listen_port = free_port()
    configuration = tmp_path / "pgbouncer.ini"
    configuration.write_text(CONFIGURATION.format(server=address, listen_port=listen_port))
    command = [program, str(configuration)]
    if os.geteuid() == 0:  # PgBouncer refuses to run as root; the owner of the server's socket may open it
        on_socket = server.host.startswith("/")
        command += ["--user", Path(server.host).owner() if on_socket else pwd.getpwnam("nobody").pw_name]
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {server.dbname} SET lock_timeout = {LOCK_TIMEOUT}")
        cursor.execute(f"ALTER DATABASE {server.dbname} SET statement_timeout = 10000")
    url = f"postgresql://{server.user}@127.0.0.1:{listen_port}/{server.dbname}"
    log = tmp_path / "pgbouncer.log"
    with log.open("w") as opened:
        process = subprocess.Popen(command, stdout=opened, stderr=opened)
    try:
        _wait_for(url, process, log)
        yield {"DATABASE_URL": url, "DATABASE_PGBOUNCER": "on"}
    finally:
        process.terminate()
        process.wait(30)
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER DATABASE {server.dbname} RESET ALL")


def _wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            psycopg.connect(url).close()
            return
        except psycopg.OperationalError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(log.read_text()) from error
            time.sleep(0.05)
