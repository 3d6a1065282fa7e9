"""What is read from the replica, what from the primary, and what happens when the replica lags or fails."""

import re

import psycopg
import pytest
from django.core.management import call_command
from django.db import InterfaceError, OperationalError, connection, connections, router, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apikeys.models import Account
from notpanel.kit import replica
from notpanel.kit.circuit_breaker import CircuitBreaker
from orders.models import Order, Service
from refills.models import Refill
from refills.statuses import RefillStatus
from tests import factories
from tests.conftest import new_customer, settle
from tests.server import free_port

pytestmark = pytest.mark.django_db(transaction=True)

LISTS = "admin:refills_refill_changelist", "admin:orders_order_changelist"


@pytest.fixture
def add_replica(settings, monkeypatch):
    """Add a replica to the settings, and return its connection: the tests' own database, reached with ``changes``."""

    def add(**changes):
        options = {name: value for name, value in connection.settings_dict["OPTIONS"].items() if name != "pool"}
        connections.settings[replica.ALIAS] = connection.settings_dict | {"OPTIONS": options} | changes
        settings.DATABASE_ROUTERS = ["notpanel.kit.replica.Router"]
        monkeypatch.setattr(replica, "breaker", CircuitBreaker(replica.REST, "replica"))
        return connections[replica.ALIAS]

    yield add
    if replica.ALIAS in connections:
        connections[replica.ALIAS].close()
        del connections[replica.ALIAS]
        del connections.settings[replica.ALIAS]


@pytest.fixture
def connected(add_replica):
    added = add_replica()
    added.connect()  # Django's tests block new connections, unless they are made here
    return added


@pytest.fixture
def pause_replica(connected):
    """Return a function that pauses the replica: later changes do not reach it."""

    def stop():
        with connected.cursor() as cursor:
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            cursor.execute("SELECT 1 FROM orders_order")

    return stop


def tables_read_from(alias, call):
    """Return the first table of each statement that ``call`` sends to the database ``alias``, and its result."""
    with CaptureQueriesContext(connections[alias]) as queries:
        result = call()
    return {match[1] for query in queries if (match := re.search(r' FROM "?(\w+)', query["sql"]))}, result


@pytest.fixture
def customer():
    return new_customer()


@pytest.fixture
def agent():
    """The browser of an agent who is signed in."""
    client = Client()
    client.force_login(factories.Account(username="agent", is_staff=True, is_superuser=True))
    return client


def test_status_and_services_are_read_from_the_replica(customer, connected):
    order = factories.Order(account=customer.account)

    assert tables_read_from("replica", lambda: customer.post("status", order=order.pk))[0] == {"orders_order"}
    assert tables_read_from("replica", lambda: customer.post("services"))[0] == {"orders_catalogue", "orders_service"}
    assert tables_read_from("default", lambda: customer.post("status", order=order.pk))[0] == {"apikeys_apikey"}
    assert tables_read_from("default", lambda: customer.post("services"))[0] == {"apikeys_apikey"}


def test_status_and_services_may_be_stale(customer, pause_replica):
    order = factories.Order(account=customer.account, status="partial")
    pause_replica()
    Order.objects.update(status="completed")
    Service.objects.update(active=False)

    assert customer.post("status", order=order.pk).json()["status"] == "partial"
    assert len(customer.post("services").json()) == 1


def test_a_refill_and_its_status_are_read_from_the_primary(customer, pause_replica):
    """A customer sees a new refill at once, and a refill is judged by the current rows."""
    pause_replica()
    order = factories.Order(account=customer.account)

    refill = customer.refill(order)["refill"]

    assert customer.post("refill_status", refill=refill).json() == {"status": "pending"}
    settle([refill], RefillStatus.COMPLETED, factories.Account())
    assert customer.post("refill_status", refill=refill).json() == {"status": "completed"}
    assert tables_read_from("replica", lambda: customer.post("refill_status", refill=refill))[0] == set()
    assert tables_read_from("replica", lambda: customer.refill(order))[0] == set()


