"""The rules of a refill hold under races, with threads and real transactions."""

import random
import threading
import time

import pytest
from django.db import connection, transaction
from django.urls import reverse
from django.utils import timezone

from apikeys.keys import revoke_api_key
from notpanel.kit.refusals import Refusal
from orders.models import Order
from refills.desk import claim_next
from refills.models import Refill
from refills.reopening import reopen, undo
from refills.requesting import RequestedRefill, lock_orders, request_refills
from refills.settlement import claim
from refills.statuses import IN_FLIGHT, RefillStatus
from tests import factories
from tests.conftest import TIME_LIMIT, new_customer, settle
from tests.races import MARKS, Waiting, race

pytestmark = MARKS


def test_fifty_requests_for_one_order_make_one_refill():
    customer = new_customer()
    order = factories.Order(account=customer.account)

    answers = race([lambda: customer.refill(order)] * 50)

    assert sum("refill" in answer for answer in answers) == 1
    assert {answer["error"] for answer in answers if "error" in answer} == {
        "A refill request is already pending for this order"
    }
    assert Refill.objects.filter(order=order).count() == 1


def test_fifty_requests_for_the_last_refill_never_exceed_the_cap():
    """Another thread completes each refill at once, so that several requests could be accepted in turn."""
    staff = factories.Account(is_staff=True)
    order = factories.Order()
    factories.Refill.create_batch(2, order=order, status="completed", staff=staff)
    ready = threading.Event()

    def request():
        ready.wait()
        [outcome] = request_refills(order.account_id, [order.pk])
        return outcome

    def complete():
        ready.set()
        for _ in range(50):
            settle(
                Refill.objects.filter(order=order, status__in=IN_FLIGHT).values_list("pk", flat=True),
                RefillStatus.COMPLETED,
                staff,
            )

    outcomes = race([complete, *[request] * 50])[1:]

    assert sum(isinstance(outcome, RequestedRefill) for outcome in outcomes) == 1
    assert Refill.objects.filter(order=order).exclude(status="rejected").count() == 3


def test_rejections_during_requests_never_let_the_cap_be_exceeded():
    staff = factories.Account(is_staff=True)
    order = factories.Order(service__refill_limit=2)
    dice = random.Random(1)

    def request():
        for _ in range(10):
            request_refills(order.account_id, [order.pk])

    def settle_all():
        for _ in range(40):
            waiting = Refill.objects.filter(order=order, status__in=IN_FLIGHT).values_list("pk", flat=True)
            settle(waiting, dice.choice([RefillStatus.COMPLETED, RefillStatus.REJECTED]), staff, "no")

    race([*[request] * 10, settle_all, settle_all])

    assert Refill.objects.filter(order=order).exclude(status="rejected").count() <= 2


def test_batches_that_overlap_in_opposite_orders_never_deadlock():
    customer = new_customer()
    service = factories.Service()
    ids = [order.pk for order in factories.Order.create_batch(100, account=customer.account, service=service)]
    numbers = [str(number) for number in Order.objects.values_list("number", flat=True)]

    def batch(orders):
        return lambda: customer.post("refill", orders=",".join(orders)).json()

    batches = [batch(ids), batch(ids[::-1]), batch(numbers), batch(numbers[::-1])] * 5
    answers = race(batches)

    assert all(len(rows) == 100 for rows in answers)
    assert sum("refill" in row for rows in answers for row in rows) == 100
    assert Refill.objects.count() == 100


def test_a_request_locks_its_orders_and_not_their_service():
    customer = new_customer()
    service = factories.Service()
    held, free = factories.Order.create_batch(2, account=customer.account, service=service)

    with transaction.atomic():
        lock_orders(customer.account.pk, [held.pk])
        [answer] = race([lambda: customer.refill(free)])

    assert "refill" in answer


