"""change_status(): the only way in which the status of a refill changes (docs/contract.md, "Refill statuses")."""

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.db import IntegrityError, ProgrammingError, transaction
from django.utils import timezone

from notpanel.kit.refusals import Refusal
from refills.models import Refill, Transition
from refills.settlement import claim, release
from refills.statuses import RefillStatus
from tests import factories
from tests.conftest import settle

LEGAL = {
    ("pending", "approved"),
    ("pending", "completed"),
    ("pending", "rejected"),
    ("approved", "completed"),
    ("approved", "rejected"),
}


@pytest.mark.parametrize("to", [RefillStatus.APPROVED, RefillStatus.COMPLETED, RefillStatus.REJECTED])
@pytest.mark.parametrize("status", RefillStatus.values)
def test_only_legal_transitions_are_made(staff, status, to):
    refill = factories.Refill(status=status)

    settlement = settle([refill.pk], to, staff, "a note")

    refill.refresh_from_db()
    if (status, to) in LEGAL:
        assert [settled.pk for settled in settlement.done] == [refill.pk]
        assert settlement.refused == {}
        assert refill.status == to
    else:
        assert settlement.done == []
        assert list(settlement.refused) == [refill.pk]
        assert refill.status == status
        assert not refill.transitions.exists()


def test_the_refill_records_who_settled_it_and_when(staff):
    refill = factories.Refill()
    other = factories.Account()
    start = timezone.now()

    settle([refill.pk], RefillStatus.APPROVED, other)
    settle([refill.pk], RefillStatus.COMPLETED, staff, "  delivered again  ")

    refill.refresh_from_db()
    assert (refill.approved_by, refill.settled_by, refill.note) == (other, staff, "delivered again")
    assert start <= refill.approved_at <= refill.settled_at <= timezone.now()


def test_a_clock_that_was_set_back_settles_nothing_before_it_was_requested(staff, time_machine):
    refill = factories.Refill()
    time_machine.move_to(refill.created_at - timedelta(hours=1))
    settle([refill.pk], "approved", staff)
    time_machine.move_to(refill.created_at - timedelta(hours=2))
    settle([refill.pk], "completed", staff)

    refill.refresh_from_db()
    assert refill.created_at == refill.approved_at == refill.settled_at
    assert [step.at for step in refill.transitions.all()] == [refill.created_at] * 2


def test_a_settlement_is_recorded_in_the_history_only(staff):
    refill = factories.Refill()

    settle([refill.pk], RefillStatus.REJECTED, staff, "nothing dropped")

    [step] = refill.transitions.all()
    assert (step.by, step.from_status, step.to_status, step.note) == (staff, "pending", "rejected", "nothing dropped")
    assert not LogEntry.objects.exists()


def test_a_note_stays_until_there_is_another(staff):
    refill = factories.Refill()

    settle([refill.pk], RefillStatus.APPROVED, staff, "first")
    settle([refill.pk], RefillStatus.COMPLETED, staff)

    refill.refresh_from_db()
    assert refill.note == "first"


@pytest.mark.parametrize("words", ["", "  ", "\u200b"])
def test_a_rejection_needs_words_for_the_customer_and_a_note_does_not_do(staff, words):
    refill = factories.Refill()

    with pytest.raises(Refusal, match="a rejection needs one"):
        settle([refill.pk], RefillStatus.REJECTED, staff, "a note", words=words)

    refill.refresh_from_db()
    assert refill.status == "pending"


def test_a_rejection_may_have_words_of_its_own_which_replace_those_of_the_reason(staff):
    refill, other = factories.Refill.create_batch(2)
    reason = factories.RejectionReason(text="Private.")

    settle([refill.pk], RefillStatus.REJECTED, staff, words="  Your link is dead.  ")
    settle([other.pk], RefillStatus.REJECTED, staff, reason=reason, words="Your profile is private.")

    told = Refill.objects.order_by("number").values_list("reason", "reason_text")
    assert list(told) == [(None, "Your link is dead."), (reason.pk, "Your profile is private.")]


@pytest.mark.parametrize("words", ["x" * 201, "one\ntwo", "one\u2028two", "a\x00b"])
def test_words_for_the_customer_are_one_line_of_200_characters_at_most(staff, words):
    with pytest.raises(Refusal, match="on one line of at most 200 characters"):
        settle([factories.Refill().pk], RefillStatus.REJECTED, staff, words=words)

    settle([factories.Refill().pk], RefillStatus.REJECTED, staff, words="x" * 200)


