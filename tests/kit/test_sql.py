"""SQL that is written out is prepared on each connection, and readable where statements are logged."""

import gc
import os
import select
import socket
import threading
import uuid
import weakref
from datetime import UTC, datetime

import psycopg
import pytest
from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    OperationalError,
    ProgrammingError,
    close_old_connections,
    connection,
    transaction,
)
from django.db.transaction import TransactionManagementError
from django.test.utils import CaptureQueriesContext
from django.utils.connection import ConnectionDoesNotExist

from apikeys.models import Account
from notpanel.kit import sql
from tests import factories
from tests.conftest import new_customer
from tests.races import Waiting
from tests.server import database_url

real_transactions = pytest.mark.django_db(transaction=True)


def run(statement):
    """Run a statement through Django's cursor."""
    with connection.cursor() as cursor:
        cursor.execute(statement)


def prepared():
    """Return the statements that the connection has prepared."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements")
        return [row[0] for row in cursor.fetchall()]


def terminate_the_backend():
    with psycopg.connect(database_url(), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.connection.info.backend_pid])


def test_rows_come_back_in_python_types(db):
    now = datetime.now(UTC)
    parameters = {"n": 1, "t": "é", "now": now, "none": None}

    assert sql.fetch(
        "SELECT %(n)s::int + 1, %(t)s::text, %(now)s::timestamptz, %(none)s::int UNION ALL SELECT 0, '', null, 1",
        parameters,
    ) == [(2, "é", now, None), (0, "", None, 1)]


def test_parameters_travel_apart_from_the_statement(db):
    [(statement,)] = sql.fetch(
        "SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid() AND %(x)s = 42 AND %(x)s %% 2 = 0", {"x": 42}
    )

    assert "$1 = 42 AND $1 % 2 = 0" in statement


@pytest.mark.parametrize("numbers", [(1, 32_768, 2**31, 2**63 - 1), (2**63 - 1, 1), (None, 1, 32_768)])
def test_the_first_number_decides_no_type(db, numbers):
    for number in numbers:
        listed = [] if number is None else [number]
        assert sql.fetch("SELECT %(n)s::bigint, %(ns)s::bigint[]", {"n": number, "ns": listed}) == [(number, listed)]


def test_a_number_that_does_not_fit_is_refused_whole(db):
    with pytest.raises(DataError, match="out of range"):
        sql.fetch("SELECT %(n)s::int", {"n": 2**32 + 1})


def test_ids_travel_in_binary_and_there_may_be_none(db):
    ids = [uuid.uuid4() for _ in range(3)]

    for some in ([], ids, ids[:1], []):
        assert sql.fetch("SELECT %(ids)b::uuid[]", {"ids": some}) == [(some,)]


def test_a_logged_statement_shows_its_parameters(db):
    with CaptureQueriesContext(connection) as queries:
        assert sql.fetch("SELECT %(secret)s::text", {"secret": "shown"}) == [("shown",)]
        sql.execute("SET LOCAL lock_timeout = 1", {})

    assert [query["sql"] for query in queries] == ["SELECT 'shown'::text", "SET LOCAL lock_timeout = 1"]


def test_a_wrapper_of_djangos_cursors_sees_the_statement(db):
    seen = []

    def wrapper(execute, statement, *rest):
        seen.append(statement)
        return execute(statement, *rest)

    with connection.execute_wrapper(wrapper):
        assert sql.fetch("SELECT 1 AS wrapped", {}) == [(1,)]

    assert seen == ["SELECT 1 AS wrapped"]


def test_execute_takes_a_statement_without_rows(db):
    sql.execute("SELECT set_config('application_name', %(name)s, false)", {"name": "kit"})
    sql.execute("SET LOCAL application_name = 'set'", {})

    assert sql.fetch("SHOW application_name", {}) == [("set",)]


# ---- Prepared statements


def test_a_connection_prepares_a_statement_once(db):
    for number in range(3):
        sql.fetch("SELECT %(n)s::int AS prepared_once", {"n": number})

    assert prepared().count("SELECT $1::int AS prepared_once") == 1


@real_transactions
def test_each_connection_prepares_for_itself():
    statement = "SELECT 1 AS prepared_by_each"
    sql.fetch(statement, {})

    def in_a_thread():
        try:
            found.append(sql.fetch(statement, {}))
            found.append(prepared().count(statement))
        finally:
            connection.close()

    found = []
    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()

    assert found == [[(1,)], 1]
    assert prepared().count(statement) == 1


def test_nothing_is_prepared_where_psycopg_may_not_prepare(db, monkeypatch):
    """Behind PgBouncer, for example, the next transaction may get another connection."""
    connection.ensure_connection()
    monkeypatch.setattr(connection.connection, "prepare_threshold", None)

    assert sql.fetch("SELECT %(n)s::int AS unprepared", {"n": 32_768}) == [(32_768,)]
    assert not [statement for statement in prepared() if "unprepared" in statement]


@real_transactions
@pytest.mark.parametrize("command", ["DEALLOCATE ALL", "DISCARD ALL"])
def test_a_statement_that_was_deallocated_is_prepared_again(command):
    statement = "SELECT %(n)s::int AS deallocated"
    sql.fetch(statement, {"n": 1})
    run(command)

    assert sql.fetch(statement, {"n": 2}) == [(2,)]


@real_transactions
def test_a_statement_deallocated_within_a_transaction_fails_only_that_transaction():
    statement = "SELECT %(n)s::int AS deallocated_within"
    sql.fetch(statement, {"n": 1})

    @transaction.atomic
    def deallocate_and_fetch():
        run("DEALLOCATE ALL")
        sql.fetch(statement, {"n": 1})

    with pytest.raises(ProgrammingError, match="does not exist"):
        deallocate_and_fetch()

    with transaction.atomic():
        assert sql.fetch(statement, {"n": 2}) == [(2,)]


@real_transactions
def test_psycopg_deallocates_no_statement_after_a_rollback():
    """It does so once it has prepared a statement of its own."""
    statement = "SELECT %(n)s::int AS kept"
    sql.fetch(statement, {"n": 1})
    with connection.execute_wrapper(lambda execute, *rest: execute(*rest)):
        for number in range(10):
            sql.fetch("SELECT %(n)s::int AS through_a_cursor", {"n": number})

    with transaction.atomic():
        with transaction.atomic():
            run("SELECT 1")
            transaction.set_rollback(True)
        run("SELECT 1")
        assert sql.fetch(statement, {"n": 2}) == [(2,)]


@real_transactions
def test_a_column_that_changed_its_type_is_read_again():
    run("CREATE TEMPORARY TABLE changing AS SELECT 1 AS n")
    statement = "SELECT n FROM changing"
    assert sql.fetch(statement, {}) == [(1,)]
    run("ALTER TABLE changing ALTER n TYPE text")

    assert sql.fetch(statement, {}) == [("1",)]
    run("DROP TABLE changing")


@real_transactions
def test_a_statement_prepared_in_a_transaction_that_was_rolled_back_still_runs():
    statement = "SELECT %(n)s::int AS rolled_back"
    with transaction.atomic():
        sql.fetch(statement, {"n": 1})
        transaction.set_rollback(True)

    assert sql.fetch(statement, {"n": 2}) == [(2,)]
    assert prepared().count("SELECT $1::int AS rolled_back") == 1


def test_a_statement_that_could_not_be_prepared_is_prepared_when_it_can_be(db):
    statement = "SELECT n FROM not_there_yet"
    with pytest.raises(ProgrammingError, match="not_there_yet"), transaction.atomic():
        sql.fetch(statement, {})
    run("CREATE TEMPORARY TABLE not_there_yet AS SELECT 1 AS n")

    assert sql.fetch(statement, {}) == [(1,)]


def test_what_is_known_of_a_connection_goes_with_it(db):
    postgres = psycopg.connect(database_url(), autocommit=True)
    assert sql._execute(postgres, "SELECT 1 AS gone", {}) == [(1,)]
    kept = weakref.ref(postgres)
    assert postgres in sql._prepared

    postgres.close()
    del postgres
    gc.collect()

    assert kept() is None


# ---- Errors


def test_errors_are_those_of_django(db):
    with pytest.raises(DatabaseError, match="division by zero"):
        sql.fetch("SELECT 1 / 0", {})


def test_an_error_names_the_constraint(db):
    service = factories.Service()

    with pytest.raises(IntegrityError) as caught:
        sql.execute("INSERT INTO orders_service SELECT * FROM orders_service WHERE id = %(id)s", {"id": service.pk})

    assert isinstance(caught.value.__cause__, psycopg.errors.UniqueViolation)
    assert caught.value.__cause__.diag.constraint_name == "orders_service_pkey"


@pytest.mark.parametrize(
    ("limit", "statement", "cause"),
    [
        ("statement_timeout = 50", "SELECT pg_sleep(10)", psycopg.errors.QueryCanceled),
        ("lock_timeout = 50", "LOCK TABLE orders_service", psycopg.errors.LockNotAvailable),
    ],
)
@real_transactions
def test_a_time_limit_ends_a_statement(limit, statement, cause):
    @transaction.atomic
    def fetch_within_the_limit():
        run(f"SET LOCAL {limit}")
        sql.fetch(statement, {})

    with psycopg.connect(database_url()) as other:
        other.execute("LOCK TABLE orders_service")
        with pytest.raises(OperationalError) as caught:
            fetch_within_the_limit()

    assert isinstance(caught.value.__cause__, cause)
    assert sql.fetch("SELECT 1", {}) == [(1,)]


@real_transactions
def test_a_connection_that_was_closed_is_opened():
    connection.close()

    assert sql.fetch("SELECT 1", {}) == [(1,)]


@real_transactions
@pytest.mark.parametrize("in_a_transaction", [False, True])
def test_a_backend_that_was_killed_fails_one_request(in_a_transaction):
    statement = "SELECT 1 AS survivor"
    sql.fetch(statement, {})

    def ask():
        if in_a_transaction:
            with transaction.atomic():
                sql.fetch(statement, {})
                terminate_the_backend()
                sql.fetch(statement, {})
        else:
            terminate_the_backend()
            sql.fetch(statement, {})

    with pytest.raises(OperationalError):
        ask()
    close_old_connections()  # as the end of a request does

    assert sql.fetch(statement, {}) == [(1,)]
    assert not connection.in_atomic_block


@real_transactions
def test_a_server_that_vanished_silently_was_lost():
    """When PostgreSQL crashes, libpq cannot write, but reads a notice, and considers the connection intact."""
    sql.fetch("SELECT 1", {})
    run("LISTEN notice")
    with psycopg.connect(database_url(), autocommit=True) as other:
        other.execute("NOTIFY notice")
    with socket.socket(fileno=os.dup(connection.connection.fileno())) as half:
        select.select([half], [], [], 10)  # the notice has come
        half.shutdown(socket.SHUT_WR)

    with pytest.raises(OperationalError):
        sql.fetch("SELECT 1", {})
    close_old_connections()

    assert sql.fetch("SELECT 1", {}) == [(1,)]


@real_transactions
def test_the_request_after_a_killed_backend_is_answered():
    customer = new_customer()
    order = factories.Order(account=customer.account)
    assert customer.refill(0) == {"error": "Order not found"}
    terminate_the_backend()

    assert customer.post("refill", order=order.pk).status_code == 503
    close_old_connections()
    assert customer.post("refill", order=order.pk).status_code == 200


def test_the_database_is_the_one_that_was_asked_for(db):
    with pytest.raises(ConnectionDoesNotExist):
        sql.fetch("SELECT 1", {}, using="elsewhere")


def test_a_transaction_that_has_to_be_rolled_back_runs_nothing_more(db):
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(TransactionManagementError):
            sql.fetch("SELECT 1", {})


# ---- Threads


@real_transactions
def test_a_thread_that_waits_for_a_lock_holds_up_no_other():
    """While libpq waits, it must not hold the GIL, or this thread would stop until the lock's time limit."""
    service = factories.Service()
    lock = "SELECT name FROM orders_service WHERE id = %(id)s FOR UPDATE"

    with transaction.atomic():
        sql.fetch(lock, {"id": service.pk})
        waiting = Waiting(lambda: sql.fetch(lock, {"id": service.pk}))
        for number in range(100):
            assert sql.fetch("SELECT %(n)s::int", {"n": number}) == [(number,)]
        assert not waiting.is_done()

    assert waiting.result() == [(service.name,)]


