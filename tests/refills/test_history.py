"""What a refill's history shows: its request, the steps in its life, and notes."""

import pytest

from refills.desk import history
from refills.models import Refill
from refills.notes import add_note
from refills.reopening import reopen, undo
from refills.requesting import request_refills
from refills.statuses import RefillStatus
from tests import factories
from tests.conftest import settle

pytestmark = pytest.mark.django_db


def test_the_history_has_steps_and_notes_in_the_order_of_time(staff):
    refill = factories.Refill()
    add_note([refill.pk], staff, "first")
    settle([refill.pk], RefillStatus.COMPLETED, staff, delivered=3)
    add_note([refill.pk], staff, "second")
    undo([refill.pk], staff)
    settle([refill.pk], RefillStatus.REJECTED, staff, words="Private.")
    reopen([refill.pk], staff, "works again")

    steps = [(step.what, step.note, step.reason, step.delivered) for step in history(refill)]

    assert steps == [
        ("Requested", "", "", None),
        ("Note", "first", "", None),
        ("Pending → Completed", "", "", 3),
        ("Note", "second", "", None),
        ("Undone: Completed → Pending", "", "", 3),
        ("Pending → Rejected", "", "Private.", None),
        ("Reopened: Rejected → Pending", "works again", "Private.", None),
    ]


def test_a_request_by_staff_is_recorded_and_judged_by_the_same_rules(staff, customer):
    order, refused = factories.Order(account=customer.account), factories.Order(status="refunded")

    [made] = request_refills(customer.account.pk, [order.pk], requested_by_id=staff.pk)
    [refusal] = request_refills(refused.account_id, [refused.pk], requested_by_id=staff.pk)
    own = Refill.objects.get(pk=customer.refill(factories.Order(account=customer.account))["refill"])

    refill = Refill.objects.get(pk=made.id)
    assert (refill.requested_by, refill.api_key, own.requested_by) == (staff, None, None)
    [requested] = history(refill)
    assert (requested.what, requested.by) == (f"Requested by agent for {customer.account}", "agent")
    assert refusal.text == "Refill only available for completed or partial orders"
