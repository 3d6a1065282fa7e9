"""undo() and reopen(): how a change of status is taken back (docs/contract.md, "Refill statuses")."""

from datetime import timedelta

import pytest
from django.utils import timezone

from notpanel.kit.refusals import Refusal
from refills.models import Refill, Transition
from refills.reopening import reopen, undo
from refills.settlement import claim
from refills.statuses import RefillStatus
from tests import factories
from tests.conftest import settle

pytestmark = pytest.mark.django_db


@pytest.fixture
def colleague():
    return factories.Account(username="colleague")


def refused(outcome, refill):
    assert outcome.done == []
    refill.refresh_from_db()
    return outcome.refused[refill.pk].text


UNTOUCHED = {
    "status": "pending",
    "approved_at": None,
    "approved_by": None,
    "settled_at": None,
    "settled_by": None,
    "reason": None,
    "reason_text": "",
    "delivered": None,
    "claimed_by": None,
}


class TestUndo:
    @pytest.mark.parametrize("before", ["pending", "approved"])
    @pytest.mark.parametrize("to", [RefillStatus.APPROVED, RefillStatus.COMPLETED, RefillStatus.REJECTED])
    def test_what_an_agent_did_is_taken_back_and_the_refill_is_pending(self, staff, before, to):
        if before == to:
            return
        refill = factories.Refill(status=before)
        settle([refill.pk], to, staff, delivered=7 if to == "completed" else None)

        [done] = undo([refill.pk], staff).done

        assert {name: getattr(done, name) for name in UNTOUCHED} == UNTOUCHED
        refill.refresh_from_db()
        assert {name: getattr(refill, name) for name in UNTOUCHED} == UNTOUCHED

    def test_the_history_keeps_what_was_undone(self, staff):
        completed, rejected = factories.Refill.create_batch(2)
        settle([completed.pk], RefillStatus.COMPLETED, staff, delivered=7)
        settle([rejected.pk], RefillStatus.REJECTED, staff, words="Private.")

        undo([completed.pk, rejected.pk], staff)

        steps = Transition.objects.filter(kind="undo").order_by("refill__number")
        assert list(steps.values_list("from_status", "to_status", "by", "delivered", "reason_text")) == [
            ("completed", "pending", staff.pk, 7, ""),
            ("rejected", "pending", staff.pk, None, "Private."),
        ]
        assert Transition.objects.filter(kind="change").count() == 2

    def test_the_outcome_of_a_change_says_until_when_it_can_be_undone(self, staff, settings):
        settings.UNDO_SECONDS = 45
        refill = factories.Refill()

        [done] = settle([refill.pk], RefillStatus.COMPLETED, staff).done

        assert done.undoable_until == done.settled_at + timedelta(seconds=45)
        assert undo([refill.pk], staff).done[0].undoable_until is None
        [approved] = settle([refill.pk], RefillStatus.APPROVED, staff).done
        assert approved.undoable_until == approved.approved_at + timedelta(seconds=45)

    @pytest.mark.parametrize("to", [RefillStatus.APPROVED, RefillStatus.COMPLETED])
    def test_after_the_window_it_is_too_late(self, staff, settings, time_machine, to):
        early, late = factories.Refill.create_batch(2)
        start = timezone.now()
        time_machine.move_to(start, tick=False)
        settle([early.pk, late.pk], to, staff)

        time_machine.move_to(start + timedelta(seconds=settings.UNDO_SECONDS) - timedelta(microseconds=1), tick=False)
        assert undo([early.pk], staff).done
        time_machine.move_to(start + timedelta(seconds=settings.UNDO_SECONDS), tick=False)

        assert refused(undo([late.pk], staff), late) == f"{to} more than 30 seconds ago, so it can only be reopened"
        assert late.status == to

    @pytest.mark.parametrize("to", [RefillStatus.APPROVED, RefillStatus.REJECTED])
    def test_what_a_colleague_did_is_not_undone(self, staff, colleague, to):
        refill = factories.Refill()
        settle([refill.pk], to, colleague)

        assert refused(undo([refill.pk], staff), refill) == f"{to} by colleague, and nobody else may undo that"
        assert refill.status == to

    def test_an_approval_is_not_undone_after_a_colleague_has_settled_the_refill(self, staff, colleague):
        refill = factories.Refill()
        settle([refill.pk], RefillStatus.APPROVED, staff)
        settle([refill.pk], RefillStatus.COMPLETED, colleague)

        assert "completed by colleague" in refused(undo([refill.pk], staff), refill)

    def test_an_approval_is_not_undone_while_a_colleague_works_on_the_refill(self, staff, colleague):
        refill = factories.Refill()
        settle([refill.pk], RefillStatus.APPROVED, staff)
        claim([refill.pk], colleague)

        assert refused(undo([refill.pk], staff), refill).startswith("taken by colleague at ")

    def test_a_refill_that_nobody_changed_cannot_be_undone(self, staff):
        refill, missing = factories.Refill(), factories.Refill.build().pk

        outcome = undo([refill.pk, missing], staff)

        assert outcome.refused[missing].text == "there is no such refill"
        assert refused(outcome, refill) == "it is pending already"