# ---- Transactions, whose BEGIN is sent with the first statement


class Stop(BaseException):
    """A BaseException that is not an Exception, like KeyboardInterrupt and SystemExit."""


def names():
    """Return the names of the accounts, as another connection sees them."""
    with psycopg.connect(database_url(), autocommit=True) as other:
        return [row[0] for row in other.execute("SELECT username FROM apikeys_account ORDER BY username")]


def rename(name):
    sql.execute("UPDATE apikeys_account SET username = %(name)s WHERE username NOT LIKE '%%taken'", {"name": name})


@real_transactions
def test_a_transaction_is_committed_at_the_end_of_its_block():
    factories.Account(username="before")
    hooks = []

    with transaction.atomic():
        rename("after")
        transaction.on_commit(lambda: hooks.append(names()))
        assert (names(), hooks) == (["before"], [])

    assert names() == ["after"]
    assert hooks == [["after"]]
    assert connection.get_autocommit()
    assert not connection.in_atomic_block


@real_transactions
@pytest.mark.parametrize("error", [ZeroDivisionError, Stop])
def test_a_transaction_is_rolled_back_on_any_exception(error):
    factories.Account(username="before")
    hooks = []

    @transaction.atomic
    def rename_and_fail():
        rename("after")
        transaction.on_commit(lambda: hooks.append("run"))
        raise error

    with pytest.raises(error):
        rename_and_fail()

    assert names() == ["before"]
    assert hooks == []
    rename("later")
    assert names() == ["later"]


