import csv

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from refills.models import Refill, Transition
from refills.settlement import StatusChange, claim
from refills.settlement_files import Row, settle_rows
from refills.statuses import RefillStatus
from tests import factories
from tests.races import Waiting


@pytest.fixture
def run(tmp_path, staff, capsys):
    """Run the command on rows. Returns its standard output, its standard error, and the error that it ended with."""

    def call(*rows, header=("refill", "status", "reason"), arguments=("--by", "agent")):
        path = tmp_path / "file.csv"
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])
        try:
            call_command("settlerefills", str(path), *arguments)
        except CommandError as error:
            return *capsys.readouterr(), error
        return *capsys.readouterr(), None

    return call


def statuses():
    return list(Refill.objects.order_by("number").values_list("status", flat=True))


def test_refills_are_settled_in_the_name_of_one_of_the_staff(run, staff):
    one, two, three = factories.Refill.create_batch(3)
    two.refresh_from_db()

    out, _, error = run([one.pk, "completed", ""], [two.number, "rejected", "Private."], [three.pk, "approved", ""])

    assert error is None
    assert out == "Settled: 2; approved: 1; unchanged: 0; refused: 0.\n"
    assert statuses() == ["completed", "rejected", "approved"]
    assert Refill.objects.get(pk=two.pk).reason_text == "Private."
    assert set(Transition.objects.values_list("by", "via")) == {(staff.pk, "command")}


def test_a_refill_that_cannot_be_settled_is_reported_with_its_line_and_the_others_are_settled(run):
    fine, settled, taken = factories.Refill(), factories.Refill(status="completed"), factories.Refill()
    claim([taken.pk], factories.Account(username="ann"))

    out, complaints, error = run(
        [settled.pk, "rejected", "No."],
        [taken.pk, "completed", ""],
        ["999999", "completed", ""],
        [fine.pk, "completed", ""],
    )

    assert out == "Settled: 1; approved: 0; unchanged: 0; refused: 3.\n"
    assert error.returncode == 1
    lines = complaints.splitlines()
    assert lines[0].startswith(f"line 2: {settled.pk}: completed by ")
    assert lines[1].startswith(f"line 3: {taken.pk}: taken by ann")
    assert lines[2] == "line 4: 999999: there is no such refill"


def test_a_dry_run_settles_nothing(run):
    refill, settled = factories.Refill(), factories.Refill(status="rejected")

    out, _, error = run(
        [refill.pk, "completed", ""], [settled.pk, "completed", ""], arguments=("--by", "agent", "--dry-run")
    )

    assert out == "Would be settled: 1; would be approved: 0; unchanged: 0; refused: 1.\n"
    assert error.returncode == 1
    assert statuses() == ["pending", "rejected"]
    assert not Transition.objects.exists()


@pytest.mark.parametrize(
    ("cells", "complaint"),
    [
        (["nonsense", "completed", ""], "refill: “nonsense” is neither the id nor the number of a refill"),
        (["1", "done", ""], "status: “done” must be one of approved, completed, rejected"),
        (["1", "rejected", ""], "Choose a reason, or write words of your own for the customer"),
        (["1", "rejected", "a\nb"], "Write the words for the customer on one line"),
        (["1", "rejected", "x" * 201], "reason: must be text of 1 to 200 characters"),
        (["1", "completed", "why"], "Give the customer a reason only if you reject the refill"),
        (["1"], "1 cells, where the header has 3"),
    ],
)
def test_a_bad_row_is_reported_and_nothing_is_settled(run, cells, complaint):
    refill = factories.Refill(number=1)

    _, _, error = run([refill.pk, "completed", ""], cells)

    assert f"line 3: {complaint}" in str(error)
    assert statuses() == ["pending"]


def test_the_account_needs_the_permission_to_settle(run, customer):
    for name in ("nobody", customer.account.username):
        *_, error = run(["1", "completed", ""], arguments=("--by", name))
        assert f"“{name}” may not settle refills" in str(error)


def test_a_file_that_does_not_exist_is_reported(staff):
    with pytest.raises(CommandError, match=r"nowhere\.csv: No such file or directory"):
        call_command("settlerefills", "nowhere.csv", "--by", "agent")


def test_a_file_with_more_rows_than_a_chunk_is_settled(run, monkeypatch):
    monkeypatch.setattr("refills.settlement_files.CHUNK", 2)
    refills = factories.Refill.create_batch(5)

    out, _, _ = run(*[[refill.pk, "completed", ""] for refill in refills])

    assert out == "Settled: 5; approved: 0; unchanged: 0; refused: 0.\n"


def test_a_refill_that_is_in_the_file_twice_is_refused_the_second_time(run):
    refill = factories.Refill()

    out, complaints, _ = run([refill.pk, "completed", ""], [refill.pk, "rejected", "no"])

    assert out == "Settled: 1; approved: 0; unchanged: 0; refused: 1.\n"
    assert complaints.startswith(f"line 3: {refill.pk}: completed by agent")


