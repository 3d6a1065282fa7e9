"""manage.py migrate while the site serves: nobody queues behind a migration that waits for a lock."""

import contextlib
import io
import threading
import time

import pytest
from django.conf import settings as django_settings
from django.contrib.postgres.operations import AddIndexConcurrently
from django.core.management import CommandError, call_command
from django.db import connection, connections, utils
from django.db.migrations.loader import MigrationLoader
from django.test import Client

from notpanel.management.commands import migrate
from notpanel.server.checks import connect
from tests.conftest import TIME_LIMIT, new_customer

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(django_settings.DATABASE_PGBOUNCER, reason="behind PgBouncer the database sets the limits"),
]


@pytest.fixture(autouse=True)
def _later(settings, monkeypatch):
    """Let the code have two more migrations than the database, and reverse them afterwards."""
    settings.MIGRATION_MODULES = {"notpanel": "tests.notpanel.later.migrations"}
    monkeypatch.setattr(migrate, "FIRST_PAUSE", 0.3)
    yield
    call_command("migrate", "notpanel", "zero", verbosity=0)


@pytest.fixture
def other():
    """Return another connection, in a transaction of its own."""
    other = connect()
    other.inc_thread_sharing()
    other.set_autocommit(False)
    yield other
    other.close()


def hold(other, lock):
    with other.cursor() as cursor:
        cursor.execute(lock)


def upgrade(*options):
    """Migrate. Returns what the command printed."""
    out = io.StringIO()
    call_command("migrate", "notpanel", *options, stdout=out, no_color=True)
    return out.getvalue()


def scalar(statement):
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


def test_requests_pass_while_a_migration_cannot_get_its_lock(other):
    customer = new_customer()
    printed = []

    def run():
        try:
            printed.append(upgrade())
        finally:
            connections.close_all()

    hold(other, "LOCK TABLE orders_service IN ACCESS SHARE MODE")
    migration = threading.Thread(target=run)
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '1200ms'")  # a shorter limit than in production makes a shorter test
    try:
        migration.start()
        statuses = []
        until = time.monotonic() + 2.2
        while time.monotonic() < until:
            answer = Client().post("/api/v2", {"key": customer.raw_key, "action": "status", "order": 1})
            statuses.append(answer.status_code)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET lock_timeout")
        other.rollback()
        migration.join(30)

    assert set(statuses) == {400}
    assert "Applying notpanel.0001_column... waits for a lock, and lets others pass" in printed[0]
    assert "Applying notpanel.0001_column... OK" in printed[0]
    assert "later" in [
        column.name for column in connection.introspection.get_table_description(connection.cursor(), "orders_service")
    ]


def test_the_command_gives_up_with_a_sentence_and_has_applied_nothing(other):
    hold(other, "LOCK TABLE orders_service IN ACCESS SHARE MODE")

    with pytest.raises(CommandError, match=r"The migration notpanel\.0001_column did not get its lock in 0 minutes"):
        upgrade("--retry-minutes=0")

    assert scalar("SELECT to_regclass('notpanel_thing') IS NULL")
    assert scalar("SHOW lock_timeout") == TIME_LIMIT


def test_an_index_is_built_concurrently_however_long_a_transaction_lasts(other):
    upgrade("0001")
    hold(other, "INSERT INTO notpanel_thing (number) VALUES (1)")
    end = threading.Timer(3 * migrate.LOCK_TIMEOUT / 1000, other.commit)
    end.start()

    printed = upgrade()
    end.join()

    assert "waits for a lock" not in printed
    assert scalar("SELECT indisvalid AND NOT indisunique FROM pg_index WHERE indexrelid = 'thing_number'::regclass")


@pytest.mark.parametrize("rows", ["(1), (1)", "(1), (2)"], ids=["broken", "built"])
def test_what_a_broken_off_attempt_left_of_an_index_is_replaced(rows):
    upgrade("0001")
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO notpanel_thing (number) VALUES {rows}")
        with contextlib.suppress(utils.IntegrityError):
            cursor.execute("CREATE UNIQUE INDEX CONCURRENTLY thing_number ON notpanel_thing (number)")
    assert scalar("SELECT to_regclass('thing_number') IS NOT NULL")

    upgrade()

    assert scalar("SELECT indisvalid AND NOT indisunique FROM pg_index WHERE indexrelid = 'thing_number'::regclass")


def test_a_migration_that_is_not_atomic_can_begin_anew():
    """Before its last operation it does only what `migrate` undoes when the migration is tried again."""
    ours = ("apikeys", "orders", "refills")
    others = [
        (key, operation)
        for key, migration in MigrationLoader(None).disk_migrations.items()
        if key[0] in ours and not migration.atomic
        for operation in migration.operations[:-1]
        if not isinstance(operation, AddIndexConcurrently)
    ]

    assert others == []