def test_orders_are_locked_in_the_order_of_their_ids():
    """A request that waits for the lowest id holds no other lock yet, wherever the ids stand in table or request."""
    customer = new_customer()
    low, high = sorted(factories.Order.build().pk for _ in range(2))
    last, first = (factories.Order(pk=pk, account=customer.account) for pk in (high, low))

    with transaction.atomic():
        lock_orders(customer.account.pk, [first.pk])
        batch = Waiting(lambda: customer.post("refill", orders=f"{last.pk},{first.pk}").json())
        assert Order.objects.select_for_update(nowait=True).get(pk=last.pk)

    assert all("refill" in row for row in batch.result())


def test_a_request_waits_for_the_lock_on_its_order_and_then_sees_the_new_refill():
    customer = new_customer()
    order = factories.Order(account=customer.account)

    with transaction.atomic():
        lock_orders(customer.account.pk, [order.pk])
        request = Waiting(lambda: customer.refill(order))
        factories.Refill(order=order)

    assert request.result() == {"error": "A refill request is already pending for this order"}


def test_a_request_that_waited_for_a_change_of_its_order_judges_the_changed_order():
    customer = new_customer()
    order = factories.Order(account=customer.account)

    with transaction.atomic():
        Order.objects.filter(pk=order.pk).update(status="refunded")
        request = Waiting(lambda: customer.refill(order))

    assert request.result() == {"error": "Refill only available for completed or partial orders"}


def test_a_refill_requested_while_another_is_being_settled_waits_for_nothing():
    """The settlement is not committed: the earlier refill is still in flight, and the request says so."""
    customer, staff = new_customer(), factories.Account()
    order = factories.Order(account=customer.account)
    refill = factories.Refill(order=order)
    settling, requested = threading.Event(), threading.Event()

    def settle_slowly():
        with transaction.atomic():
            settle([refill.pk], RefillStatus.COMPLETED, staff)
            settling.set()
            requested.wait()

    def request():
        settling.wait()
        try:
            return customer.refill(order)
        finally:
            requested.set()

    _, during = race([settle_slowly, request])

    assert during == {"error": "A refill request is already pending for this order"}
    assert "refill" in customer.refill(order)


def test_requests_and_settlements_of_the_same_orders_never_deadlock():
    customer, staff = new_customer(), factories.Account()
    service = factories.Service(refill_limit=1000)
    orders = factories.Order.create_batch(20, account=customer.account, service=service)
    ids = [order.pk for order in orders]

    def request(these):
        def call():
            for _ in range(5):
                request_refills(customer.account.pk, these)

        return call

    def settle_all(step):
        def call():
            for _ in range(10):
                waiting = list(Refill.objects.filter(status__in=IN_FLIGHT).order_by("id").values_list("pk", flat=True))
                settle(waiting[::step], RefillStatus.COMPLETED, staff)

        return call

    race([request(ids), request(ids[::-1]), request(ids), settle_all(1), settle_all(-1), settle_all(1)])

    in_flight = Refill.objects.filter(status__in=IN_FLIGHT).values_list("order", flat=True)
    assert len(in_flight) == len(set(in_flight))


def test_refills_are_locked_in_the_order_of_their_ids():
    """A settlement that waits for the lowest id holds no other lock yet, wherever the ids stand."""
    staff = factories.Account(is_staff=True)
    low, high = sorted(factories.Refill.build().pk for _ in range(2))
    last, first = (factories.Refill(pk=pk) for pk in (high, low))

    with transaction.atomic():
        Refill.objects.select_for_update().get(pk=first.pk)
        settlement = Waiting(lambda: settle([last.pk, first.pk], RefillStatus.COMPLETED, staff))
        assert Refill.objects.select_for_update(nowait=True).get(pk=last.pk)

    assert len(settlement.result().done) == 2


def test_two_staff_settle_the_same_refills_once_and_the_second_is_told_who_did():
    ann, bob = factories.Account(username="ann"), factories.Account(username="bob")
    refill = factories.Refill()

    with transaction.atomic():
        settle([refill.pk], RefillStatus.COMPLETED, ann)
        second = Waiting(lambda: settle([refill.pk], RefillStatus.REJECTED, bob, "no"))

    settlement = second.result()
    assert settlement.done == []
    assert settlement.refused[refill.pk].text.startswith("completed by ann at ")
    refill.refresh_from_db()
    assert (refill.status, refill.settled_by, refill.note) == ("completed", ann, "")


