"""Notes of staff on a refill, at any time."""

import pytest
from django.db import ProgrammingError, transaction
from django.utils import timezone

from notpanel.kit.refusals import Refusal
from refills.models import Note
from refills.notes import add_note
from refills.statuses import RefillStatus
from tests import factories
from tests.conftest import settle

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("status", RefillStatus.values)
def test_a_note_is_added_to_a_refill_of_any_status(staff, status):
    refill = factories.Refill(status=status)
    start = timezone.now()

    outcome = add_note([refill.pk], staff, "  Asked the supplier.  ")

    assert outcome.done == [refill]
    [note] = refill.notes.all()
    assert (note.by, note.text) == (staff, "Asked the supplier.")
    assert start <= note.at <= timezone.now()


def test_notes_are_added_to_a_selection_and_a_refill_that_does_not_exist_is_refused(staff, django_assert_num_queries):
    refills = factories.Refill.create_batch(20)
    missing = factories.Refill.build().pk

    with django_assert_num_queries(4):  # a savepoint around the two
        outcome = add_note([*[refill.pk for refill in refills], refills[0].pk, missing], staff, "x")

    assert len(outcome.done) == Note.objects.count() == 20
    assert outcome.refused[missing].text == "there is no such refill"


@pytest.mark.parametrize("text", ["", " \n", "x" * 1001, "a\x00b"])
def test_a_note_has_1_to_1000_characters(staff, text):
    with pytest.raises(Refusal, match="Write a note of 1 to 1000 characters"):
        add_note([factories.Refill().pk], staff, text)

    assert not Note.objects.exists()


def test_the_database_refuses_to_change_or_delete_a_note(staff):
    add_note([factories.Refill().pk], staff, "x")

    with pytest.raises(ProgrammingError, match="never changed"), transaction.atomic():
        Note.objects.update(text="forged")
    with pytest.raises(ProgrammingError, match="never changed"), transaction.atomic():
        Note.objects.all().delete()


def test_customers_never_see_a_note(staff, customer, client):
    refill = factories.Refill(order__account=customer.account)
    add_note([refill.pk], staff, "a secret of the staff")
    settle([refill.pk], RefillStatus.REJECTED, staff, "another secret", words="Private.")
    client.force_login(customer.account)

    answers = [
        customer.post("refill_status", refill=refill.pk),
        customer.post("refill_status", refills=refill.pk),
        client.get("/dashboard/"),
        client.get("/dashboard/refills/"),
        client.get("/dashboard/orders/"),
    ]

    assert all(answer.status_code == 200 for answer in answers)
    assert not any("secret" in answer.content.decode() for answer in answers)