@real_transactions
def test_a_transaction_that_its_block_has_given_up_is_rolled_back():
    factories.Account(username="before")

    with transaction.atomic():
        rename("after")
        transaction.set_rollback(True)

    assert names() == ["before"]


@real_transactions
def test_a_transaction_that_fails_at_its_commit_is_rolled_back():
    factories.Account(username="before")
    hooks = []

    @transaction.atomic
    def rename_and_break_a_foreign_key():
        rename("after")
        transaction.on_commit(lambda: hooks.append("run"))
        sql.execute(
            "INSERT INTO apikeys_apikey (name, prefix, digest, allowed_networks, created_at, account_id)"
            " VALUES ('', 'p', 'd', '{}', now(), 0)",
            {},
        )

    with pytest.raises(IntegrityError) as caught:
        rename_and_break_a_foreign_key()

    assert isinstance(caught.value.__cause__, psycopg.errors.ForeignKeyViolation)
    assert names() == ["before"]
    assert hooks == []
    rename("later")
    assert names() == ["later"]


@real_transactions
def test_a_block_may_hold_savepoints_and_the_orm():
    factories.Account(username="before")

    with transaction.atomic():
        factories.Account(username="taken")
        rename("after")
        with pytest.raises(IntegrityError), transaction.atomic():
            rename("taken")
        assert Account.objects.filter(username="after").exists()

    assert names() == ["after", "taken"]
