"""What the desk gathers about a refill."""

from datetime import timedelta

import pytest
from django.utils import timezone

from notpanel.kit.refusals import Refusal
from refills.desk import LONGEST_LIST, look_at, selection
from refills.models import Refill
from refills.reopening import reopen
from refills.settlement import claim
from refills.statuses import RefillStatus
from tests import factories
from tests.conftest import settle

pytestmark = pytest.mark.django_db


def test_earlier_refills_are_the_latest_of_those_requested_before(staff):
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


class TestSelection:
    """A selection of a whole list means what was shown."""

    def test_refills_that_came_into_the_list_since_are_left_out(self, staff):
        shown, settled = factories.Refill.create_batch(2)
        was_settled = factories.Refill(status="completed")
        shown_at = timezone.now()
        factories.Refill()
        reopen([was_settled.pk], staff, "why")
        settle([settled.pk], RefillStatus.COMPLETED, staff)
        claim([shown.pk], staff)

        assert selection(Refill.objects.in_flight(), shown_at, 2) == [shown.pk]

    def test_refills_settled_since_are_left_out_of_a_list_of_settled_ones(self, staff):
        refill, old = factories.Refill(), factories.Refill(status="completed")
        shown_at = timezone.now()
        settle([refill.pk], RefillStatus.COMPLETED, staff)

        assert selection(Refill.objects.filter(status="completed"), shown_at, 1) == [old.pk]

    def test_it_never_has_more_refills_than_were_shown(self):
        """A request that committed after the list was read may have recorded an earlier time."""
        factories.Refill.create_batch(3)

        with pytest.raises(Refusal, match="The list has changed since it was shown"):
            selection(Refill.objects.in_flight(), timezone.now(), 2)
        assert len(selection(Refill.objects.in_flight(), timezone.now(), 3)) == 3

    def test_it_is_read_in_one_statement(self, django_assert_num_queries):
        factories.Refill.create_batch(5)

        with django_assert_num_queries(1):
            assert len(selection(Refill.objects.in_flight(), timezone.now(), 5)) == 5
