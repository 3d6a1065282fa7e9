"""action=refill_status (docs/contract.md)."""

import itertools
from datetime import timedelta

import pytest
from django.utils import timezone

from refills.statuses import RefillStatus
from tests import factories


@pytest.mark.parametrize("status", RefillStatus.values)
def test_one_refill(customer, status):
    refill = factories.Refill(order__account=customer.account, status=status)

    for reference in (refill.pk, refill.pk.lower(), type(refill).objects.get().number):
        response = customer.post("refill_status", refill=reference)
        assert (response.status_code, response.json()) == (200, {"status": status})


@pytest.mark.parametrize("reference", ["999999", "ref_", "ord_01HG9X7KJP4NV8QZ2M6T3W5YBC", "x", "9" * 30])
def test_a_refill_that_does_not_exist_is_not_found(customer, reference):
    response = customer.post("refill_status", refill=reference)

    assert (response.status_code, response.json()) == (400, {"error": "Refill not found"})


def test_another_accounts_refill_is_not_found(customer, customers):
    refill = factories.Refill(order__account=customers().account)

    assert customer.post("refill_status", refill=refill.pk).json() == {"error": "Refill not found"}


def test_the_id_of_an_order_is_not_found(customer):
    refill = factories.Refill(order__account=customer.account)

    assert customer.post("refill_status", refill=refill.order_id).json() == {"error": "Refill not found"}


def test_a_batch_has_a_row_per_id_in_the_order_sent(customer, customers):
    mine, also_mine = (
        factories.Refill(order__account=customer.account, status=status) for status in ("pending", "rejected")
    )
    theirs = factories.Refill(order__account=customers().account)
    sent = [also_mine.pk.lower(), mine.pk, theirs.pk, "x", mine.pk]

    response = customer.post("refill_status", refills=" , ".join(sent))

    assert response.status_code == 200
    assert response.json() == [
        {"refill": sent[0], "status": "rejected"},
        {"refill": sent[1], "status": "pending"},
        {"refill": sent[2], "error": "Refill not found"},
        {"refill": sent[3], "error": "Refill not found"},
        {"refill": sent[4], "status": "pending"},
    ]


@pytest.mark.parametrize("count", [1, 100])
def test_the_statements_do_not_grow_with_the_batch(customer, django_assert_num_queries, count):
    service = factories.Service()
    refills = [factories.Refill(order__account=customer.account, order__service=service) for _ in range(count)]
    customer.post("services")

    with django_assert_num_queries(2):  # the key, the refills
        rows = customer.post("refill_status", refills=",".join(refill.pk for refill in refills)).json()

    assert [row["status"] for row in rows] == ["pending"] * count


@pytest.mark.parametrize("delivered", [0, 650])
def test_a_completed_refill_has_the_units_that_were_delivered(customer, delivered):
    refill = factories.Refill(order__account=customer.account, status="completed", delivered=delivered)

    assert customer.post("refill_status", refill=refill.pk).json() == {"status": "completed", "delivered": delivered}


@pytest.mark.parametrize("reference", ["pk", "number"])
def test_an_order_leads_to_its_latest_refill(customer, reference):
    order = factories.Order(account=customer.account)
    now = timezone.now()
    latest = factories.Refill(order=order, created_at=now)
    for hours, status in enumerate(("completed", "rejected"), 1):
        factories.Refill(order=order, status=status, created_at=now - timedelta(hours=hours))

    response = customer.post("refill_status", order=getattr(order, reference))

    assert (response.status_code, response.json()) == (200, {"refill": latest.pk, "status": "pending"})


def test_the_latest_id_counts_if_refills_have_the_same_time(customer):
    order = factories.Order(account=customer.account)
    now = timezone.now()
    ids = [factories.Refill(order=order, status="completed", created_at=now).pk for _ in range(3)]

    assert customer.post("refill_status", order=order.pk).json()["refill"] == max(ids)


def test_orders_lead_to_a_row_each_in_the_order_sent(customer, customers):
    refilled, rejected, never = factories.Order.create_batch(3, account=customer.account)
    theirs = factories.Refill(order__account=customers().account).order
    pending = factories.Refill(order=refilled)
    refused = factories.Refill(order=rejected, status="rejected", reason_text="Nothing dropped.")
    sent = [str(never.number), rejected.pk.lower(), theirs.pk, "x", refilled.pk, refilled.pk]

    response = customer.post("refill_status", orders=",".join(sent))

    assert response.status_code == 200
    assert response.json() == [
        {"order": sent[0], "error": "No refill was requested for this order"},
        {"order": sent[1], "refill": refused.pk, "status": "rejected", "reason": "Nothing dropped."},
        {"order": sent[2], "error": "Order not found"},
        {"order": sent[3], "error": "Order not found"},
        {"order": sent[4], "refill": pending.pk, "status": "pending"},
        {"order": sent[5], "refill": pending.pk, "status": "pending"},
    ]


@pytest.mark.parametrize(
    ("order", "error", "code"),
    [
        ("x", "Order not found", "order_not_found"),
        (None, "No refill was requested for this order", "no_refill_requested"),
    ],
)
def test_an_order_without_a_refill_is_refused(customer, order, error, code):
    response = customer.post("refill_status", order=order or factories.Order(account=customer.account).pk)

    assert (response.status_code, response.json(), response["X-Error-Code"]) == (400, {"error": error}, code)


@pytest.mark.parametrize("given", list(itertools.combinations(["refill", "refills", "order", "orders"], 2)))
def test_only_one_of_the_four_is_taken(customer, given):
    response = customer.post("refill_status", **dict.fromkeys(given, "1"))

    assert (response.status_code, response.json()) == (
        400,
        {"error": "Provide only one of refill, refills, order or orders"},
    )


def test_too_many_orders_are_refused_by_their_name(customer):
    answer = customer.post("refill_status", orders=",".join(map(str, range(1, 102)))).json()

    assert answer == {"error": "Too many orders (100 at most)"}


def test_an_answer_that_was_lost_can_be_found(customer):
    order = factories.Order(account=customer.account)
    made = customer.refill(order)["refill"]

    again = customer.post("refill_status", order=order.pk).json()

    assert again == {"refill": made, "status": "pending"}
