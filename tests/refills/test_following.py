"""Refills go to their suppliers, once each, and are followed there until they are settled (docs/suppliers.md)."""

import importlib
import json
from datetime import timedelta

import pytest
from django.apps import apps
from django.db import IntegrityError, ProgrammingError, connection, transaction
from django.utils import timezone

from notpanel.kit import queue
from refills import dispatching, following
from refills.dispatching import is_with_supplier, send_again
from refills.models import Dispatch, DispatchStep, Refill, RejectionReason, SupplierState, SupplierText
from refills.refusals import DispatchDecided, NotASupplierRefill
from refills.reopening import reopen, undo
from refills.settlement import claim
from refills.supplier_lanes import Lane
from tests import factories
from tests.conftest import settle
from tests.server import free_port
from tests.supplier import DROP, fake, stub
from tests.work import counted

texts_migration = importlib.import_module("refills.migrations.0011_answers_of_suppliers")


@pytest.fixture(autouse=True)
def _known_texts(db):
    """Fill the list as the migration does: a test that empties the tables removes it."""
    texts_migration.create_texts(apps, None)


@pytest.fixture
def answer():
    """Return a function that starts a supplier with these answers, by action. It returns the supplier."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def start(**answers):
            server = stack.enter_context(stub(lambda asked: _answer(answers, asked)))
            supplier = factories.Supplier(url=server.url)
            supplier.asked = server.asked
            supplier.answers = answers
            return supplier

        yield start


def _answer(answers, asked):
    wanted = answers.get(asked["action"], {"error": "Incorrect request"})
    wanted = wanted(asked) if callable(wanted) else wanted
    return wanted if wanted is DROP or isinstance(wanted, (bytes, tuple)) else json.dumps(wanted).encode()


def make_refill(customer, supplier, **fields):
    order = factories.Order(
        account=customer.account, service__supplier=supplier, supplier_order=fields.pop("supplier_order", "815")
    )
    assert "refill" in customer.refill(order)
    return Refill.objects.get(order=order)


def follow(supplier):
    following.follow(supplier.pk)


def follow_later(supplier, time_machine, **delay):
    time_machine.move_to(timezone.now() + timedelta(**delay), tick=True)
    follow(supplier)


def state(refill):
    refill.refresh_from_db()
    dispatch = Dispatch.objects.get(refill=refill)
    return refill.status, dispatch.state


def forget_jobs():
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")


def jobs():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT args->>'supplier', scheduled_at FROM procrastinate_jobs WHERE task_name = %s ORDER BY id",
            [dispatching.FOLLOW],
        )
        return cursor.fetchall()


class TestWhatIsSent:
    def test_a_refill_of_an_automatic_supplier_waits_to_be_sent_as_soon_as_it_is_requested(self, customer):
        supplier = factories.Supplier()

        refill = make_refill(customer, supplier)

        assert state(refill) == ("pending", "waiting")
        assert jobs() == [(str(supplier.pk), None)]

    @pytest.mark.parametrize("mode", ["manual", "off"])
    def test_no_other_supplier_gets_a_refill_at_once(self, customer, mode):
        refill = make_refill(customer, factories.Supplier(mode=mode))

        assert not Dispatch.objects.filter(refill=refill).exists()
        assert jobs() == []

    def test_an_order_that_the_supplier_does_not_know_stays_at_the_desk(self, customer):
        refill = make_refill(customer, factories.Supplier(), supplier_order="")

        assert not Dispatch.objects.filter(refill=refill).exists()

    def test_the_job_is_of_the_transaction_of_the_refill(self, customer):
        with transaction.atomic():
            make_refill(customer, factories.Supplier())
            transaction.set_rollback(True)

        assert jobs() == []

    @pytest.mark.parametrize(("suppliers", "more"), [(0, 0), (1, 2), (3, 2)])
    def test_a_request_takes_two_statements_more_however_many_refills_and_suppliers(self, customer, suppliers, more):
        def statements(count, chosen):
            orders = [
                factories.Order(
                    account=customer.account,
                    service__supplier=chosen[number % len(chosen)] if chosen else None,
                    supplier_order="815",
                )
                for number in range(count)
            ]
            with counted() as work:
                answers = customer.post("refill", orders=",".join(order.pk for order in orders)).json()
            assert all("refill" in each for each in answers)
            return work.statements

        chosen = [factories.Supplier() for _ in range(suppliers)]
        statements(1, [])  # writes when the key was last used
        without = statements(1, [])

        assert [statements(count, chosen) for count in (1, 10, 100)] == [without + more] * 3

    @pytest.mark.parametrize("count", [1, 10])
    def test_an_approval_takes_two_statements_more_however_many_refills_and_suppliers(self, customer, staff, count):
        def statements(supplier):
            refills = [make_refill(customer, supplier).pk for _ in range(count)]
            with counted() as work:
                settle(refills, "approved", staff)
            return work.statements

        # One statement looks for those with a supplier, even if there are none.
        assert statements(factories.Supplier(mode="manual")) == statements(factories.Supplier(mode="off")) + 1

    @pytest.mark.parametrize("mode", ["manual", "automatic"])
    def test_an_approval_sends_it_once_it_cannot_be_undone(self, customer, staff, settings, mode):
        supplier = factories.Supplier(mode="off")
        refill = make_refill(customer, supplier)
        supplier.mode = mode
        supplier.save()

        settle([refill.pk], "approved", staff)

        assert state(refill) == ("approved", "waiting")
        [[named, at]] = jobs()
        assert named == str(supplier.pk)
        assert (
            timedelta(0) <= at - timezone.now() + timedelta(seconds=1) <= timedelta(seconds=settings.UNDO_SECONDS + 1)
        )

    def test_an_undone_approval_sends_nothing(self, customer, staff, answer, time_machine):
        supplier = answer(refill={"refill": 1})
        supplier.mode = "manual"
        supplier.save()
        refill = make_refill(customer, supplier)
        settle([refill.pk], "approved", staff)

        assert undo([refill.pk], staff).done
        follow_later(supplier, time_machine, seconds=31)

        assert state(refill) == ("pending", "settled")
        assert supplier.asked == []

    def test_an_approval_after_an_undone_one_sends_it(self, customer, staff, answer, time_machine):
        supplier = answer(refill={"refill": 1})
        supplier.mode = "manual"
        supplier.save()
        refill = make_refill(customer, supplier)
        settle([refill.pk], "approved", staff)
        undo([refill.pk], staff)
        settle([refill.pk], "approved", staff)

        follow_later(supplier, time_machine, seconds=31)

        assert state(refill) == ("approved", "sent")

    def test_a_paused_supplier_is_not_asked(self, customer, answer):
        supplier = answer(refill={"refill": 1})
        supplier.paused = True
        supplier.save()
        refill = make_refill(customer, supplier)

        follow(supplier)

        assert state(refill) == ("pending", "waiting")
        assert supplier.asked == []

    def test_a_supplier_that_was_switched_off_is_sent_nothing_but_still_followed(self, customer, answer, time_machine):
        supplier = answer(refill={"refill": 7}, refill_status=[{"refill": 7, "status": "Completed"}])
        sent = make_refill(customer, supplier)
        follow(supplier)
        waiting = make_refill(customer, supplier)
        supplier.mode = "off"
        supplier.save()

        follow_later(supplier, time_machine, seconds=2)

        assert state(sent) == ("completed", "settled")
        assert state(waiting) == ("pending", "waiting")


class TestSettlement:
    def test_what_the_supplier_takes_is_approved_and_what_it_completes_is_completed(
        self, customer, answer, time_machine
    ):
        supplier = answer(refill={"refill": "77"}, refill_status={"status": "In progress"})
        refill = make_refill(customer, supplier)

        follow(supplier)
        assert state(refill) == ("approved", "sent")
        assert refill.dispatch.supplier_refill == "77"
        supplier.answers["refill_status"] = {"status": "COMPLETED"}
        follow_later(supplier, time_machine, seconds=2)

        assert state(refill) == ("completed", "settled")
        assert (refill.approved_by, refill.settled_by) == (supplier.account, supplier.account)
        steps = refill.transitions.values_list("to_status", "via", "by")
        assert list(steps) == [(to, "supplier", supplier.account_id) for to in ("approved", "completed")]
        assert supplier.asked[-1] == {"key": "their-key", "action": "refill_status", "refill": "77"}

    def test_what_the_supplier_rejects_is_rejected_in_our_words(self, customer, answer, time_machine):
        supplier = answer(refill={"refill": 1}, refill_status={"status": "Canceled"})
        refill = make_refill(customer, supplier)
        follow(supplier)

        follow_later(supplier, time_machine, seconds=2)

        assert state(refill) == ("rejected", "settled")
        assert refill.reason_text == "The refill was rejected after it had been checked."

    def test_its_reason_is_found_in_the_list_of_answers(self, customer, answer, time_machine):
        supplier = answer(refill={"refill": 1}, refill_status={"status": "Rejected", "message": "Refill days are over"})
        refill = make_refill(customer, supplier)
        follow(supplier)

        follow_later(supplier, time_machine, seconds=2)

        refill.refresh_from_db()
        assert refill.reason_text == "The refill period of the order is over."

    def test_many_are_asked_for_at_once(self, customer, answer, time_machine):
        numbers = iter(range(1, 1000))
        supplier = answer(
            refill=lambda asked: {"refill": next(numbers)},
            refill_status=lambda asked: [
                {"refill": refill, "status": "Completed"} for refill in asked["refills"].split(",")
            ],
        )
        refills = [make_refill(customer, supplier) for _ in range(5)]
        follow(supplier)

        follow_later(supplier, time_machine, seconds=2)

        assert {state(refill) for refill in refills} == {("completed", "settled")}
        [polled] = [asked["refills"] for asked in supplier.asked if "refills" in asked]
        assert sorted(polled.split(",")) == ["1", "2", "3", "4", "5"]

    def test_a_supplier_that_takes_no_list_is_asked_for_each(self, customer, answer, time_machine):
        numbers = iter(range(1, 1000))
        supplier = answer(
            refill=lambda asked: {"refill": next(numbers)},
            refill_status=lambda asked: {"status": "Completed"} if "refill" in asked else {"error": "Missing refill"},
        )
        refills = [make_refill(customer, supplier) for _ in range(3)]
        follow(supplier)

        follow_later(supplier, time_machine, seconds=2)

        assert {state(refill) for refill in refills} == {("completed", "settled")}

    def test_the_statements_of_a_poll_do_not_grow_with_the_refills(self, customer, answer, time_machine):
        numbers = iter(range(1, 1000))
        supplier = answer(
            refill=lambda asked: {"refill": next(numbers)},
            refill_status=lambda asked: [
                {"refill": refill, "status": "Completed"} for refill in asked["refills"].split(",")
            ],
        )

        supplier.poll_seconds = 600
        supplier.save()

        def statements(count):
            for _ in range(count):
                make_refill(customer, supplier)
            follow(supplier)
            with counted() as work:
                follow_later(supplier, time_machine, seconds=601)
            return work.statements

        assert statements(3) == statements(20)

    def test_a_refill_that_an_agent_has_taken_is_settled_once_the_agent_lets_go(
        self, customer, staff, answer, time_machine, settings
    ):
        supplier = answer(refill={"refill": 1}, refill_status={"status": "Completed"})
        refill = make_refill(customer, supplier)
        follow(supplier)
        claim([refill.pk], staff)

        follow_later(supplier, time_machine, seconds=2)
        assert state(refill) == ("approved", "sent")
        follow_later(supplier, time_machine, minutes=settings.CLAIM_MINUTES)

        assert state(refill) == ("completed", "settled")

    def test_settling_by_hand_ends_the_following_once_it_cannot_be_undone(
        self, customer, staff, answer, time_machine, settings
    ):
        supplier = answer(refill={"refill": 1}, refill_status={"status": "In progress"})
        refill = make_refill(customer, supplier)
        follow(supplier)

        settle([refill.pk], "rejected", staff)
        follow_later(supplier, time_machine, seconds=2)
        assert state(refill) == ("rejected", "sent")
        asked = len(supplier.asked)
        follow_later(supplier, time_machine, seconds=settings.UNDO_SECONDS)

        assert state(refill) == ("rejected", "settled")
        assert len(supplier.asked) == asked

    def test_an_undone_settlement_is_followed_again(self, customer, staff, answer, time_machine):
        supplier = answer(refill={"refill": 1}, refill_status={"status": "Completed"})
        refill = make_refill(customer, supplier)
        follow(supplier)
        settle([refill.pk], "rejected", staff)
        follow(supplier)

        undo([refill.pk], staff)
        follow_later(supplier, time_machine, seconds=2)

        assert state(refill) == ("completed", "settled")

    def test_a_refill_that_was_settled_before_it_was_sent_is_not_sent(self, customer, staff, answer, time_machine):
        supplier = answer(refill={"refill": 1})
        refill = make_refill(customer, supplier)
        settle([refill.pk], "completed", staff)

        follow(supplier)
        follow_later(supplier, time_machine, minutes=1)

        assert state(refill) == ("completed", "settled")
        assert supplier.asked == []

    def test_a_reopened_refill_is_sent_again_when_it_is_approved_again(self, customer, staff, answer, time_machine):
        numbers = iter(range(1, 1000))
        supplier = answer(refill=lambda asked: {"refill": next(numbers)}, refill_status={"status": "Rejected"})
        refill = make_refill(customer, supplier)
        follow(supplier)
        follow_later(supplier, time_machine, seconds=2)

        reopen([refill.pk], staff, "They said that they would.")
        follow(supplier)
        assert state(refill) == ("pending", "settled")
        settle([refill.pk], "approved", staff)
        follow_later(supplier, time_machine, seconds=31)

        assert state(refill) == ("approved", "sent")
        assert (refill.dispatch.attempts, refill.dispatch.supplier_refill) == (2, "2")


class TestRefusals:
    def test_words_of_the_list_reject_with_its_reason(self, customer, answer):
        supplier = answer(refill={"error": "Sorry: REFILL DAYS are  over!"})
        refill = make_refill(customer, supplier)

        follow(supplier)

        assert state(refill) == ("rejected", "refused")
        assert refill.reason_text == "The refill period of the order is over."
        assert refill.settled_by == supplier.account
        assert refill.dispatch.breaks_promise

    def test_unknown_words_wait_for_an_agent(self, customer, answer):
        supplier = answer(refill={"error": "Only on Tuesdays"})
        refill = make_refill(customer, supplier)

        follow(supplier)
        follow(supplier)

        assert state(refill) == ("pending", "refused")
        assert refill.dispatch.words == "Only on Tuesdays"
        assert Dispatch.objects.waiting_for_decision().get() == refill.dispatch
        assert len(supplier.asked) == 1

    def test_words_that_ask_to_wait_are_waited_for(self, customer, answer, time_machine):
        supplier = answer(refill={"error": "The refill was requested less than 24 hours ago."})
        refill = make_refill(customer, supplier)

        follow(supplier)
        follow_later(supplier, time_machine, hours=23)
        assert (state(refill), len(supplier.asked)) == (("pending", "waiting"), 1)
        supplier.answers["refill"] = {"refill": 1}
        follow_later(supplier, time_machine, hours=1, minutes=1)

        assert state(refill) == ("approved", "sent")

    def test_the_longest_text_in_the_list_counts(self, customer, answer):
        SupplierText.objects.create(text="Refill", action="person")
        supplier = answer(refill={"error": "Refill days are over"})
        refill = make_refill(customer, supplier)

        follow(supplier)

        assert state(refill) == ("rejected", "refused")

    def test_an_agent_who_has_taken_it_decides(self, customer, staff, answer):
        supplier = answer(refill={"error": "Refill days are over"})
        refill = make_refill(customer, supplier)
        claim([refill.pk], staff)

        follow(supplier)

        assert state(refill) == ("pending", "refused")

    @pytest.mark.parametrize(
        "fields",
        [
            {"action": "reject"},
            {"action": "retry"},
            {"action": "retry", "hours": 0},
            {"action": "person", "hours": 1},
            {"action": "dance"},
        ],
    )
    def test_the_database_keeps_what_an_entry_of_the_list_needs(self, fields):
        with pytest.raises(IntegrityError, match="supplier_text_has_what_its_action_needs"):
            SupplierText.objects.create(text="x", **fields)


class TestUnclear:
    def test_a_lost_answer_is_asked_for_and_the_refill_is_not_sent_again(self, customer, answer, time_machine):
        supplier = answer(refill=DROP, refill_status={"refill": 5, "status": "Pending"})
        refill = make_refill(customer, supplier)

        follow(supplier)
        assert state(refill) == ("pending", "unclear")
        follow_later(supplier, time_machine, seconds=6)

        assert state(refill) == ("approved", "sent")
        assert refill.dispatch.supplier_refill == "5"
        assert supplier.asked[1:] == [{"key": "their-key", "action": "refill_status", "order": "815"}]

    def test_what_cannot_be_found_waits_for_a_person_and_is_never_sent_again(self, customer, answer, time_machine):
        supplier = answer(refill=DROP, refill_status={"error": "Refill not found"})
        refill = make_refill(customer, supplier)

        for _ in range(10):
            follow_later(supplier, time_machine, minutes=10)

        assert state(refill) == ("pending", "unclear")
        assert Dispatch.objects.waiting_for_decision().get() == refill.dispatch
        assert [asked["action"] for asked in supplier.asked] == ["refill", *["refill_status"] * 3]

    @pytest.mark.parametrize("status", ["Completed", "Rejected", "Moon phase"])
    def test_a_settled_refill_of_the_order_may_be_an_earlier_one(self, customer, answer, time_machine, status):
        supplier = answer(refill=DROP, refill_status={"refill": 5, "status": status})
        refill = make_refill(customer, supplier)

        for _ in range(5):
            follow_later(supplier, time_machine, minutes=5)

        assert state(refill) == ("pending", "unclear")

    def test_a_refill_that_is_known_of_the_same_order_is_not_the_lost_one(
        self, customer, staff, answer, time_machine, settings
    ):
        supplier = answer(refill={"refill": 5}, refill_status={"refill": 5, "status": "Pending"})
        first = make_refill(customer, supplier)
        follow(supplier)
        settle([first.pk], "completed", staff)
        supplier.answers["refill"] = DROP
        assert "refill" in customer.refill(first.order)
        second = Refill.objects.get(order=first.order, status="pending")

        for _ in range(5):
            follow_later(supplier, time_machine, minutes=5)

        assert state(second) == ("pending", "unclear")

    def test_a_worker_that_was_killed_while_it_sent_leaves_an_unclear_refill(self, customer, answer):
        supplier = answer(refill={"refill": 1}, refill_status={"error": "Refill not found"})
        refill = make_refill(customer, supplier)
        Dispatch.objects.update(state="sending", attempts=1, sent_at=timezone.now(), next_at=None)

        follow(supplier)

        assert state(refill) == ("pending", "unclear")
        assert "refill" not in [asked["action"] for asked in supplier.asked]

    def test_a_late_answer_is_accepted(self, customer, answer):
        """A worker that only seemed dead, because it lost its connection, may still hear from the supplier."""
        supplier = answer(refill={"refill": 1})
        refill = make_refill(customer, supplier)
        supplier.answers["refill"] = lambda asked: (
            (Dispatch.objects.filter(pk=refill.pk).update(state="unclear") and None) or {"refill": 9}
        )

        turn = following._Turn(supplier, Lane(supplier.pk, is_open=True, has_place=True))
        Dispatch.objects.update(state="unclear", attempts=1, sent_at=timezone.now())
        turn._sent(refill.pk, 1, following.Accepted("9"), 10)

        assert state(refill) == ("approved", "sent")
        assert refill.dispatch.supplier_refill == "9"

    def test_an_answer_that_comes_after_an_agent_sent_it_again_prevents_the_second_sending(
        self, customer, staff, answer
    ):
        supplier = answer(refill={"refill": 2})
        refill = make_refill(customer, supplier)
        Dispatch.objects.update(state="unclear", attempts=1, sent_at=timezone.now(), next_at=None)
        send_again(refill, staff)

        following._Turn(supplier, Lane(supplier.pk, is_open=True, has_place=True))._sent(
            refill.pk, 1, following.Accepted("9"), 10
        )
        follow(supplier)

        assert state(refill) == ("approved", "sent")
        assert supplier.asked == []

    def test_a_person_says_that_it_is_there(self, customer, staff, answer):
        supplier = answer(refill=DROP, refill_status={"status": "Completed"})
        refill = make_refill(customer, supplier)
        follow(supplier)
        Dispatch.objects.update(next_at=None)

        is_with_supplier(refill, " 55 ", staff)
        follow(supplier)

        assert state(refill) == ("completed", "settled")
        assert supplier.asked[-1]["refill"] == "55"
        assert DispatchStep.objects.filter(kind="decision", by=staff).count() == 1

    def test_a_person_says_that_it_is_not_there(self, customer, staff, answer):
        supplier = answer(refill=DROP)
        refill = make_refill(customer, supplier)
        follow(supplier)
        Dispatch.objects.update(next_at=None)
        supplier.answers["refill"] = {"refill": 8}

        send_again(refill, staff)
        follow(supplier)

        assert state(refill) == ("approved", "sent")
        assert refill.dispatch.attempts == 2

    def test_nothing_is_decided_twice_or_about_what_goes_on_by_itself(self, customer, staff, answer):
        supplier = answer(refill=DROP)
        refill = make_refill(customer, supplier)
        follow(supplier)

        for decide in (lambda: send_again(refill, staff), lambda: is_with_supplier(refill, "5", staff)):
            with pytest.raises(DispatchDecided):
                decide()
        Dispatch.objects.update(next_at=None)
        for nothing in ("", "  ", "x" * 65, "1,2"):
            with pytest.raises(NotASupplierRefill):
                is_with_supplier(refill, nothing, staff)
        send_again(refill, staff)
        with pytest.raises(DispatchDecided):
            send_again(refill, staff)


class TestPolling:
    def test_a_refill_that_the_supplier_does_not_know_waits_for_a_person(self, customer, answer, time_machine):
        supplier = answer(refill={"refill": 1}, refill_status={"error": "Refill not found"})
        refill = make_refill(customer, supplier)
        follow(supplier)

        follow_later(supplier, time_machine, seconds=2)

        assert state(refill) == ("approved", "unclear")
        assert Dispatch.objects.waiting_for_decision().get() == refill.dispatch

    def test_words_that_nobody_knows_wait_for_a_person_after_three_times(self, customer, answer, time_machine):
        supplier = answer(refill={"refill": 1}, refill_status={"status": "Moon phase"})
        refill = make_refill(customer, supplier)
        follow(supplier)

        found = []
        for _ in range(3):
            follow_later(supplier, time_machine, seconds=2)
            found.append(state(refill)[1])

        assert found == ["sent", "sent", "unclear"]

    def test_a_supplier_is_asked_again_after_its_interval_only(self, customer, answer, time_machine):
        supplier = answer(refill={"refill": 1}, refill_status={"status": "Pending"})
        supplier.poll_seconds = 600
        supplier.save()
        make_refill(customer, supplier)
        follow(supplier)

        follow_later(supplier, time_machine, seconds=590)
        assert len(supplier.asked) == 1
        follow_later(supplier, time_machine, seconds=20)

        assert len(supplier.asked) == 2

    def test_what_is_not_settled_for_some_days_is_given_up_visibly(self, customer, answer, time_machine, settings):
        supplier = answer(refill={"refill": 1}, refill_status={"status": "Pending"})
        refill = make_refill(customer, supplier)
        follow(supplier)

        follow_later(supplier, time_machine, days=settings.SUPPLIER_DAYS)

        assert state(refill) == ("approved", "given_up")
        assert Dispatch.objects.waiting_for_decision().get() == refill.dispatch

    def test_only_news_is_kept_in_the_history(self, customer, answer, time_machine):
        supplier = answer(refill={"refill": 1}, refill_status={"status": "Pending"})
        refill = make_refill(customer, supplier)
        follow(supplier)

        for _ in range(4):
            follow_later(supplier, time_machine, seconds=2)

        assert list(refill.dispatch.steps.values_list("kind", "words")) == [("send", ""), ("ask", "Pending")]

    def test_the_history_is_never_changed(self, customer, answer):
        supplier = answer(refill={"refill": 1})
        make_refill(customer, supplier)
        follow(supplier)

        with pytest.raises(ProgrammingError, match="never changed"), transaction.atomic():
            DispatchStep.objects.update(words="forged")


class TestTraffic:
    def test_at_most_so_many_requests_a_minute_are_made(self, customer, answer, time_machine):
        time_machine.move_to(timezone.now().replace(second=10), tick=True)
        numbers = iter(range(1, 1000))
        supplier = answer(refill=lambda asked: {"refill": next(numbers)}, refill_status=[])
        supplier.per_minute, supplier.poll_seconds = 3, 3600
        supplier.save()
        for _ in range(5):
            make_refill(customer, supplier)
        forget_jobs()

        follow(supplier)
        assert len(supplier.asked) == 3
        [*_, [_, again_at]] = jobs()
        assert again_at.second == 0
        follow_later(supplier, time_machine, seconds=60)

        assert len(supplier.asked) == 5

    def test_a_refill_that_did_not_reach_its_supplier_is_sent_later(self, customer, answer, time_machine):
        supplier = factories.Supplier(url=f"http://127.0.0.1:{free_port()}/")
        refill = make_refill(customer, supplier)

        follow(supplier)
        assert state(refill) == ("pending", "waiting")
        with stub(lambda asked: b'{"refill": 1}') as server:
            supplier.url = server.url
            supplier.save()
            follow_later(supplier, time_machine, seconds=31)

        assert state(refill) == ("approved", "sent")

    def test_a_supplier_that_fails_rests_and_is_then_asked_something_harmless(self, customer, answer, time_machine):
        supplier = answer(refill=DROP, balance=DROP)
        for _ in range(6):
            make_refill(customer, supplier)

        follow(supplier)
        assert [asked["action"] for asked in supplier.asked] == ["refill"] * 3
        assert SupplierState.objects.get().rests_until > timezone.now()
        follow_later(supplier, time_machine, seconds=31)
        assert [asked["action"] for asked in supplier.asked[3:]] == ["balance"]
        supplier.answers |= {"balance": {"balance": "1"}, "refill": {"refill": 1}}
        follow_later(supplier, time_machine, minutes=2)

        assert [asked["action"] for asked in supplier.asked[4:]].count("refill") == 3
        assert SupplierState.objects.get().failures == 0
        assert Dispatch.objects.filter(state="sent").count() >= 3

    def test_an_unusable_answer_is_not_a_failure_of_the_connection(self, customer, answer):
        supplier = answer(refill={"refill": 0})
        for _ in range(5):
            make_refill(customer, supplier)

        follow(supplier)

        assert Dispatch.objects.filter(state="unclear").count() == 5
        assert SupplierState.objects.get().failures == 0


class TestWaking:
    def test_a_worker_without_the_lock_leaves_the_work_to_the_one_with_it(self, customer, answer, monkeypatch):
        supplier = answer(refill={"refill": 1})
        refill = make_refill(customer, supplier)
        monkeypatch.setattr(following, "_alone_with", lambda supplier: _nobody())

        follow(supplier)

        assert state(refill) == ("pending", "waiting")

    def test_the_sweeper_wakes_for_what_no_job_holds(self, customer):
        supplier = factories.Supplier()
        make_refill(customer, supplier)
        forget_jobs()

        following.sweep()
        following.sweep()

        assert [named for named, _ in jobs()] == [str(supplier.pk)]

    def test_the_sweeper_wakes_for_what_a_killed_worker_was_sending(self, customer):
        supplier = factories.Supplier()
        make_refill(customer, supplier)
        Dispatch.objects.update(state="sending", attempts=1, sent_at=timezone.now(), next_at=None)
        forget_jobs()

        following.sweep()

        assert [named for named, _ in jobs()] == [str(supplier.pk)]

    def test_a_worker_that_is_told_to_stop_sends_nothing_more(self, customer, answer, monkeypatch):
        supplier = answer(refill={"refill": 1})
        refill = make_refill(customer, supplier)
        monkeypatch.setattr(queue, "is_stopping", lambda: True)

        follow(supplier)

        assert state(refill) == ("pending", "waiting")


def _nobody():
    from contextlib import nullcontext

    return nullcontext(False)


def test_the_fake_supplier_settles_everything_without_faults(customer, tmp_path, time_machine):
    with fake(tmp_path / "log", settles_after=0.0, rejections=0.3) as server:
        supplier = factories.Supplier(url=f"http://127.0.0.1:{server.server_port}/")
        refills = [make_refill(customer, supplier, supplier_order=str(number)) for number in range(30)]
        follow(supplier)
        follow_later(supplier, time_machine, seconds=2)

    found = [state(refill) for refill in refills]
    assert {settled for _, settled in found} == {"settled"}
    assert {status for status, _ in found} == {"completed", "rejected"}
    assert not RejectionReason.objects.filter(text="").exists()
