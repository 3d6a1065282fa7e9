"""The audit finds each planted violation, and none in books that the code has kept."""

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from apikeys.webhooks.models import WebhookDelivery, WebhookEndpoint
from refills.audit import NAMES, audit, findings
from refills.models import Dispatch, DispatchStep, Refill
from refills.reopening import undo
from tests import factories
from tests.conftest import new_customer, settle
from tests.races import race

OTHER = "(SELECT id FROM apikeys_account WHERE username = 'agent')"
# How to break each invariant, with the constraints that would refuse it dropped.
PLANTED = [
    (
        "in_flight",
        """
        UPDATE refills_refill SET status = 'pending', settled_at = NULL, settled_by_id = NULL, approved_at = NULL,
            approved_by_id = NULL, delivered = NULL
        """,
    ),
    ("cap", "UPDATE orders_service SET refill_limit = 1"),
    ("order", f"UPDATE orders_order SET account_id = {OTHER}"),
    ("status", "UPDATE refills_refill SET settled_by_id = NULL"),
    ("status", "UPDATE refills_refill SET approved_at = created_at WHERE status = 'pending'"),
    ("status", "UPDATE refills_refill SET delivered = 1 WHERE status = 'pending'"),
    ("status", "UPDATE refills_refill SET claimed_at = created_at WHERE status = 'pending'"),
    ("times", "UPDATE refills_refill SET settled_at = created_at - interval '1 minute' WHERE status = 'completed'"),
    ("history", "DELETE FROM refills_transition"),
    ("history", "DELETE FROM refills_transition WHERE from_status = 'pending'"),
    ("history", "UPDATE refills_transition SET from_status = 'rejected' WHERE to_status = 'completed'"),
    ("changes", "UPDATE refills_refill SET changed_in = '99999999999'"),
    ("dispatch", "UPDATE refills_dispatch SET ended_at = now()"),
    ("dispatch", "UPDATE refills_dispatch SET supplier_refill = ''"),
    ("dispatch", "DELETE FROM refills_dispatchstep"),
    ("supplier", "UPDATE refills_dispatch SET supplier_refill = '7'"),
    ("delivery", "UPDATE apikeys_webhookdelivery SET next_at = NULL"),
    ("delivery", "UPDATE apikeys_webhookdelivery SET attempts = 1"),
    ("delivery", "UPDATE apikeys_webhookdelivery SET subject = gen_random_uuid()"),
    ("delivery", f"UPDATE apikeys_webhookendpoint SET account_id = {OTHER}"),
    ("superuser", "UPDATE apikeys_account SET is_active = false"),
    ("figures", "DELETE FROM refills_figurechange WHERE what = 'completed'"),
    ("figures", "INSERT INTO refills_dayfigure VALUES ('day', current_date, 0, 0, 1, 0, 0)"),
    ("figures", "INSERT INTO refills_recentfigure VALUES ('service', 1, 0, 1, 0, 0)"),
    ("guards", "ALTER TABLE refills_transition DISABLE TRIGGER refills_transition_is_final"),
    ("guards", "ALTER TABLE refills_note ADD CONSTRAINT long CHECK (text <> '') NOT VALID"),
]


@pytest.fixture
def books(db, staff):
    """A customer with a completed and a pending refill of one order, both sent to a supplier, and a webhook."""
    customer, supplier = new_customer(), factories.Supplier()
    order = factories.Order(account=customer.account)
    endpoint = WebhookEndpoint.objects.create(
        account=customer.account, url="https://shop.example", events=["refill.requested"], encrypted_secret="-"
    )
    customer.refill(order)
    settle([Refill.objects.get().pk], "approved", staff)
    settle([Refill.objects.get().pk], "completed", staff, delivered=10)
    customer.refill(order)
    now = timezone.now()
    for number, refill in enumerate(Refill.objects.all()):
        dispatch = Dispatch.objects.create(
            refill=refill, supplier=supplier, state="sent", on_approval=False, asked_at=now, next_at=now, attempts=1,
            asked=0, sent_at=now, supplier_refill=str(number), words="", breaks_promise=False,
        )  # fmt: skip
        DispatchStep.objects.create(dispatch=dispatch, at=now, kind="send", attempt=1, state="sent", words="")
    assert WebhookDelivery.objects.filter(endpoint=endpoint, state="waiting").count() == 2
    return order


def broken():
    return [finding.invariant.name for finding in findings()]


def drop_guards():
    """Drop what keeps violations out. The transaction of the test is rolled back."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(
            "SELECT conrelid::regclass, conname FROM pg_constraint WHERE contype IN ('c', 'f') "
            "AND connamespace = current_schema()::regnamespace"
        )
        for table, name in cursor.fetchall():
            cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
        cursor.execute("DROP INDEX refill_one_in_flight_per_order")
        for table in ("refills_transition", "refills_dispatchstep"):
            cursor.execute(f"DROP TRIGGER {table}_is_final ON {table}")


def test_books_that_the_code_has_kept_are_in_order(books, staff):
    pending = Refill.objects.get(status="pending").pk
    settle([pending], "rejected", staff)
    assert [refill.pk for refill in undo([pending], staff).done] == [pending]

    assert broken() == []


@pytest.mark.parametrize(("name", "plant"), PLANTED)
def test_a_planted_violation_is_found(books, name, plant):
    if name != "guards":
        drop_guards()
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(plant)

    assert name in broken()


def test_every_invariant_is_planted():
    assert {name for name, _ in PLANTED} == set(NAMES)


def test_a_violation_is_named_by_its_number(books):
    books.service.refill_limit = 1
    books.service.save()

    [finding] = findings()

    assert (finding.invariant.name, finding.count, finding.first) == ("cap", 1, [f"order {books.number}"])
    assert list(findings(frozenset({"cap"}))) == []


@pytest.mark.django_db(transaction=True)
class TestCommand:
    def test_the_command_says_that_all_is_well(self, staff, capsys):
        call_command("audit")

        assert capsys.readouterr().out == f"{len(NAMES)} invariants hold.\n"

    def test_the_command_names_what_is_broken_and_fails(self, staff, capsys):
        refills = factories.Refill.create_batch(7, status="completed")

        with pytest.raises(CommandError, match=r"^1 of 13 invariants are broken\.$"):
            call_command("audit")

        shown = sorted(f"refill {Refill.objects.get(pk=refill.pk).number}" for refill in refills)[:5]
        assert f"broken by {', '.join(shown)} and 2 more\n" in capsys.readouterr().out

    def test_the_audit_sees_one_snapshot_while_others_write(self, staff):
        customer = new_customer()
        orders = factories.Order.create_batch(20, account=customer.account)

        def request_and_settle():
            for order in orders:
                customer.refill(order)
                settle([Refill.objects.get(order=order).pk], "completed", staff)

        found = []
        race([request_and_settle, lambda: found.extend(audit() for _ in range(30))])

        assert found == [[]] * 30
