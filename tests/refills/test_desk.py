"""What the desk gathers about a refill."""

from datetime import timedelta

import pytest
from django.utils import timezone

from refills.desk import LONGEST_LIST, look_at
from tests import factories

pytestmark = pytest.mark.django_db


def test_the_latest_earlier_refills_are_shown(staff):
    order, now = factories.Order(), timezone.now()

    def settled(hours_ago):
        return factories.Refill(order=order, status="rejected", created_at=now - timedelta(hours=hours_ago))

    looked_at = settled(10)
    settled(5)
    earlier = [settled(10 + hours) for hours in range(1, LONGEST_LIST + 3)]

    assert look_at(looked_at, staff, now).earlier == earlier[:LONGEST_LIST]


def test_the_number_of_overlapping_orders_is_bounded(staff):
    refill = factories.Refill()
    order = refill.order
    factories.Order.create_batch(
        LONGEST_LIST + 2, account=order.account, link=order.link, created_at=order.created_at, service=order.service
    )

    assert len(look_at(refill, staff, timezone.now()).overlapping) == LONGEST_LIST


@pytest.mark.parametrize(("status", "overlaps"), [("in_progress", True), ("cancelled", False), ("refunded", False)])
def test_an_order_without_an_end_overlaps_only_while_it_runs(staff, status, overlaps):
    refill = factories.Refill()
    order = refill.order
    factories.Order(
        account=order.account, link=order.link, created_at=order.created_at, status=status, completed_at=None
    )

    assert bool(look_at(refill, staff, timezone.now()).overlapping) == overlaps
