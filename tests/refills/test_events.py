"""What is recorded for customers' webhooks, and when: together with the change, and only if the change stands."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from apikeys.models import WebhookDelivery
from apikeys.webhooks.models import EVENTS
from refills.models import Refill, Transition
from refills.reopening import reopen, undo
from refills.requesting import request_refills
from refills.statuses import RefillStatus
from tests import factories
from tests.conftest import settle
from tests.races import Waiting
from tests.work import counted, round_trips_to_postgresql

pytestmark = pytest.mark.django_db(transaction=True)

NOON = datetime(2026, 5, 1, 12, 0, 0, 123_456, tzinfo=UTC)


@pytest.fixture
def endpoint():
    return factories.WebhookEndpoint()


@pytest.fixture
def refill(endpoint):
    return factories.Refill(order__account=endpoint.account, created_at=NOON - timedelta(hours=1))


def told(endpoint=None):
    """Return the deliveries, the oldest first."""
    deliveries = WebhookDelivery.objects.order_by("created_at")
    return list(deliveries.filter(endpoint=endpoint) if endpoint else deliveries)


def types(endpoint=None):
    return [delivery.type for delivery in told(endpoint)]


def jobs():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT scheduled_at FROM procrastinate_jobs WHERE task_name = 'apikeys.tasks.deliver_webhooks' ORDER BY id"
        )
        return [at for (at,) in cursor.fetchall()]


@pytest.fixture(autouse=True)
def _no_jobs(transactional_db):
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")


def attempt(*types):
    """Pretend that a worker has begun to deliver events of these types."""
    WebhookDelivery.objects.filter(type__in=types).update(attempted_at=timezone.now(), attempts=1)


# ---- Requests


def test_a_request_is_reported_with_the_ids_that_customers_see(endpoint, time_machine):
    time_machine.move_to(NOON, tick=False)
    order = factories.Order(account=endpoint.account)

    [(refill_id, _)] = request_refills(endpoint.account_id, [order.pk])

    refill = Refill.objects.get()
    [delivery] = told()
    assert json.loads(delivery.body) == {
        "type": "refill.requested",
        "timestamp": "2026-05-01T12:00:00.123Z",
        "data": {
            "refill": refill_id,
            "number": refill.number,
            "order": order.pk,
            "order_number": order.number,
            "status": "pending",
        },
    }
    assert (delivery.endpoint, delivery.state, delivery.next_at, delivery.attempts) == (endpoint, "waiting", NOON, 0)
    assert jobs() == [None]


def test_a_batch_is_reported_row_by_row_and_wakes_the_worker_once(endpoint):
    orders = factories.Order.create_batch(100, account=endpoint.account)
    refused = factories.Order(account=endpoint.account, status="pending")

    request_refills(endpoint.account_id, [order.pk for order in [*orders, refused, orders[0]]])

    bodies = [json.loads(delivery.body)["data"] for delivery in told()]
    assert {(data["order"], data["order_number"]) for data in bodies} == {(each.pk, each.number) for each in orders}
    assert {data["refill"] for data in bodies} == set(Refill.objects.values_list("pk", flat=True))
    assert len(bodies) == 100
    assert jobs() == [None]


def test_a_request_without_an_endpoint_records_nothing(endpoint):
    order = factories.Order()

    request_refills(order.account_id, [order.pk])

    assert (told(), jobs()) == ([], [])


@pytest.mark.parametrize("endpoints", [0, 5])
@pytest.mark.parametrize("count", [1, 100])
def test_webhooks_cost_a_request_no_extra_statement(endpoints, count):
    account = factories.Account()
    orders = [order.pk for order in factories.Order.create_batch(2 * count + 1, account=account)]
    factories.WebhookEndpoint.create_batch(endpoints, account=account)
    request_refills(account.pk, [orders.pop()])  # prepares the statements
    one, another = orders[:count], orders[count:]

    with counted() as work:
        request_refills(account.pk, one)

    # BEGIN, the orders, their refills, the insert, COMMIT
    assert work.statements == 5
    assert round_trips_to_postgresql(lambda: request_refills(account.pk, another)) == 5
    assert len(told()) == (2 * count + 1) * endpoints


def test_nothing_is_reported_if_the_request_is_rolled_back(endpoint):
    order = factories.Order(account=endpoint.account)

    with transaction.atomic():
        request_refills(endpoint.account_id, [order.pk])
        transaction.set_rollback(True)

    assert (told(), jobs()) == ([], [])


def test_each_endpoint_gets_what_it_asked_for(endpoint):
    account = endpoint.account
    all_but_one = factories.WebhookEndpoint(account=account, events=EVENTS[1:])
    paused = factories.WebhookEndpoint(account=account, state="paused")
    off = factories.WebhookEndpoint(account=account, state="off", off_because="gone", ended_at=timezone.now())
    removed = factories.WebhookEndpoint(
        account=account, state="removed", ended_at=timezone.now(), encrypted_secret="", url="https://removed.example/"
    )

    request_refills(account.pk, [factories.Order(account=account).pk])

    assert {each.pk: len(told(each)) for each in (endpoint, all_but_one, paused, off, removed)} == {
        endpoint.pk: 1,
        all_but_one.pk: 0,
        paused.pk: 1,
        off.pk: 0,
        removed.pk: 0,
    }


def test_one_job_is_enough_while_it_waits(endpoint):
    for order in factories.Order.create_batch(3, account=endpoint.account):
        request_refills(endpoint.account_id, [order.pk])

    assert jobs() == [None]


# ---- Changes of status


@pytest.mark.parametrize("to", [RefillStatus.APPROVED, RefillStatus.COMPLETED, RefillStatus.REJECTED])
def test_an_agents_change_is_reported_once_it_cannot_be_undone(endpoint, refill, staff, to, time_machine, settings):
    time_machine.move_to(NOON, tick=False)

    settle([refill.pk], to, staff)

    [delivery] = told()
    undoable = NOON + timedelta(seconds=settings.UNDO_SECONDS)
    assert (delivery.type, delivery.next_at, json.loads(delivery.body)["data"]["status"]) == (
        f"refill.{to}",
        undoable,
        to,
    )
    assert json.loads(delivery.body)["timestamp"] == "2026-05-01T12:00:00.123Z"
    assert jobs() == [undoable]


def test_a_rejection_has_its_reason_and_a_completion_its_units(endpoint, staff):
    one, another = factories.Refill.create_batch(2, order__account=endpoint.account)

    settle([one.pk], RefillStatus.REJECTED, staff, words="Nothing has dropped.")
    settle([another.pk], RefillStatus.COMPLETED, staff, delivered=7)

    rejected, completed = (json.loads(delivery.body)["data"] for delivery in told())
    assert (rejected["reason"], "delivered" in rejected) == ("Nothing has dropped.", False)
    assert (completed["delivered"], "reason" in completed) == (7, False)


def test_a_suppliers_change_is_reported_at_once(endpoint, refill, staff, time_machine):
    time_machine.move_to(NOON, tick=False)

    settle([refill.pk], RefillStatus.COMPLETED, staff, via=Transition.Via.SUPPLIER)

    assert told()[0].next_at == NOON


def test_a_settlement_is_reported_to_the_accounts_of_its_refills(endpoint, staff):
    other = factories.WebhookEndpoint()
    mine, theirs, nobodys = (
        factories.Refill(order__account=account) for account in (endpoint.account, other.account, factories.Account())
    )

    settle([mine.pk, theirs.pk, nobodys.pk], RefillStatus.COMPLETED, staff)

    assert [json.loads(delivery.body)["data"]["refill"] for delivery in told(endpoint)] == [mine.pk]
    assert [json.loads(delivery.body)["data"]["refill"] for delivery in told(other)] == [theirs.pk]


# ---- Taking back


def test_what_is_undone_in_time_is_never_reported(endpoint, refill, staff):
    request_refills(endpoint.account_id, [factories.Order(account=endpoint.account).pk])
    settle([refill.pk], RefillStatus.COMPLETED, staff)

    undo([refill.pk], staff)

    assert types() == ["refill.requested"]


def test_what_may_have_been_reported_is_followed_by_its_reopening(endpoint, refill, staff):
    """The worker began to deliver it between the judgement of the undo and its commit."""
    settle([refill.pk], RefillStatus.COMPLETED, staff)
    attempt("refill.completed")

    undo([refill.pk], staff)

    assert types() == ["refill.completed", "refill.reopened"]
    assert json.loads(told()[1].body)["data"]["status"] == "pending"


def test_a_reported_approval_is_followed_by_the_reopening_of_an_unreported_settlement(endpoint, refill, staff):
    settle([refill.pk], RefillStatus.APPROVED, staff, via=Transition.Via.SUPPLIER)
    attempt("refill.approved")
    settle([refill.pk], RefillStatus.COMPLETED, staff)

    undo([refill.pk], staff)

    assert types() == ["refill.approved", "refill.reopened"]


def test_a_refill_whose_reopening_was_reported_last_is_not_reopened_again(endpoint, refill, staff):
    settle([refill.pk], RefillStatus.COMPLETED, staff)
    attempt("refill.completed")
    reopen([refill.pk], staff, "by mistake")
    attempt("refill.reopened")
    settle([refill.pk], RefillStatus.REJECTED, staff)

    undo([refill.pk], staff)

    assert types() == ["refill.completed", "refill.reopened"]


def test_the_reopening_of_an_old_settlement_is_reported(endpoint, staff):
    """Its own deliveries may be deleted by then, or the endpoint newer than it."""
    old = factories.Refill(order__account=endpoint.account, status="completed")

    reopen([old.pk], staff, "by mistake")

    assert types() == ["refill.reopened"]
    assert jobs() == [None]


def test_an_undo_waits_for_the_worker_that_begins_to_deliver(endpoint, refill, staff):
    """Whichever comes first, the customer is never left with a settlement that was taken back."""
    settle([refill.pk], RefillStatus.COMPLETED, staff)

    with transaction.atomic():
        attempt("refill.completed")
        waiting = Waiting(lambda: undo([refill.pk], staff))
    waiting.result()

    assert types() == ["refill.completed", "refill.reopened"]