def test_fifty_staff_settle_a_refill_once():
    staff = factories.Account.create_batch(25)
    refill = factories.Refill()

    settlements = race(
        [
            lambda by=by, to=to: settle([refill.pk], to, by, "no")
            for by in staff
            for to in (RefillStatus.COMPLETED, RefillStatus.REJECTED)
        ]
    )

    assert sum(len(settlement.done) for settlement in settlements) == 1


def test_a_request_whose_key_is_revoked_meanwhile_is_finished():
    customer = new_customer()
    order, another = factories.Order.create_batch(2, account=customer.account)

    with transaction.atomic():
        lock_orders(customer.account.pk, [order.pk])
        under_way = Waiting(lambda: customer.refill(order))
        # The request under way has passed the check of its key and is finished. The next one is refused.
        race([lambda: revoke_api_key(customer.api_key)])
        refused = race([lambda: customer.refill(another)])

    assert "refill" in under_way.result()
    assert refused == [{"error": "Invalid API key"}]
    assert list(Refill.objects.values_list("order", flat=True)) == [order.pk]


@pytest.fixture
def short_lock_timeout(monkeypatch):
    """Requests of this test wait 100 ms for a lock; those of others as long as before."""
    from refills import requesting

    locking = requesting.lock_orders

    def lock_soon(*args):
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = 100")
        return locking(*args)

    monkeypatch.setattr(requesting, "lock_orders", lock_soon)


def test_a_request_that_cannot_get_its_lock_gets_503_and_writes_nothing(short_lock_timeout):
    customer = new_customer()
    orders = factories.Order.create_batch(3, account=customer.account, service=factories.Service())

    with transaction.atomic():
        lock_orders(customer.account.pk, [orders[1].pk])
        [response] = race([lambda: customer.post("refill", orders=",".join(order.pk for order in orders))])

    assert (response.status_code, response.json()) == (503, {"error": "Service temporarily unavailable"})
    assert response["Retry-After"]
    assert not Refill.objects.exists()


def test_the_time_limits_are_set_on_every_connection():
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('lock_timeout'), current_setting('statement_timeout')")
        assert cursor.fetchone() == (TIME_LIMIT, TIME_LIMIT)


def test_a_request_gets_503_when_a_statement_takes_too_long(monkeypatch):
    customer = new_customer()
    order = factories.Order(account=customer.account)
    from refills import requesting

    def take_long(order_ids):
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 50")
            cursor.execute("SELECT pg_sleep(5)")

    monkeypatch.setattr(requesting, "tally_refills", take_long)

    response = customer.post("refill", order=order.pk)

    assert response.status_code == 503
    assert not Refill.objects.exists()


def test_outcomes_are_refills_or_refusals():
    order = factories.Order()

    assert isinstance(request_refills(order.account_id, [order.pk])[0], RequestedRefill)
    assert isinstance(request_refills(order.account_id, [order.pk])[0], Refusal)


def test_one_of_several_agents_who_take_a_refill_at_once_gets_it():
    staff = factories.Account.create_batch(20)
    refill = factories.Refill()

    outcomes = race([lambda by=by: claim([refill.pk], by) for by in staff])

    [winner] = [by for by, outcome in zip(staff, outcomes, strict=True) if outcome.done]
    refill.refresh_from_db()
    assert refill.claimed_by == winner


def test_a_refill_that_is_being_taken_is_not_settled_by_a_colleague():
    ann, bob = factories.Account(username="ann"), factories.Account(username="bob")
    refill = factories.Refill()

    with transaction.atomic():
        claim([refill.pk], ann)
        colleague = Waiting(lambda: settle([refill.pk], RefillStatus.COMPLETED, bob))

    assert colleague.result().refused[refill.pk].text.startswith("taken by ann at ")
    refill.refresh_from_db()
    assert refill.status == "pending"


