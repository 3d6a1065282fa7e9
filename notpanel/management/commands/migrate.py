import random
import time
from argparse import ArgumentTypeError
from typing import Any

from django.conf import settings
from django.contrib.postgres.operations import AddIndexConcurrently
from django.core.management.base import CommandError, CommandParser
from django.core.management.commands import migrate
from django.db import OperationalError, connections
from django.db.migrations import Migration
from psycopg import errors, sql

from notpanel.server.checks import check_database

# While a migration waits for a lock of a table, every request that needs the table waits behind it. Requests are
# refused after DATABASE_LOCK_TIMEOUT, so this must be far below.
LOCK_TIMEOUT = 500  # milliseconds
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 15.0  # seconds between two attempts; they double, give or take a fifth
OF_A_LOCK = (errors.LockNotAvailable, errors.DeadlockDetected)
LEFT_BEHIND = """
    SELECT EXISTS (
        SELECT FROM pg_index
        WHERE indexrelid = to_regclass(%s)
            AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index AS build WHERE build.index_relid = indexrelid)
    )
"""


class Command(migrate.Command):
    """Migrates while the site serves: a migration that does not get its lock at once lets go, and is tried again.

    A migration in a transaction is applied whole or not at all. One that is not atomic builds indexes concurrently,
    which waits without holding others up, so its locks have no limit. If it was broken off, it begins anew.
    """

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--retry-minutes",
            type=_minutes,
            default=10.0,
            metavar="N",
            help="for how long to try again a migration that does not get a lock; default: %(default)s",
        )

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Migrate, as Django's command does, if the database can be reached. If not, say why in one sentence."""
        check_database()
        return super().execute(*args, **options)

    def handle(self, *args: Any, retry_minutes: float = 10.0, **options: Any) -> None:
        """Migrate until nothing is left, or until a lock could not be had for ``retry_minutes``."""
        self.connection = connections[options["database"]]
        deadline = time.monotonic() + retry_minutes * 60
        pause = FIRST_PAUSE
        while True:
            self.current = "A migration"
            try:
                super().handle(*args, **options)
                return
            except OperationalError as error:
                if not isinstance(error.__cause__, OF_A_LOCK):
                    raise
            finally:
                self.limit_locks("DEFAULT")
            if time.monotonic() + pause > deadline:
                raise CommandError(
                    f"{self.current} did not get its lock in {retry_minutes:g} minutes, and nothing of it was applied: "
                    "a transaction holds the table. Find it in pg_stat_activity by the oldest xact_start, let it end, "
                    "and run `manage.py migrate` again."
                )
            self.stdout.write(f" waits for a lock, and lets others pass: the next attempt is in {pause:.0f} s.")
            time.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 (no secret)
            pause = min(pause * 2, LONGEST_PAUSE)

    def migration_progress_callback(self, action: str, migration: Migration | None = None, fake: bool = False) -> None:
        """Prepare the connection for a migration that begins, and print what Django's command prints."""
        if migration and action in ("apply_start", "unapply_start"):
            self.current = f"The migration {migration}"
            self.limit_locks(f"{LOCK_TIMEOUT}" if migration.atomic else "0")
            if action == "apply_start" and not migration.atomic:
                self.drop_indexes_left_behind(migration)
        super().migration_progress_callback(action, migration, fake)

    def limit_locks(self, limit: str) -> None:
        """Set the limit on waiting for locks, in milliseconds. Behind PgBouncer the next client would get it too."""
        if not settings.DATABASE_PGBOUNCER:
            with self.connection.cursor() as cursor:
                cursor.execute(f"SET lock_timeout = {limit}")

    def drop_indexes_left_behind(self, migration: Migration) -> None:
        """Drop the indexes that an earlier attempt built or began concurrently: PostgreSQL would refuse their names."""
        for operation in migration.operations:
            if isinstance(operation, AddIndexConcurrently):
                name = sql.Identifier(operation.index.name)
                with self.connection.cursor() as cursor:
                    cursor.execute(LEFT_BEHIND, [name.as_string()])
                    if cursor.fetchone()[0]:
                        cursor.execute(sql.SQL("DROP INDEX CONCURRENTLY {}").format(name))


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = -1
    if not 0 <= minutes <= 24 * 60:
        raise ArgumentTypeError(f"“{text}” must be a number of minutes from 0 to 1440")
    return minutes