def test_what_a_customer_was_told_stays_when_the_reason_is_edited(staff, customer):
    refill = factories.Refill(order__account=customer.account)
    reason = factories.RejectionReason(text="Private.")
    settle([refill.pk], RefillStatus.REJECTED, staff, reason=reason)

    reason.text = "Something else."
    reason.save()

    assert customer.post("refill_status", refill=refill.pk).json() == {"status": "rejected", "reason": "Private."}


@pytest.mark.parametrize("status", ["pending", "approved", "completed"])
def test_the_database_keeps_words_for_the_customer_of_rejections_only(db, status):
    with pytest.raises(IntegrityError, match="refill_reason_text_is_of_a_rejection"):
        factories.Refill(status=status, reason_text="Private.")


def test_no_refill_is_made_pending_again(staff):
    with pytest.raises(Refusal, match="cannot be made pending"):
        settle([factories.Refill(status="approved").pk], RefillStatus.PENDING, staff)


def test_refills_that_can_be_settled_are_and_the_others_are_refused_with_the_cause(staff):
    colleague = factories.Account(username="colleague")
    fine = factories.Refill()
    settled = factories.Refill(status="completed", staff=colleague)
    approved = factories.Refill(status="approved")
    missing = factories.Refill.build().pk

    settlement = settle([settled.pk, fine.pk, fine.pk, missing, approved.pk], RefillStatus.APPROVED, staff)

    assert [refill.pk for refill in settlement.done] == [fine.pk]
    assert {refill_id: refusal.text for refill_id, refusal in settlement.refused.items()} == {
        settled.pk: f"completed by colleague at {settled.settled_at:%Y-%m-%d %H:%M} UTC",
        approved.pk: "it is approved already",
        missing: "there is no such refill",
    }


def test_an_empty_selection_settles_nothing(staff):
    assert settle([], RefillStatus.COMPLETED, staff).done == []


@pytest.mark.django_db(transaction=True)
def test_the_statements_do_not_grow_with_the_selection(django_assert_num_queries):
    staff = factories.Account()
    service = factories.Service()
    few, many = ([factories.Refill(order__service=service).pk for _ in range(count)] for count in (2, 60))
    settle([factories.Refill().pk], RefillStatus.COMPLETED, staff)

    for refills in (few, many):
        claim(refills[::2], staff)  # one's own claims are no obstacle, and cost nothing
        # BEGIN, lock, update, the history, the webhooks, COMMIT
        with django_assert_num_queries(6):
            settle(refills, RefillStatus.COMPLETED, staff)

    assert Refill.objects.filter(status="completed").count() == 63


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("count", [1, 20])
def test_the_statements_do_not_grow_with_what_is_refused(django_assert_num_queries, count):
    staff, colleague, service = factories.Account(), factories.Account(), factories.Service()
    settled, taken = ([factories.Refill(order__service=service).pk for _ in range(count)] for _ in range(2))
    settle(settled, RefillStatus.COMPLETED, colleague)
    claim(taken, colleague)

    # BEGIN, lock, the names of who settled and of who has taken them, COMMIT
    with django_assert_num_queries(5):
        refused = settle(settled + taken, RefillStatus.COMPLETED, staff).refused

    assert len(refused) == 2 * count


def test_a_rejection_with_a_reason_needs_no_note(staff):
    reason = factories.RejectionReason()
    refill = factories.Refill()

    settle([refill.pk], RefillStatus.REJECTED, staff, reason=reason)

    refill.refresh_from_db()
    assert (refill.reason, refill.reason_text, refill.note) == (reason, reason.text, "")


@pytest.mark.parametrize("to", [RefillStatus.APPROVED, RefillStatus.COMPLETED])
def test_only_a_rejection_has_a_reason(staff, to):
    for why in ({"reason": factories.RejectionReason()}, {"words": "Private."}):
        with pytest.raises(Refusal, match="a reason only if you reject"):
            settle([factories.Refill().pk], to, staff, **why)


def test_a_completion_records_the_delivered_units(staff):
    refill = factories.Refill()

    settle([refill.pk], RefillStatus.COMPLETED, staff, delivered=120)

    refill.refresh_from_db()
    assert refill.delivered == 120


def test_more_delivered_units_than_the_order_had_must_be_confirmed(staff):
    fine, above, unconfirmed = (factories.Refill(order__quantity=quantity) for quantity in (1000, 999, 100))

    outcome = settle([fine.pk, above.pk, unconfirmed.pk], RefillStatus.COMPLETED, staff, delivered=1000)

    assert [refill.pk for refill in outcome.done] == [fine.pk]
    assert outcome.refused[above.pk].text == "1000 units are more than the 999 of the order, so they must be confirmed"
    assert settle([above.pk], RefillStatus.COMPLETED, staff, delivered=1000, confirmed=True).done
    unconfirmed.refresh_from_db()
    assert (unconfirmed.status, unconfirmed.delivered) == ("pending", None)


