"""A connection to a server that is lost, or no longer takes writes, is not used a second time."""

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from django.conf import settings
from django.db import (
    Error,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    close_old_connections,
    connection,
    transaction,
)

from apikeys.models import Account
from orders.models import Order
from tests import factories
from tests.server import database_url

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(settings.DATABASE_PGBOUNCER, reason="PgBouncer has the connections to the server"),
]


@pytest.fixture(autouse=True)
def _no_connection_is_kept():
    yield
    connection.close()
    connection.close_pool()


def as_a_request(work):
    """Do the work in a thread of its own, which then releases its connection as the end of a request does."""

    def run():
        try:
            return work()
        finally:
            close_old_connections()

    with ThreadPoolExecutor(1) as executor:
        return executor.submit(run).result()


def fill_the_pool(count):
    """Let the pool hold this many idle connections."""
    together = threading.Barrier(count)

    def connect():
        connection.ensure_connection()
        together.wait(10)
        connection.close()

    with ThreadPoolExecutor(count) as executor:
        for done in [executor.submit(connect) for _ in range(count)]:
            done.result()


def end_all_connections():
    """End every connection to the database, as the death of its server does."""
    with psycopg.connect(database_url(), autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def test_a_lost_server_costs_one_request_an_error_however_many_connections_led_to_it(customer):
    orders = factories.Order.create_batch(4, account=customer.account)
    connection.close()
    fill_the_pool(4)
    end_all_connections()

    answers = [as_a_request(lambda order=order: customer.post("refill", order=order.pk)) for order in orders]

    assert [answer.status_code for answer in answers] == [503, 200, 200, 200]
    assert answers[0].json() == {"error": "Service temporarily unavailable"}


def test_connections_that_are_lost_together_empty_the_pool_once(monkeypatch):
    drained = []
    monkeypatch.setattr(type(connection.pool), "drain", lambda pool: drained.append(pool))
    connected, ended = threading.Barrier(4), threading.Event()

    def lose():
        connection.ensure_connection()
        connected.wait(10)
        ended.wait(10)
        with pytest.raises(OperationalError):
            Account.objects.exists()

    with ThreadPoolExecutor(3) as executor:
        requests = [executor.submit(as_a_request, lose) for _ in range(3)]
        connected.wait(10)
        end_all_connections()
        ended.set()
        for request in requests:
            request.result()

    assert len(drained) == 1


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (psycopg.DatabaseError("sending query failed"), OperationalError),  # libpq's own
        (psycopg.ProgrammingError("the last operation didn't produce a result"), ProgrammingError),  # psycopg's own
        (psycopg.errors.UndefinedTable(), ProgrammingError),  # the server's
    ],
)
def test_an_error_with_neither_a_code_nor_a_class_means_that_the_server_crashed(error, raised):
    with pytest.raises(Error) as caught, connection.wrap_database_errors:
        raise error

    assert type(caught.value) is raised
    assert caught.value.__cause__ is error


def read_only_from_now_on():
    """Make the server refuse writes over this connection, as a server does before another one takes over."""
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")


def test_a_server_that_no_longer_takes_writes_is_left_with_a_503(customer):
    order = factories.Order(account=customer.account)

    def request():
        read_only_from_now_on()
        return customer.post("refill", order=order.pk)

    assert as_a_request(request).status_code == 503
    assert as_a_request(lambda: customer.post("refill", order=order.pk)).status_code == 200


def test_the_orm_leaves_such_a_server_too(customer):
    def write():
        read_only_from_now_on()
        with transaction.atomic():
            Order.objects.update(remains=1)

    with pytest.raises(OperationalError, match="read-only transaction"):
        as_a_request(write)

    as_a_request(lambda: Order.objects.update(remains=1))


def test_the_connection_is_closed_and_not_given_back(customer):
    connection.ensure_connection()
    postgres = connection.connection
    read_only_from_now_on()

    with pytest.raises(OperationalError):
        Account.objects.update(balance=None)

    assert postgres.closed
    with pytest.raises((OperationalError, InterfaceError)):
        Account.objects.exists()
    close_old_connections()
    assert Account.objects.exists()
