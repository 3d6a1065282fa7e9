"""Snoozing: a refill is put off to a time, up to which the queue does not show it."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from notpanel.kit.refusals import Refusal
from refills.models import Note, Refill
from refills.settlement import claim
from refills.snoozing import snooze, unsnooze
from refills.statuses import RefillStatus
from tests import factories
from tests.conftest import settle

pytestmark = pytest.mark.django_db


@pytest.fixture
def tomorrow():
    return timezone.now() + timedelta(days=1)


@pytest.mark.parametrize("status", ["pending", "approved"])
def test_a_snoozed_refill_is_out_of_the_queue_until_its_time(staff, tomorrow, status):
    refill = factories.Refill(status=status)

    [done] = snooze([refill.pk], staff, tomorrow).done

    refill.refresh_from_db()
    assert (refill.snoozed_until, refill.snoozed_by) == (done.snoozed_until, done.snoozed_by) == (tomorrow, staff)
    before, then = tomorrow - timedelta(microseconds=1), tomorrow
    for moment, asleep in ((before, True), (then, False)):
        assert Refill.objects.snoozed(moment).exists() == asleep
        assert Refill.objects.awake(moment).exists() != asleep
        assert Refill.objects.waiting(moment).exists() == (status == "pending" and not asleep)


def test_snoozing_ends_the_claim_and_keeps_the_note(staff, tomorrow):
    refill = factories.Refill()
    claim([refill.pk], staff)

    snooze([refill.pk], staff, tomorrow, " waiting for the supplier ")

    refill.refresh_from_db()
    assert (refill.claimed_at, refill.claimed_by) == (None, None)
    assert list(Note.objects.values_list("refill", "by", "text")) == [(refill.pk, staff.pk, "waiting for the supplier")]


@pytest.mark.parametrize("off", [timedelta(0), -timedelta(seconds=1), timedelta(days=30, seconds=1)])
def test_the_time_is_in_the_next_30_days(staff, time_machine, off):
    now = timezone.now()
    time_machine.move_to(now, tick=False)
    refill = factories.Refill()

    with pytest.raises(Refusal, match="within the next 30 days"):
        snooze([refill.pk], staff, now + off)

    assert snooze([refill.pk], staff, now + timedelta(days=30)).done


def test_a_note_that_is_too_long_snoozes_nothing(staff, tomorrow):
    with pytest.raises(Refusal, match="1 to 1000 characters"):
        snooze([factories.Refill().pk], staff, tomorrow, "x" * 1001)

    assert not Refill.objects.snoozed(timezone.now()).exists()


def test_refills_that_are_settled_or_with_a_colleague_are_refused(staff, tomorrow):
    settled, taken, fine = factories.Refill(status="completed"), factories.Refill(), factories.Refill()
    claim([taken.pk], factories.Account(username="ann"))

    outcome = snooze([settled.pk, taken.pk, fine.pk], staff, tomorrow, "why")

    assert outcome.done == [fine]
    assert outcome.refused[settled.pk].text.startswith("completed by ")
    assert outcome.refused[taken.pk].text.startswith("taken by ann at ")
    assert [note.refill for note in Note.objects.all()] == [fine]


def test_a_colleague_ends_a_snooze(staff, tomorrow):
    refill = factories.Refill()
    snooze([refill.pk], staff, tomorrow)

    assert unsnooze([refill.pk], factories.Account()).done

    refill.refresh_from_db()
    assert (refill.snoozed_until, refill.snoozed_by) == (None, None)


@pytest.mark.parametrize("to", [RefillStatus.COMPLETED, RefillStatus.REJECTED])
def test_a_settled_refill_is_not_snoozed(staff, tomorrow, to):
    refill = factories.Refill()
    snooze([refill.pk], staff, tomorrow)

    assert settle([refill.pk], to, staff).done

    refill.refresh_from_db()
    assert (refill.snoozed_until, refill.snoozed_by) == (None, None)


def test_the_database_refuses_half_a_snooze_and_one_of_a_settled_refill(staff, tomorrow):
    for fields in (
        {"snoozed_until": tomorrow},
        {"snoozed_by": staff},
        {"snoozed_until": tomorrow, "snoozed_by": staff, "status": "completed"},
    ):
        with pytest.raises(IntegrityError, match="refill_snoozed_has_who_and_until"), transaction.atomic():
            factories.Refill(**fields)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("count", [1, 60])
def test_the_statements_do_not_grow_with_the_selection(django_assert_num_queries, tomorrow, count):
    staff, service = factories.Account(), factories.Service()
    refills = [factories.Refill(order__service=service).pk for _ in range(count)]

    with django_assert_num_queries(5):  # BEGIN, lock, update, the notes, COMMIT
        snooze(refills, staff, tomorrow, "why")