def test_a_step_keeps_what_the_settlement_said(staff):
    completed, rejected = factories.Refill.create_batch(2)

    settle([completed.pk], RefillStatus.COMPLETED, staff, delivered=0)
    settle([rejected.pk], RefillStatus.REJECTED, staff, words="Private.")

    steps = Transition.objects.values_list("kind", "delivered", "reason_text")
    assert list(steps) == [("change", 0, ""), ("change", None, "Private.")]


@pytest.mark.parametrize(
    ("to", "delivered"), [(RefillStatus.APPROVED, 1), (RefillStatus.REJECTED, 1), (RefillStatus.COMPLETED, -1)]
)
def test_delivered_units_need_a_completion_and_are_not_negative(staff, to, delivered):
    with pytest.raises(Refusal, match="delivered"):
        settle([factories.Refill().pk], to, staff, "note", delivered=delivered)


class TestHistory:
    def test_every_transition_is_kept(self, staff):
        refill = factories.Refill()

        settle([refill.pk], RefillStatus.APPROVED, staff, "first")
        settle([refill.pk], RefillStatus.COMPLETED, staff, via=Transition.Via.COMMAND)

        steps = refill.transitions.values_list("from_status", "to_status", "by", "via", "note")
        assert list(steps) == [
            ("pending", "approved", staff.pk, "admin", "first"),
            ("approved", "completed", staff.pk, "command", ""),
        ]

    def test_a_refused_change_leaves_no_transition(self, staff):
        settle([factories.Refill(status="completed").pk], RefillStatus.REJECTED, staff, "no")

        assert not Transition.objects.exists()

    def test_the_database_refuses_to_change_or_delete_a_transition(self, staff):
        settle([factories.Refill().pk], RefillStatus.COMPLETED, staff)

        with pytest.raises(ProgrammingError, match="never changed"), transaction.atomic():
            Transition.objects.update(note="forged")
        with pytest.raises(ProgrammingError, match="never changed"), transaction.atomic():
            Transition.objects.all().delete()


class TestClaims:
    @pytest.fixture
    def colleague(self, db):
        return factories.Account(username="colleague")

    def test_a_colleague_cannot_settle_a_claimed_refill(self, staff, colleague):
        refill = factories.Refill()
        claim([refill.pk], colleague)

        outcome = settle([refill.pk], RefillStatus.COMPLETED, staff)

        assert outcome.done == []
        assert outcome.refused[refill.pk].text.startswith("taken by colleague at ")
        refill.refresh_from_db()
        assert (refill.status, refill.claimed_by) == ("pending", colleague)

    def test_settling_a_refill_ends_the_agents_own_claim(self, staff):
        refill = factories.Refill()
        claim([refill.pk], staff)

        assert settle([refill.pk], RefillStatus.COMPLETED, staff).done

        refill.refresh_from_db()
        assert (refill.claimed_by, refill.claimed_at) == (None, None)

    def test_a_colleague_may_take_over_a_claim_explicitly(self, staff, colleague):
        first, second = factories.Refill.create_batch(2)
        claim([first.pk, second.pk], colleague)

        assert claim([first.pk], staff).refused
        assert claim([first.pk], staff, take_over=True).done
        assert settle([first.pk], RefillStatus.COMPLETED, staff).done
        assert settle([second.pk], RefillStatus.COMPLETED, staff, take_over=True).done

    def test_a_claim_expires(self, staff, colleague, settings, time_machine):
        refill = factories.Refill()
        claim([refill.pk], colleague)
        now = timezone.now()

        time_machine.move_to(now + timedelta(minutes=settings.CLAIM_MINUTES) - timedelta(seconds=5), tick=False)
        assert settle([refill.pk], RefillStatus.APPROVED, staff).refused
        time_machine.move_to(now + timedelta(minutes=settings.CLAIM_MINUTES), tick=False)
        assert settle([refill.pk], RefillStatus.APPROVED, staff).done

    def test_only_the_agent_with_the_claim_can_release_it(self, staff, colleague):
        refill = factories.Refill()
        claim([refill.pk], colleague)

        release([refill.pk], staff)
        assert settle([refill.pk], RefillStatus.APPROVED, staff).refused
        release([refill.pk], colleague)
        assert settle([refill.pk], RefillStatus.APPROVED, staff).done

    def test_a_settled_refill_cannot_be_claimed(self, staff):
        refill = factories.Refill(status="completed")

        assert claim([refill.pk], staff).refused[refill.pk].text.startswith("completed by ")
