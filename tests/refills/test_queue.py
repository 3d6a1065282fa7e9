"""Which refill of the queue comes next."""

from datetime import timedelta

import pytest
from django.utils import timezone

from refills.desk import claim_next, next_in_queue
from refills.models import Refill
from refills.settlement import claim
from refills.statuses import RefillStatus
from tests import factories
from tests.conftest import settle

pytestmark = pytest.mark.django_db


def waiting(hours, **fields):
    return factories.Refill(created_at=timezone.now() - timedelta(hours=hours), **fields)


@pytest.fixture
def after():
    return waiting(9)


def claimed(by, minutes_ago):
    return {"claimed_by": by, "claimed_at": timezone.now() - timedelta(minutes=minutes_ago)}


def test_the_oldest_comes_first(staff, after):
    waiting(1), waiting(2)
    oldest = waiting(3)

    assert next_in_queue(staff, timezone.now(), after) == oldest


def test_the_refill_just_seen_is_not_next(staff, after):
    assert next_in_queue(staff, timezone.now(), after) is None


@pytest.mark.parametrize("status", ["completed", "rejected"])
def test_a_settled_refill_is_not_next(staff, after, status):
    waiting(3, status=status)

    assert next_in_queue(staff, timezone.now(), after) is None


def test_an_approved_refill_is_not_next_because_it_is_with_the_supplier(staff, after):
    waiting(3, status="approved")

    assert next_in_queue(staff, timezone.now(), after) is None


def test_a_snoozed_refill_is_not_next_until_its_time(staff, after):
    until = timezone.now() + timedelta(hours=1)
    snoozed = waiting(3, snoozed_until=until, snoozed_by=staff)

    assert next_in_queue(staff, timezone.now(), after) is None
    assert next_in_queue(staff, until, after) == snoozed


def test_the_next_one_comes_after_the_one_just_seen_and_at_the_end_the_oldest(staff):
    oldest, seen, following, latest = (waiting(hours) for hours in (5, 4, 3, 2))

    def after(refill):
        return next_in_queue(staff, timezone.now(), refill)

    assert [after(refill) for refill in (oldest, seen, following, latest)] == [seen, following, latest, oldest]


def test_a_refill_that_is_settled_keeps_its_place(staff):
    waiting(5)
    seen, following = waiting(4), waiting(3)

    settle([seen.pk], RefillStatus.COMPLETED, staff)

    assert next_in_queue(staff, timezone.now(), seen) == following


def test_the_next_one_is_of_the_list_that_the_agent_works_through(staff):
    seen, other_service = waiting(4), waiting(3)
    of_the_list = waiting(2, order__service=seen.service)
    among = Refill.objects.filter(service=seen.service).select_related("claimed_by", "settled_by", "order")

    assert next_in_queue(staff, timezone.now(), seen, among) == of_the_list
    assert next_in_queue(staff, timezone.now(), other_service, among) == of_the_list
    assert claim_next(staff, seen, among) == of_the_list


@pytest.mark.parametrize(
    "ordering", [["-created_at", "-id"], ["order__quantity", "-created_at"], ["-settled_at", "pk"]]
)
def test_the_next_one_follows_the_order_of_that_list(staff, ordering):
    same = timezone.now() - timedelta(hours=1)
    refills = [factories.Refill(order__quantity=quantity, created_at=same) for quantity in (5, 3, 5, 1)]
    among = Refill.objects.order_by(*ordering)
    in_order = sorted(refills, key=list(among).index)

    walked = [in_order[0]]
    while len(walked) < len(refills):
        walked.append(next_in_queue(staff, timezone.now(), walked[-1], among))

    assert walked == in_order
    assert next_in_queue(staff, timezone.now(), walked[-1], among) == in_order[0]


def test_a_place_in_a_column_with_nulls_is_found(staff):
    """A list by settlement: those that wait have none. Null comes last, and first in the descending order."""
    settled, first, second = waiting(3, status="completed"), waiting(2), waiting(1)

    def after(refill, *ordering):
        return next_in_queue(staff, timezone.now(), refill, Refill.objects.order_by(*ordering))

    assert after(settled, "settled_at", "id") == first
    assert after(first, "settled_at", "id") == second
    assert after(first, "-settled_at", "-id") == second
    assert after(second, "-settled_at", "-id") == first


def test_going_on_claims_the_next_one_and_ends_the_claim_on_the_last(staff):
    seen, following = waiting(2), waiting(1)
    claim([seen.pk], staff)

    assert claim_next(staff, seen) == following

    seen.refresh_from_db()
    following.refresh_from_db()
    assert (seen.claimed_by, following.claimed_by) == (None, staff)
    assert claim_next(factories.Account(), seen) is None


def test_a_refill_that_a_colleague_has_claimed_is_skipped_until_the_claim_expires(staff, after):
    colleague = factories.Account()
    waiting(3, **claimed(colleague, minutes_ago=14))

    assert next_in_queue(staff, timezone.now(), after) is None

    expired = waiting(2, **claimed(colleague, minutes_ago=16))

    assert next_in_queue(staff, timezone.now(), after) == expired


def test_a_refill_that_the_agent_has_claimed_may_be_next(staff, after):
    own = waiting(3, **claimed(staff, minutes_ago=1))

    assert next_in_queue(staff, timezone.now(), after) == own
