"""Checks of the database, over a connection like those that requests get."""

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from notpanel.doctor.checks import DatabaseCheck
from notpanel.doctor.surroundings import full_disks
from notpanel.health import problem_of_database, problem_of_migrations, problem_of_queue
from notpanel.kit import queue, secrets
from notpanel.kit.public_id import from_uuid
from notpanel.kit.replica import ALIAS
from notpanel.server.checks import Unready, connect, missing_time_limits
from notpanel.server.embedded import is_embedded

OLDEST = 15  # of PostgreSQL
MOST_APART = timedelta(seconds=2)  # two clocks
LONGEST_WAIT = timedelta(minutes=5)  # of a job while workers are alive
PATIENCE = 10.0  # seconds in which a replica must replay what the primary has written
QUEUES_OWN = 4  # connections of a worker, beside one for each job

# Tables on which the role lacks a right, including those of Django and of the queue.
WITHOUT_RIGHTS = """
    SELECT relname FROM pg_class
    WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace
        AND NOT (has_table_privilege(oid, 'SELECT') AND (%(reads_only)s OR (
            has_table_privilege(oid, 'INSERT') AND has_table_privilege(oid, 'UPDATE')
            AND has_table_privilege(oid, 'DELETE')
        )))
    ORDER BY relname
"""
STORED_SECRETS = """
    SELECT name, NULL::uuid, encrypted_key FROM orders_supplier
    UNION ALL
    SELECT '', id, unnest(ARRAY[encrypted_secret, encrypted_old_secret])
    FROM apikeys_webhookendpoint
"""


def _server(connection: BaseDatabaseWrapper) -> Iterator[str]:
    [version] = _row(connection, "SELECT current_setting('server_version_num')::int / 10000")
    if version < OLDEST:
        yield f"PostgreSQL is version {version}: NotPanel needs {OLDEST} or newer."
    if is_embedded(connection.settings_dict["HOST"]):
        yield "The private PostgreSQL under var/ is used, which is for trying things out. Set DATABASE_URL."
    if problem := problem_of_database(connection):
        yield problem


def _hosts(connection: BaseDatabaseWrapper) -> Iterator[str]:
    """Check each host of a URL that names several: one must take writes, and the others must be able to take over."""
    names = connection.settings_dict["HOST"].split(",")
    if len(names) == 1:
        return
    takes_writes = []
    for name, port in zip(names, str(connection.settings_dict["PORT"]).split(","), strict=True):
        host = f"{name}:{port}"
        try:
            one = connect(HOST=name, PORT=port, target_session_attrs="any")
        except Unready as error:
            yield f"{host} could not take over. {error}"
            continue
        try:
            if not problem_of_database(one):
                takes_writes.append(host)
        finally:
            one.close()
    if len(takes_writes) > 1:
        yield (
            f"{' and '.join(takes_writes)} both take writes, so refills may go to either: stop the former "
            "primary at once. See docs/operations.md, Losing the database's machine."
        )


def _role(connection: BaseDatabaseWrapper) -> Iterator[str]:
    name, is_superuser, may_create, may_stage = _row(
        connection,
        """
        SELECT current_user, (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
            has_schema_privilege(current_schema(), 'CREATE'), has_database_privilege(current_database(), 'TEMPORARY')
        """,
    )
    if is_superuser and not is_embedded(connection.settings_dict["HOST"]):
        yield (
            f"The role {name} is a superuser of PostgreSQL, which NotPanel does not need: anybody who gets its "
            "password gets the whole server. Use a role that only owns the database."
        )
    if not may_create:
        yield f"The role {name} may not create tables, so `migrate` fails. Let it own the database."
    if not may_stage:
        yield f"The role {name} may not create temporary tables, so `importorders` fails. Grant it TEMPORARY."
    yield from _lacking_rights(connection, f"The role {name} may not read and write", reads_only=False)


def _time_limits(connection: BaseDatabaseWrapper) -> Iterator[str]:
    for name in missing_time_limits(connection):
        yield f"A connection has no {name}: a request could wait for ever. Run ALTER ROLE … SET {name} = …."
    for name, setting in _rows(
        connection,
        "SELECT name, setting::int FROM pg_settings"
        " WHERE name IN ('idle_in_transaction_session_timeout', 'idle_session_timeout') ORDER BY name",
    ):
        if name == "idle_in_transaction_session_timeout" and not setting:
            yield (
                f"A connection has no {name}: the locks of a client that vanished would stay for hours. "
                f"Run ALTER ROLE … SET {name} = '5min'."
            )
        if name == "idle_session_timeout" and setting:
            yield f"{name} ends connections that wait for work, so requests fail. Run ALTER ROLE … SET {name} = 0."


def _connections(connection: BaseDatabaseWrapper) -> Iterator[str]:
    [most] = _row(
        connection,
        "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int",
    )
    ours = settings.WEB_CONCURRENCY * settings.DATABASE_POOL_SIZE
    if settings.WORKER:
        ours += settings.WORKER_CONCURRENCY + QUEUES_OWN
    if ours > most and not settings.DATABASE_PGBOUNCER:
        yield (
            f"This server may open {ours} connections, and the database takes {most}. Lower WEB_CONCURRENCY or "
            "DATABASE_POOL_SIZE, raise max_connections, or use PgBouncer."
        )


def _migrations(connection: BaseDatabaseWrapper) -> Iterator[str]:
    if problem := problem_of_migrations(connection):
        yield problem


