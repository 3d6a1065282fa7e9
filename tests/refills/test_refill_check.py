"""action=refill_check (docs/contract.md): it judges as refill does, and changes nothing."""

from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import call_command
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apikeys.models import Account
from notpanel.kit.refusals import Refusal
from orders.models import Order, OrderStatus
from refills.checking import Verdict, check_orders
from refills.management.commands import demo
from refills.models import Refill
from refills.requesting import request_refills
from refills.statuses import IN_FLIGHT, RefillStatus
from tests import factories
from tests.races import Waiting


def test_an_order_that_may_be_refilled(customer):
    completed = datetime(2026, 11, 20, tzinfo=UTC)
    order = factories.Order(
        account=customer.account,
        service__refill_days=3650,
        service__refill_limit=5,
        created_at=completed - timedelta(days=1),
        completed_at=completed,
    )
    for status in ("completed", "rejected"):
        factories.Refill(order=order, status=status)

    response = customer.post("refill_check", order=order.pk)

    ends_at = int((completed + timedelta(days=3650)).timestamp())
    assert response.status_code == 200
    assert response.json() == {"refillable": True, "used": 1, "left": 4, "ends_at": ends_at}


def test_an_order_that_may_not(customer):
    order = factories.Order(account=customer.account)
    refill = factories.Refill(order=order, status="approved", staff=customer.account)

    response = customer.post("refill_check", order=order.number)

    assert response.status_code == 200
    assert "X-Error-Code" not in response
    assert response.json() == {
        "refillable": False,
        "error": "A refill request is already pending for this order",
        "code": "refill_already_pending",
        "used": 1,
        "left": 2,
        "ends_at": None,
        "refill": refill.pk,
    }


def test_an_order_of_a_service_without_refills_has_none_left(customer):
    order = factories.Order(account=customer.account, service__refill=False)

    answer = customer.post("refill_check", order=order.pk).json()

    assert (answer["refillable"], answer["code"], answer["left"]) == (False, "service_not_refillable", 0)


def test_a_batch_has_a_row_per_id_in_the_order_sent(customer, customers):
    mine = factories.Order(account=customer.account)
    theirs = factories.Order(account=customers().account)

    rows = customer.post("refill_check", orders=f"{theirs.pk},{mine.number},x").json()

    assert rows == [
        {"order": theirs.pk, "error": "Order not found"},
        {"order": str(mine.number), "refillable": True, "used": 0, "left": 3, "ends_at": None},
        {"order": "x", "error": "Order not found"},
    ]


def test_an_unknown_order_is_refused(customer):
    response = customer.post("refill_check", order="x")

    assert (response.status_code, response.json()) == (400, {"error": "Order not found"})


def test_nothing_is_requested(customer):
    order = factories.Order(account=customer.account)

    assert [customer.post("refill_check", order=order.pk).json()["refillable"] for _ in range(2)] == [True, True]
    assert not Refill.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.xdist_group("races")
def test_a_check_does_not_wait_for_a_request(customer):
    order = factories.Order(account=customer.account)
    with transaction.atomic():
        Order.objects.select_for_update().get(pk=order.pk)
        waiting = Waiting(lambda: request_refills(customer.account.pk, [order.pk]))
        assert customer.post("refill_check", order=order.pk).json()["refillable"]
        assert not waiting.is_done()
    waiting.result()


def agree(account_id, ids):
    """Assert that a check says about each order what a request then says. Returns what it says."""
    now = timezone.now()
    verdicts = check_orders(account_id, ids, now)
    outcomes = request_refills(account_id, ids)
    said = []
    for verdict, outcome in zip(verdicts, outcomes, strict=True):
        refusal = verdict.refusal if isinstance(verdict, Verdict) else verdict
        made = outcome if isinstance(outcome, Refusal) else None
        assert (refusal and (type(refusal), refusal.text)) == (made and (type(made), made.text))
        said.append(refusal and refusal.code())
    return said


@pytest.mark.django_db
def test_check_and_refill_agree_on_every_order_of_the_demonstration(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "FILE", tmp_path / "demo.env")
    monkeypatch.setattr(demo.settings, "BASE_DIR", tmp_path)
    call_command("demo", "--force", verbosity=0)
    said = set()

    for account in Account.objects.filter(orders__isnull=False).distinct():
        ids = list(Order.objects.filter(account=account).values_list("pk", flat=True))
        for start in range(0, len(ids), 100):
            said.update(agree(account.pk, ids[start : start + 100]))

    assert len(said) == 6  # every rule, and none


CASES = st.fixed_dictionaries(
    {
        "status": st.sampled_from(OrderStatus.values),
        "age": st.integers(0, 40),
        "refill": st.sampled_from([True, True, True, False]),
        "refill_days": st.sampled_from([None, 1, 10, 30]),
        "refill_limit": st.sampled_from([None, 1, 2]),
        "refills": st.lists(st.sampled_from(RefillStatus.values), max_size=4),
    }
)


@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(cases=st.lists(CASES, min_size=100, max_size=100))
def test_check_and_refill_agree_on_a_thousand_orders(transactional_db, cases):
    account = factories.Account()
    orders = []
    for case in cases:
        created_at = timezone.now() - timedelta(days=case["age"] + 1)
        terms = {name: case[name] for name in ("refill", "refill_days", "refill_limit")}
        service = factories.Service(**terms)
        order = factories.Order(account=account, service=service, status=case["status"], created_at=created_at)
        orders.append(order)
        settled = [status for status in case["refills"] if status not in IN_FLIGHT]
        flying = [status for status in case["refills"] if status in IN_FLIGHT][:1]
        for status in settled + flying:
            factories.Refill(order=order, status=status, staff=account)

    agree(account.pk, [order.pk for order in orders])