def test_an_undo_and_a_new_request_never_put_two_refills_in_flight():
    staff = factories.Account()
    orders = factories.Order.create_batch(30, service=factories.Service(refill_limit=100))
    refills = [factories.Refill(order=order) for order in orders]
    settle([refill.pk for refill in refills], RefillStatus.REJECTED, staff)
    ids = [refill.pk for refill in refills]

    def request(order):
        return lambda: request_refills(order.account_id, [order.pk])[0]

    undone, undone_backwards, *requested = race(
        [lambda: undo(ids, staff), lambda: undo(ids[::-1], staff), *[request(order) for order in orders]]
    )

    done = {refill.order_id for outcome in (undone, undone_backwards) for refill in outcome.done}
    accepted = {
        order.pk for order, answer in zip(orders, requested, strict=True) if isinstance(answer, RequestedRefill)
    }
    assert done | accepted == {order.pk for order in orders}
    assert not done & accepted
    in_flight = Refill.objects.in_flight().values_list("order", flat=True)
    assert sorted(in_flight) == sorted(order.pk for order in orders)


def test_a_request_that_waits_for_an_undo_sees_the_refill_in_flight():
    customer, staff = new_customer(), factories.Account()
    refill = factories.Refill(order__account=customer.account)
    settle([refill.pk], RefillStatus.COMPLETED, staff)

    with transaction.atomic():
        undo([refill.pk], staff)
        request = Waiting(lambda: customer.refill(refill.order))

    assert request.result() == {"error": "A refill request is already pending for this order"}


@pytest.mark.parametrize("take_back", [undo, lambda ids, by: reopen(ids, by, "why")])
def test_what_is_taken_back_while_a_request_commits_is_refused_by_the_number_of_the_new_refill(take_back):
    staff = factories.Account()
    refill = factories.Refill()
    settle([refill.pk], RefillStatus.COMPLETED, staff)

    with transaction.atomic():
        [made] = request_refills(refill.account_id, [refill.order_id])
        taking_back = Waiting(lambda: take_back([refill.pk], staff))

    number = made.number
    assert taking_back.result().refused[refill.pk].text == f"refill #{number} of the same order is in flight"


def test_a_reopened_refill_never_exceeds_the_cap():
    staff = factories.Account()
    order = factories.Order(service__refill_limit=2)
    rejected = factories.Refill.create_batch(5, order=order, status="rejected")

    def reopen_and_complete(refill):
        def call():
            for _ in range(5):
                reopen([refill.pk], staff, "why")
                settle([refill.pk], RefillStatus.COMPLETED, staff)

        return call

    def request():
        for _ in range(5):
            [made] = request_refills(order.account_id, [order.pk])
            if isinstance(made, RequestedRefill):
                settle([made.id], RefillStatus.COMPLETED, staff)

    race([*[reopen_and_complete(refill) for refill in rejected], request, request])

    assert Refill.objects.filter(order=order).used_of_cap().count() == 2


def test_orders_are_locked_before_refills_to_take_a_change_back():
    """As a request does: it waits for the order, and holds no lock on a refill meanwhile."""
    staff = factories.Account()
    refill = factories.Refill()
    settle([refill.pk], RefillStatus.COMPLETED, staff)

    with transaction.atomic():
        lock_orders(refill.account_id, [refill.order_id])
        undoing = Waiting(lambda: undo([refill.pk], staff))
        assert Refill.objects.select_for_update(nowait=True).get(pk=refill.pk)

    assert undoing.result().done


