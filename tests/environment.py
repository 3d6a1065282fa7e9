"""Set the environment to the defaults in .env.example, before the settings are read (pyproject.toml loads this first).

The .env of this machine thus changes nothing, with two exceptions. DATABASE_URL and DATABASE_PGBOUNCER are kept: the
tests create a database on that server, or on the embedded one. REDIS_URL is kept for tests/redis_server.py alone.
"""

import os
from pathlib import Path

from notpanel.server import embedded

BASE_DIR = Path(__file__).resolve().parent.parent

if "REDIS_URL_FOR_TESTS" not in os.environ:  # else this is a worker of pytest-xdist, whose parent has done it
    embedded.provide()
    os.environ["REDIS_URL_FOR_TESTS"] = os.environ.get("REDIS_URL", "")
    database = {"DATABASE_URL", "DATABASE_PGBOUNCER"}
    for line in (BASE_DIR / ".env.example").read_text().splitlines():
        name, assigned, value = line.partition("=")
        if assigned and not name.startswith("#") and name not in database:
            os.environ[name] = value
    os.environ.update(SECRET_KEY="only-for-tests-" * 4, HTTPS="off", DATABASE_POOL_SIZE="25", LOG_FORMAT="json")