def test_a_key_and_its_account_are_read_from_the_primary(customer, pause_replica):
    pause_replica()
    Account.objects.filter(pk=customer.account.pk).update(is_active=False)
    assert customer.post("services").status_code == 403

    call_command("revokeapikey", customer.api_key.prefix, verbosity=0)
    assert customer.post("services").status_code == 401


@pytest.mark.parametrize("name", LISTS)
def test_the_lists_of_the_staff_are_read_from_the_replica(agent, connected, name):
    factories.Refill()
    of_the_replica = {"refills_refill", "orders_order", "orders_service"}

    tables, response = tables_read_from("replica", lambda: agent.get(reverse(name)))

    assert response.status_code == 200
    assert tables
    assert tables <= of_the_replica
    others, _ = tables_read_from("default", lambda: agent.get(reverse(name)))
    assert {"django_session", "apikeys_account"} <= others
    assert not others & tables


def test_a_refills_page_is_read_from_the_primary(agent, connected):
    refill = factories.Refill()

    tables, response = tables_read_from("replica", lambda: agent.get(f"/admin/refills/refill/{refill.pk}/change/"))

    assert (response.status_code, tables) == (200, set())


def queue(agent):
    """Return the ids of the refills in flight, as the list shows them."""
    return [refill.pk for refill in agent.get("/admin/refills/refill/").context["cl"].result_list]


def test_an_agent_sees_their_own_settlement_at_once_and_others_soon(agent, pause_replica):
    refill, other = factories.Refill.create_batch(2)
    pause_replica()
    colleague = Client()
    colleague.force_login(factories.Account(is_staff=True, is_superuser=True))
    assert queue(agent) == [refill.pk, other.pk]

    agent.post(f"/admin/refills/refill/{refill.pk}/settle/", {"to": "completed"})

    assert queue(agent) == [other.pk]
    assert queue(colleague) == [refill.pk, other.pk]
    # Even so the colleague cannot settle it a second time, and is told who settled it.
    colleague.post(f"/admin/refills/refill/{refill.pk}/settle/", {"to": "rejected", "note": "no"})
    assert Refill.objects.get(pk=refill.pk).status == "completed"
    assert queue(colleague) == [other.pk]


@pytest.mark.parametrize("cookie", ["", "0/0", "FFFFFFFF/FFFFFFFF", "'; SELECT 1; --", "0/0 "])
def test_a_forged_cookie_does_no_harm(agent, pause_replica, cookie):
    refill = factories.Refill()
    pause_replica()
    agent.cookies[replica.COOKIE] = cookie

    assert queue(agent) == [refill.pk]


def test_a_transaction_reads_from_the_primary(pause_replica):
    @replica.reads_may_lag
    def names():
        return list(Service.objects.values_list("name", flat=True))

    factories.Service(name="old")
    pause_replica()
    Service.objects.update(name="new")

    assert names() == ["old"]
    with transaction.atomic():
        assert names() == ["new"]
    assert list(Service.objects.values_list("name", flat=True)) == ["new"]


def test_writes_go_to_the_primary_wherever_the_row_was_read(pause_replica):
    @replica.reads_may_lag
    def read():
        return Service.objects.get()

    factories.Service(name="old")
    service = read()
    service.name = "new"
    service.save()

    assert service._state.db == "default"
    assert Service.objects.get().name == "new"


def test_what_may_lag_still_writes_to_the_primary(connected):
    assert replica.reads_may_lag(lambda: router.db_for_read(Service))() == replica.ALIAS
    assert replica.reads_may_lag(lambda: router.db_for_write(Service))() == "default"


def test_a_row_from_the_replica_may_be_referred_to(customer, connected):
    factories.Service()
    service = replica.reads_may_lag(Service.objects.all().get)()
    assert service._state.db == replica.ALIAS

    assert Order(account=customer.account, service=service).service is service