def _clock(connection: BaseDatabaseWrapper) -> Iterator[str]:
    before = timezone.now()
    [there] = _row(connection, "SELECT clock_timestamp()")
    apart = abs(there - (before + (timezone.now() - before) / 2))
    if apart > MOST_APART:
        yield (
            f"The clocks of this machine and of the database differ by {apart.total_seconds():.0f} seconds: let both "
            "follow a time server (NTP)."
        )


def _queue(connection: BaseDatabaseWrapper) -> Iterator[str]:
    figures = queue.figures(timezone.now(), connection)
    if problem := problem_of_queue(connection):
        yield problem
    elif not figures.workers:
        yield "No worker is alive: start `manage.py work`, or `manage.py serve` with WORKER=on."
    elif figures.oldest and figures.oldest > LONGEST_WAIT:
        yield (
            f"The oldest job has waited for {figures.oldest_waits}: start more workers, or find out what holds them up."
        )
    if figures.failed:
        yield f"Jobs have failed ({figures.failed}): the admin lists them, and the log says why."


def _secrets(connection: BaseDatabaseWrapper) -> Iterator[str]:
    older = 0
    for supplier, webhook, token in _rows(connection, STORED_SECRETS):
        if not token:
            continue  # that of a webhook that was removed, or that has no older one
        try:
            secrets.decrypt(token)
        except secrets.Undecipherable:
            what = f"a secret of webhook {from_uuid('whk', webhook)}" if webhook else f"the key of supplier {supplier}"
            yield (
                f"ENCRYPTION_KEYS cannot decrypt {what}: add the key that encrypted it to ENCRYPTION_KEYS (or, if that "
                "was none of them, add the SECRET_KEY of that time to SECRET_KEY_FALLBACKS)."
            )
        else:
            older += not secrets.is_by_first_key(token)
    if older:
        yield (
            f"Older keys are still needed to decrypt {older} of the stored secrets: run `manage.py encryptkeysanew` "
            "before you remove one."
        )


def _disk(connection: BaseDatabaseWrapper) -> Iterator[str]:
    # A role without the right cannot see where the files are, and a database on another machine has none here.
    for [directory] in _rows(
        connection,
        """
        SELECT setting FROM pg_settings
        WHERE name = 'data_directory'
            AND (inet_server_addr() IS NULL OR inet_server_addr() << '127.0.0.0/8' OR inet_server_addr() = '::1')
        """,
    ):
        try:
            yield from full_disks(Path(directory))
        except PermissionError:
            return


def _replica(primary: BaseDatabaseWrapper) -> Iterator[str]:
    if ALIAS not in connections:
        return
    replica = connect(ALIAS)
    try:
        [is_standby] = _row(replica, "SELECT pg_is_in_recovery()")
        if not is_standby:
            yield (
                "DATABASE_REPLICA_URL does not lead to a standby: that was promoted, or this is another server. Bring "
                "a standby back, or remove the setting."
            )
            return
        [name] = _row(replica, "SELECT current_user")
        yield from _lacking_rights(replica, f"On the replica the role {name} may not read", reads_only=True)
        [written] = _row(primary, "SELECT pg_current_wal_lsn()::text")
        until = time.monotonic() + PATIENCE
        while not _row(replica, "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", written)[0]:
            if time.monotonic() > until:
                yield (
                    f"The replica has not replayed within {PATIENCE:.0f} seconds what the primary had written: it "
                    "lags, or has lost the primary. Look at pg_stat_wal_receiver there."
                )
                return
            time.sleep(0.1)
    finally:
        replica.close()


def _lacking_rights(connection: BaseDatabaseWrapper, start: str, *, reads_only: bool) -> Iterator[str]:
    with connection.cursor() as cursor:
        cursor.execute(WITHOUT_RIGHTS, {"reads_only": reads_only})
        tables = [name for [name] in cursor.fetchall()]
    if tables:
        more = f" and {len(tables) - 3} more" if len(tables) > 3 else ""
        yield f"{start} the tables {', '.join(tables[:3])}{more}. Let it own them, or GRANT it the right."


def _row(connection: BaseDatabaseWrapper, sql: str, *parameters: str) -> tuple[Any, ...]:
    [row] = _rows(connection, sql, *parameters)
    return row


def _rows(connection: BaseDatabaseWrapper, sql: str, *parameters: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


CHECKS = (
    DatabaseCheck("database", f"PostgreSQL is {OLDEST} or newer and takes writes.", _server),
    DatabaseCheck("failover", "If DATABASE_URL names two hosts, one takes writes, the other can take over.", _hosts),
    DatabaseCheck("role", "The role has the rights that it needs, and is not a superuser.", _role),
    DatabaseCheck("time_limits", "Statements, locks and idle transactions have time limits.", _time_limits),
    DatabaseCheck("connections", "The database takes as many connections as this server opens.", _connections),
    DatabaseCheck("migrations", "All migrations are applied.", _migrations),
    DatabaseCheck("clock", "The clocks of this machine and of the database agree.", _clock),
    DatabaseCheck("queue", "A worker is alive and keeps up.", _queue),
    DatabaseCheck("secrets", "ENCRYPTION_KEYS decrypts what is stored.", _secrets),
    DatabaseCheck("database_disk", "The database's disk, where it can be seen, has room.", _disk),
    DatabaseCheck("replica", "The read replica, if there is one, follows.", _replica),
)
