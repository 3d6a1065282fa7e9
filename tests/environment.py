"""Loaded before anything else (see pyproject.toml): the settings are read from what stands in .env.example.

So the tests run on the documented defaults, whatever the .env of this machine says, but for its DATABASE_URL and
DATABASE_PGBOUNCER: the tests make a database of their own on that server, or on the embedded one. REDIS_URL is for
tests/redis_server.py alone.
"""

import os
from pathlib import Path

from notpanel.server import embedded

BASE_DIR = Path(__file__).resolve().parent.parent

if "REDIS_URL_FOR_TESTS" not in os.environ:  # the workers of pytest-xdist inherit what their parent set
    embedded.provide()
    os.environ["REDIS_URL_FOR_TESTS"] = os.environ.get("REDIS_URL", "")
    database = {"DATABASE_URL", "DATABASE_PGBOUNCER"}
    for line in (BASE_DIR / ".env.example").read_text().splitlines():
        name, assigned, value = line.partition("=")
        if assigned and not name.startswith("#") and name not in database:
            os.environ[name] = value
    os.environ.update(SECRET_KEY="only-for-tests", HTTPS="off", DATABASE_POOL_SIZE="25")