class TestReopening:
    @pytest.mark.parametrize("status", ["completed", "rejected"])
    def test_a_settled_refill_is_reopened_at_any_later_time(self, staff, status):
        refill = factories.Refill(status=status, created_at=timezone.now() - timedelta(days=400))

        outcome = reopen([refill.pk], staff, "  The link works again.  ")

        assert [done.pk for done in outcome.done] == [refill.pk]
        refill.refresh_from_db()
        assert {name: getattr(refill, name) for name in UNTOUCHED} == UNTOUCHED
        [step] = refill.transitions.all()
        assert (step.kind, step.from_status, step.to_status) == ("reopen", status, "pending")
        assert (step.by, step.note) == (staff, "The link works again.")

    def test_the_history_keeps_what_the_customer_was_told(self, staff):
        refill = factories.Refill(status="rejected", reason=factories.RejectionReason(text="Private."))

        reopen([refill.pk], staff, "why")

        assert refill.transitions.get().reason_text == "Private."

    @pytest.mark.parametrize(
        ("note", "message"),
        [("", "says why the refill is reopened"), (" ", "says why"), ("x" * 1001, "a note of 1 to 1000 characters")],
    )
    def test_reopening_needs_a_note(self, staff, note, message):
        with pytest.raises(Refusal, match=message):
            reopen([factories.Refill(status="completed").pk], staff, note)

    @pytest.mark.parametrize("status", ["pending", "approved"])
    def test_a_refill_in_flight_is_not_reopened(self, staff, status):
        refill = factories.Refill(status=status)

        assert refused(reopen([refill.pk], staff, "why"), refill) == f"it is {status} already"


TAKE_BACK = {"undo": undo, "reopen": lambda ids, by: reopen(ids, by, "why")}


@pytest.mark.parametrize("how", TAKE_BACK)
class TestRules:
    def test_another_refill_of_the_order_in_flight_is_named(self, staff, how):
        refill = factories.Refill()
        settle([refill.pk], RefillStatus.COMPLETED, staff)
        factories.Refill(order=refill.order, number=77)

        cause = refused(TAKE_BACK[how]([refill.pk], staff), refill)

        assert cause == "refill #77 of the same order is in flight"
        assert refill.status == "completed"

    def test_only_one_of_two_refills_of_an_order_is_taken_back(self, staff, how):
        refill = factories.Refill()
        settle([refill.pk], RefillStatus.REJECTED, staff)
        other = factories.Refill(order=refill.order)
        settle([other.pk], RefillStatus.REJECTED, staff)

        outcome = TAKE_BACK[how]([refill.pk, other.pk], staff)

        [done] = outcome.done
        [cause] = outcome.refused.values()
        assert cause.text == f"refill #{done.number} of the same order is in flight"

    def test_a_rejected_refill_counts_again_so_the_cap_may_leave_no_room_for_it(self, staff, how):
        order = factories.Order(service__refill_limit=2)
        refill = factories.Refill(order=order)
        settle([refill.pk], RefillStatus.REJECTED, staff)
        factories.Refill(order=order, status="completed")
        latest = factories.Refill(order=order)
        settle([latest.pk], RefillStatus.COMPLETED, staff)

        cause = refused(TAKE_BACK[how]([refill.pk], staff), refill)

        assert cause == "the order has reached its cap of 2 meanwhile"
        assert TAKE_BACK[how]([latest.pk], staff).done, "a completed one counts already"

    def test_refused_refills_do_not_affect_the_others(self, staff, how):
        fine, blocked = factories.Refill.create_batch(2)
        settle([fine.pk, blocked.pk], RefillStatus.COMPLETED, staff)
        factories.Refill(order=blocked.order)

        outcome = TAKE_BACK[how]([blocked.pk, fine.pk], staff)

        assert [done.pk for done in outcome.done] == [fine.pk]
        assert list(outcome.refused) == [blocked.pk]
        assert Refill.objects.get(pk=fine.pk).status == "pending"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("how", TAKE_BACK)
@pytest.mark.parametrize("count", [1, 100])
def test_the_statements_do_not_grow_with_the_selection(django_assert_num_queries, how, count):
    staff = factories.Account()
    service = factories.Service()
    refills = [factories.Refill(order__service=service).pk for _ in range(count)]
    settle(refills, RefillStatus.COMPLETED, staff)

    # BEGIN, lock the orders, lock the refills, the agents, the other refills, update, the history,
    # the webhooks, COMMIT
    with django_assert_num_queries(9):
        assert len(TAKE_BACK[how](refills, staff).done) == count
