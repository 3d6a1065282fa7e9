"""settle(): the only way in which the status of a refill changes (contract.md, "The life of a refill")."""

import pytest
from django.contrib.admin.models import LogEntry
from django.core.exceptions import ValidationError
from django.utils import timezone

from refills.models import Refill, Status
from refills.settlement import settle
from tests import factories

LEGAL = {
    ("pending", "approved"),
    ("pending", "completed"),
    ("pending", "rejected"),
    ("approved", "completed"),
    ("approved", "rejected"),
}


@pytest.mark.parametrize("to", [Status.APPROVED, Status.COMPLETED, Status.REJECTED])
@pytest.mark.parametrize("status", Status.values)
def test_only_legal_transitions_are_made(staff, status, to):
    refill = factories.Refill(status=status)

    settlement = settle([refill.pk], to, staff, "a note")

    refill.refresh_from_db()
    if (status, to) in LEGAL:
        assert [settled.pk for settled in settlement.settled] == [refill.pk]
        assert settlement.refused == {}
        assert refill.status == to
    else:
        assert settlement.settled == []
        assert list(settlement.refused) == [refill.pk]
        assert refill.status == status
        assert not LogEntry.objects.exists()


def test_who_and_when_is_kept(staff):
    refill = factories.Refill()
    other = factories.Account()
    start = timezone.now()

    settle([refill.pk], Status.APPROVED, other)
    settle([refill.pk], Status.COMPLETED, staff, "  delivered again  ")

    refill.refresh_from_db()
    assert (refill.approved_by, refill.settled_by, refill.note) == (other, staff, "delivered again")
    assert start <= refill.approved_at <= refill.settled_at <= timezone.now()


def test_the_admins_history_has_it(staff):
    refill = factories.Refill()

    settle([refill.pk], Status.REJECTED, staff, "nothing dropped")

    entry = LogEntry.objects.get()
    assert (entry.user, entry.get_edited_object(), entry.change_message) == (staff, refill, "Rejected. nothing dropped")


def test_a_note_stays_until_there_is_another(staff):
    refill = factories.Refill()

    settle([refill.pk], Status.APPROVED, staff, "first")
    settle([refill.pk], Status.COMPLETED, staff)

    refill.refresh_from_db()
    assert refill.note == "first"


@pytest.mark.parametrize("note", ["", "  "])
def test_a_rejection_needs_a_note(staff, note):
    refill = factories.Refill()

    with pytest.raises(ValidationError, match="why the refill is rejected"):
        settle([refill.pk], Status.REJECTED, staff, note)


def test_nothing_is_made_pending_again(staff):
    with pytest.raises(ValidationError, match="cannot be made pending"):
        settle([factories.Refill(status="approved").pk], Status.PENDING, staff)


def test_those_that_can_be_are_settled_and_the_others_are_refused_with_the_reason(staff):
    colleague = factories.Account(username="colleague")
    fine = factories.Refill()
    settled = factories.Refill(status="completed", staff=colleague)
    approved = factories.Refill(status="approved")
    missing = factories.Refill.build().pk

    settlement = settle([settled.pk, fine.pk, fine.pk, missing, approved.pk], Status.APPROVED, staff)

    assert [refill.pk for refill in settlement.settled] == [fine.pk]
    assert settlement.refused == {
        settled.pk: f"completed by colleague at {settled.settled_at:%Y-%m-%d %H:%M} UTC",
        approved.pk: "it is approved already",
        missing: "there is no such refill",
    }


def test_nothing_to_settle_is_nothing_settled(staff):
    assert settle([], Status.COMPLETED, staff).settled == []


@pytest.mark.django_db(transaction=True)
def test_the_statements_do_not_grow_with_the_selection(django_assert_num_queries):
    staff = factories.Account()
    service = factories.Service()
    few, many = ([factories.Refill(order__service=service).pk for _ in range(count)] for count in (2, 60))
    settle([factories.Refill().pk], Status.COMPLETED, staff)  # which loads the content type

    for refills in (few, many):
        # BEGIN, lock, update, the admin's history, COMMIT
        with django_assert_num_queries(5):
            settle(refills, Status.COMPLETED, staff)

    assert Refill.objects.filter(status="completed").count() == 63