def test_an_approval_that_a_colleague_settles_while_it_is_undone_is_settled_once():
    ann, bob = factories.Account(username="ann"), factories.Account(username="bob")
    refill = factories.Refill()
    settle([refill.pk], RefillStatus.APPROVED, ann)

    with transaction.atomic():
        settle([refill.pk], RefillStatus.COMPLETED, bob)
        undoing = Waiting(lambda: undo([refill.pk], ann))

    assert undoing.result().refused[refill.pk].text == "completed by bob, and nobody else may undo that"
    refill.refresh_from_db()
    assert (refill.status, refill.settled_by) == ("completed", bob)


def test_a_colleague_who_waits_for_an_undo_settles_the_pending_refill():
    ann, bob = factories.Account(username="ann"), factories.Account(username="bob")
    refill = factories.Refill()
    settle([refill.pk], RefillStatus.APPROVED, ann)

    with transaction.atomic():
        undo([refill.pk], ann)
        settling = Waiting(lambda: settle([refill.pk], RefillStatus.COMPLETED, bob))

    assert settling.result().done
    steps = list(refill.transitions.values_list("kind", "from_status", "to_status"))
    assert steps[1:] == [("undo", "approved", "pending"), ("change", "pending", "completed")]


def test_two_undos_at_once_take_one_change_back_once():
    staff = factories.Account()
    refill = factories.Refill()
    settle([refill.pk], RefillStatus.COMPLETED, staff)

    outcomes = race([lambda: undo([refill.pk], staff)] * 20)

    assert sum(len(outcome.done) for outcome in outcomes) == 1
    assert refill.transitions.filter(kind="undo").count() == 1


def test_an_undo_that_waited_past_its_window_comes_too_late(settings):
    settings.UNDO_SECONDS = 1
    staff = factories.Account()
    refill = factories.Refill()
    [settled] = settle([refill.pk], RefillStatus.COMPLETED, staff).done

    with transaction.atomic():
        lock_orders(refill.account_id, [refill.order_id])
        undoing = Waiting(lambda: undo([refill.pk], staff))
        while timezone.now() < settled.undoable_until:
            time.sleep(0.05)

    assert "more than 1 seconds ago" in undoing.result().refused[refill.pk].text


def test_agents_who_go_on_at_once_never_open_the_same_refill():
    staff = factories.Account.create_batch(12)
    seen = factories.Refill()
    factories.Refill.create_batch(12)

    opened = race([lambda by=by: claim_next(by, seen) for by in staff])

    assert len({refill.pk for refill in opened}) == 12
    assert all(refill.claimed_by == by for refill, by in zip(opened, staff, strict=True))
    assert claim_next(factories.Account(), seen) is None


def test_going_on_does_not_wait_for_a_refill_that_is_being_settled():
    ann, bob = factories.Account(), factories.Account()
    seen, settled, free = factories.Refill.create_batch(3)

    with transaction.atomic():
        settle([settled.pk], RefillStatus.COMPLETED, ann)
        [opened] = race([lambda: claim_next(bob, seen)])

    assert opened == free


def test_five_refills_that_come_in_after_a_list_was_shown_are_not_selected_with_it(client):
    """Their requests began before the list was shown, and waited for locks: they are older than what was shown."""
    client.force_login(factories.Account(is_staff=True, is_superuser=True))
    url = reverse("admin:refills_refill_changelist")
    customer = new_customer()
    orders = [order.pk for order in factories.Order.create_batch(5, account=customer.account)]
    shown = factories.Refill.create_batch(31)
    client.get(url)
    with transaction.atomic():
        lock_orders(customer.account.pk, orders)
        late = Waiting(lambda: request_refills(customer.account.pk, orders))
        page = client.get(url)
    late.result()
    numbers = page.context["cl"].shown

    def act():
        return client.post(
            url, {"action": "complete", "select_across": "1", "_selected_action": [shown[0].pk], "shown": numbers}
        )

    more = factories.Order.create_batch(5, account=customer.account)
    race([act, *[lambda order=order: request_refills(customer.account.pk, [order.pk]) for order in more]])

    assert len(numbers.split()) == 31
    assert set(Refill.objects.filter(status="completed")) == set(shown)
    assert Refill.objects.filter(status="pending").count() == 10
