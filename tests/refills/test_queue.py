"""Which refill of the queue comes next."""

from datetime import timedelta

import pytest
from django.utils import timezone

from refills.desk import next_in_queue
from tests import factories

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


def test_an_approved_refill_may_be_next(staff, after):
    approved = waiting(3, status="approved")

    assert next_in_queue(staff, timezone.now(), after) == approved


def test_a_refill_that_a_colleague_has_claimed_is_skipped_until_the_claim_expires(staff, after):
    colleague = factories.Account()
    waiting(3, **claimed(colleague, minutes_ago=14))

    assert next_in_queue(staff, timezone.now(), after) is None

    expired = waiting(2, **claimed(colleague, minutes_ago=16))

    assert next_in_queue(staff, timezone.now(), after) == expired


def test_a_refill_that_the_agent_has_claimed_may_be_next(staff, after):
    own = waiting(3, **claimed(staff, minutes_ago=1))

    assert next_in_queue(staff, timezone.now(), after) == own