def test_a_failed_replica_is_not_asked_for_a_while(customer, agent, add_replica, monkeypatch, caplog):
    gone = add_replica(HOST="127.0.0.1", PORT=str(free_port()))
    order = factories.Order(account=customer.account)
    attempts = []

    monkeypatch.setattr(gone, "ensure_connection", lambda: (attempts.append(1), _refuse(gone)))

    answers = [customer.post("status", order=order.pk), customer.post("services"), agent.get(reverse(LISTS[0]))]

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert len(attempts) == 1
    assert caplog.text.count("The replica did not answer") == 1

    monkeypatch.setattr(replica.breaker, "_open_until", 1.0)  # the rest is over

    assert customer.post("status", order=order.pk).status_code == 200
    assert len(attempts) == 2


@pytest.mark.parametrize("query", ["", "?category=Followers", "?q=1", "?q=x", "?account=x&status=pending"])
def test_a_list_is_complete_when_the_replica_fails(agent, add_replica, monkeypatch, query):
    gone = add_replica(HOST="127.0.0.1", PORT=str(free_port()))
    refill = factories.Refill(number=1, order__link="x", order__account__username="x")
    monkeypatch.setattr(gone, "ensure_connection", lambda: _refuse(gone))

    response = agent.get(reverse(LISTS[0]) + query)

    assert [shown.pk for shown in response.context["cl"].result_list] == [refill.pk]


def _refuse(gone):
    with gone.wrap_database_errors:
        gone.connect()


@pytest.mark.parametrize(
    ("error", "is_failure"),
    [
        (psycopg.OperationalError, True),
        (psycopg.InterfaceError, True),
        (psycopg.errors.SerializationFailure, False),  # it had to remove rows that were being read
    ],
)
def test_the_primary_answers_for_a_replica_that_fails(connected, error, is_failure):
    read_from = []

    @replica.reads_may_lag
    def read():
        read_from.append(router.db_for_read(Service))
        if read_from[-1] == replica.ALIAS:
            with connected.wrap_database_errors:
                raise error
        return "answer"

    assert read() == "answer"
    assert read_from == [replica.ALIAS, "default"]
    assert replica.breaker.is_open == is_failure


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("error", [psycopg.OperationalError, psycopg.InterfaceError])
def test_a_failure_of_the_primary_is_not_the_replicas(connected, error, earlier):
    connected.errors_occurred = earlier
    calls = []

    @replica.reads_may_lag
    def read():
        calls.append(Service.objects.count())
        with connection.wrap_database_errors:
            raise error

    with pytest.raises((OperationalError, InterfaceError)):
        read()

    assert calls == [0]
    assert not replica.breaker.is_open
    assert connected.errors_occurred == earlier
    connection.errors_occurred = False


def test_a_replica_that_is_back_is_used_again(customer, connected, monkeypatch):
    monkeypatch.setattr(replica.breaker, "_open_until", 1.0)

    assert tables_read_from("replica", lambda: customer.post("services"))[0] == {"orders_catalogue", "orders_service"}
    assert not replica.breaker.is_open


def test_a_statement_that_timed_out_is_not_repeated(connected):
    calls = []

    @replica.reads_may_lag
    def slow():
        calls.append(1)
        with connections[replica.ALIAS].cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("SET LOCAL statement_timeout = 1")
            cursor.execute("SELECT pg_sleep(5)")

    with pytest.raises(Exception, match="statement timeout"):
        slow()
    assert len(calls) == 1


def test_without_a_replica_there_is_no_router_and_no_cookie(customer, agent, settings):
    refill = factories.Refill()
    response = agent.post(f"/admin/refills/refill/{refill.pk}/settle/", {"to": "completed"})

    assert settings.DATABASE_ROUTERS == []
    assert list(connections) == ["default"]
    assert replica.COOKIE not in response.cookies
