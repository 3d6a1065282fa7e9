"""action=refill_status (docs/contract.md)."""

import pytest

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
