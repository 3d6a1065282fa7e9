"""What would keep the site from being served: each problem is reported in one sentence before anything starts."""

import errno
import socket
from functools import cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.loader import MigrationLoader

SHORTEST_SECRET_KEY = 50  # characters, as `manage.py check --deploy` wants


class Unready(ImproperlyConfigured):
    """The site cannot be served. The text is for the operator."""


def check_settings() -> None:
    """Raise Unready if the settings are not for a site that others can reach."""
    check_debug()
    check_secret_key()


def check_debug() -> None:
    """Raise Unready if everybody could read the source."""
    if settings.DEBUG and "*" in settings.ALLOWED_HOSTS:
        raise Unready(
            "DEBUG is on and ALLOWED_HOSTS is *: everybody could read the source on error pages. Set DEBUG=off, or "
            "name the hosts."
        )


def check_secret_key() -> None:
    """Raise Unready if SECRET_KEY, or one of the keys that are accepted beside it, could be guessed."""
    if (length := len(settings.SECRET_KEY)) < SHORTEST_SECRET_KEY:
        raise Unready(
            f"SECRET_KEY has {length} characters: it must have at least {SHORTEST_SECRET_KEY}, chosen at random. "
            "`make .env` writes a .env with one."
        )
    for number, key in enumerate(settings.SECRET_KEY_FALLBACKS, start=1):
        if len(key) < SHORTEST_SECRET_KEY:
            raise Unready(
                f"SECRET_KEY_FALLBACKS: key {number} has {len(key)} characters, and sessions could be forged by it: it "
                f"must have at least {SHORTEST_SECRET_KEY}. Without it everybody has to sign in again."
            )


def check_counters() -> None:
    """Raise Unready if several processes would each count the rate limits by itself."""
    if settings.WEB_CONCURRENCY > 1 and not settings.REDIS_URL:
        raise Unready(
            f"WEB_CONCURRENCY is {settings.WEB_CONCURRENCY}, but REDIS_URL is not set: each process would "
            "count the rate limits by itself. Set REDIS_URL, or WEB_CONCURRENCY to 1."
        )


def check_static_files() -> None:
    """Raise Unready if ``collectstatic`` has not run."""
    if not (settings.STATIC_ROOT / "staticfiles.json").exists():
        raise Unready(f"{settings.STATIC_ROOT} has no static files: run `manage.py collectstatic --noinput`.")


def check_port(host: str, port: int) -> None:
    """Raise Unready if nothing can listen at the port now."""
    name = host.strip("[]")
    try:
        [(family, kind, *_, address), *_] = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror:
        raise Unready(f"HOST is “{host}”, which is neither an address nor a name that this machine knows.") from None
    except OSError as error:
        match error.errno:
            case errno.EADDRINUSE:
                problem = "is taken: stop the program that listens there"
            case errno.EACCES:
                problem = "is for root alone: choose one from 1024 up"
            case _:
                problem = f"cannot be used ({error.strerror}): set HOST to an address of this machine"
        raise Unready(f"Port {port} of {host} {problem}, or set PORT to another.") from None


def check_database() -> None:
    """Raise Unready if the database cannot be reached."""
    connect().close()


def check_migrations() -> None:
    """Raise Unready if the database cannot be reached, or lacks migrations."""
    connection = connect()
    try:
        pending = pending_migrations(connection)
    finally:
        connection.close()
    if pending:
        names = ", ".join(f"{app}.{name}" for app, name in pending[:3])
        more = f" and {len(pending) - 3} more" if len(pending) > 3 else ""
        raise Unready(f"The database lacks migrations ({names}{more}): run `manage.py migrate`.")


def pending_migrations(connection: BaseDatabaseWrapper) -> list[tuple[str, str]]:
    """Return the migrations that this code needs and the database lacks, by app and name."""
    # Django's recorder would ask over the connection of this thread, which may be one that the database has ended.
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('django_migrations') IS NOT NULL")
        [has_table] = cursor.fetchone()
        cursor.execute("SELECT app, name FROM django_migrations" if has_table else "SELECT WHERE false")
        applied = set(cursor.fetchall())
    return sorted(_migrations_of_code() - applied)


@cache
def _migrations_of_code() -> frozenset[tuple[str, str]]:
    """Return the migrations of this code, which do not change while a process runs."""
    return frozenset(MigrationLoader(None).graph.nodes)


def check_worker() -> None:
    """Raise Unready if a worker could not listen for jobs."""
    if settings.DATABASE_PGBOUNCER and not settings.DATABASE_DIRECT_URL:
        raise Unready(
            "DATABASE_PGBOUNCER is on, and a worker cannot listen through PgBouncer: set DATABASE_DIRECT_URL to the "
            "database itself, or WORKER=off if workers run elsewhere."
        )


def close_connections() -> None:
    """Close what the checks opened. Call it before a fork: processes on one connection read each other's answers.

    Whenever a connection is made, django.contrib.postgres asks that of the default alias for types, and so opens the
    pool.
    """
    pooled: Any = connections[DEFAULT_DB_ALIAS]
    pooled.close()
    pooled.close_pool()


def missing_time_limits(connection: BaseDatabaseWrapper) -> list[str]:
    """Return the names of the two limits without which a statement could wait for ever, if they are not in force."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT name FROM pg_settings"
            " WHERE name IN ('lock_timeout', 'statement_timeout') AND setting = '0' ORDER BY name"
        )
        return [name for [name] in cursor.fetchall()]


def connect(alias: str = DEFAULT_DB_ALIAS, *, target_session_attrs: str = "", **changes: str) -> BaseDatabaseWrapper:
    """Return a connection of its own, made with ``changes`` of where it leads. Raises Unready.

    A pool would try for seconds, hide the cause, and not survive a fork.
    """
    connection = connections[alias].copy()
    connection.settings_dict.update(changes)
    connection.settings_dict["OPTIONS"].pop("pool", None)
    if target_session_attrs:
        connection.settings_dict["OPTIONS"]["target_session_attrs"] = target_session_attrs
    try:
        connection.ensure_connection()
    except OperationalError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        cause = lines[0] if lines else "it did not say why"
        for mark in ("FATAL:", "connection failed:"):
            cause = cause.rpartition(mark)[2].strip()
        setting = "DATABASE_URL" if alias == DEFAULT_DB_ALIAS else "DATABASE_REPLICA_URL"
        raise Unready(f"The database of {setting} cannot be used: {cause.rstrip('.')}.") from None
    return connection