def test_several_rows_for_one_refill_are_done_in_the_order_of_the_file(run):
    refill, other = factories.Refill(), factories.Refill()

    out, complaints, _ = run(
        [other.pk, "completed", ""],
        [refill.pk, "approved", ""],
        [refill.pk, "completed", ""],
        [refill.pk, "completed", ""],
    )

    assert out == "Settled: 2; approved: 1; unchanged: 0; refused: 1.\n"
    assert complaints.startswith(f"line 5: {refill.pk}: completed by ")
    steps = Transition.objects.filter(refill=refill).values_list("from_status", "to_status")
    assert list(steps) == [("pending", "approved"), ("approved", "completed")]


@pytest.mark.django_db(transaction=True)
def test_a_dry_run_locks_refills_in_the_order_of_their_ids(staff):
    first, second = sorted(factories.Refill.create_batch(2), key=lambda refill: refill.pk)
    rows = [
        Row(2, second.pk, StatusChange(RefillStatus.COMPLETED)),
        Row(3, first.pk, StatusChange(RefillStatus.APPROVED)),
    ]

    with transaction.atomic():
        Refill.objects.select_for_update().get(pk=first.pk)
        waiting = Waiting(lambda: settle_rows(rows, staff, dry_run=True))
        # The dry run waits for the first one and holds nothing. Otherwise this would deadlock.
        Refill.objects.select_for_update(nowait=True).get(pk=second.pk)

    assert (waiting.result().settled, waiting.result().approved) == (1, 1)
    assert statuses() == ["pending", "pending"]


def test_reason_delivered_and_note_are_read(run):
    completed, of_the_list, of_its_own = factories.Refill.create_batch(3)
    reason = factories.RejectionReason(text="The account is private.")

    _, _, error = run(
        [completed.pk, "completed", "", "120", "for staff"],
        [of_the_list.pk, "rejected", "The account is private.", "", ""],
        [of_its_own.pk, "rejected", "Your link is dead.", "", ""],
        header=("refill", "status", "reason", "delivered", "note"),
    )

    assert error is None
    kept = Refill.objects.order_by("number").values_list("reason", "reason_text", "delivered", "note")
    assert list(kept) == [
        (None, "", 120, "for staff"),
        (reason.pk, "The account is private.", None, ""),
        (None, "Your link is dead.", None, ""),
    ]


def test_delivered_units_above_the_quantity_are_refused_unless_confirmed(run):
    refill = factories.Refill(order__quantity=100)
    row, header = [refill.pk, "completed", "101"], ("refill", "status", "delivered")

    _, complaints, error = run(row, header=header)
    assert error.returncode == 1
    assert "101 units are more than the 100 of the order, so they must be confirmed" in complaints
    assert statuses() == ["pending"]

    *_, error = run(row, header=header, arguments=("--by", "agent", "--confirm-delivered"))
    assert error is None
    assert statuses() == ["completed"]


def test_rows_that_ask_for_no_change_are_left_alone_and_counted(run):
    completed = factories.Refill(status="completed")
    told = factories.Refill(status="rejected", reason=factories.RejectionReason(text="Private."))
    told_nothing, pending = factories.Refill(status="rejected"), factories.Refill()
    settled_meanwhile = factories.Refill(status="completed")
    done = factories.Refill()

    out, complaints, error = run(
        [completed.pk, "completed", ""],
        [told.pk, "rejected", "Private."],
        [told_nothing.pk, "rejected", ""],
        [pending.pk, "pending", ""],
        [settled_meanwhile.pk, "pending", ""],
        [done.pk, "completed", ""],
    )

    assert (out, complaints, error) == ("Settled: 1; approved: 0; unchanged: 5; refused: 0.\n", "", None)
    assert Transition.objects.count() == 1


def test_a_row_with_another_reason_for_a_rejected_refill_is_refused(run):
    refill = factories.Refill(status="rejected", reason=factories.RejectionReason(text="Private."))

    out, complaints, _ = run([refill.pk, "rejected", "Nothing dropped."])

    assert out == "Settled: 0; approved: 0; unchanged: 0; refused: 1.\n"
    assert "rejected by " in complaints


def test_a_file_with_semicolons_is_read(tmp_path, staff):
    refill = factories.Refill()
    file = tmp_path / "file.csv"
    file.write_bytes(f"\ufeffrefill;status;reason\r\n{refill.pk};rejected;Private, as we saw.\r\n".encode())

    call_command("settlerefills", str(file), "--by", "agent")

    refill.refresh_from_db()
    assert (refill.status, refill.reason_text) == ("rejected", "Private, as we saw.")
