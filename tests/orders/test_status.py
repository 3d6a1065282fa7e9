"""action=status (docs/contract.md)."""

from decimal import Decimal

import pytest

from orders.models import OrderStatus
from tests import factories


def test_one_order(customer):
    order = factories.Order(
        account=customer.account, status="in_progress", charge=Decimal("0.5"), start_count=1234, remains=650
    )

    response = customer.post("status", order=order.pk)

    assert response.status_code == 200
    assert response.json() == {
        "status": "in_progress",
        "charge": "0.50",
        "start_count": "1234",
        "remains": "650",
        "currency": "USD",
    }


@pytest.mark.parametrize("status", OrderStatus.values)
def test_every_status_is_returned(customer, status):
    order = factories.Order(account=customer.account, status=status)

    assert customer.post("status", order=order.pk).json()["status"] == status


def test_a_count_that_is_not_known_yet_is_null(customer):
    order = factories.Order(account=customer.account, start_count=None, remains=None)

    answer = customer.post("status", order=order.pk).json()

    assert (answer["start_count"], answer["remains"]) == (None, None)


@pytest.mark.parametrize("write", [str, str.lower, str.upper, lambda i: f" {i} "])
def test_an_id_is_read_in_either_case(customer, write):
    order = factories.Order(account=customer.account)

    assert customer.post("status", order=write(order.pk)).status_code == 200


@pytest.mark.parametrize("write", ["{}", " {} ", "#{}", '"{}"', "[{}]", "{},"])
def test_digits_are_the_number(customer, write):
    order = factories.Order(account=customer.account, number=9_007_199_254_740_993)

    assert customer.post("status", order=write.format(order.number)).status_code == 200


def test_digits_that_begin_with_0_are_not_a_number(customer):
    order = factories.Order(account=customer.account, number=28)

    assert customer.post("status", order=f"0{order.number}").json() == {"error": "Order not found"}


IMPOSSIBLE = [
    "ord_",
    "ord_01HG9X7KJP4N...",
    "ord_8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
    "ord_01HG9X7KJP4NV8QZ2M6T3W5YBU",
    "ref_01HG9X7KJP4NV8QZ2M6T3W5YBC",
    "01HG9X7KJP4NV8QZ2M6T3W5YBC",
    "-1",
    "1.5",
    "٣",
    "9" * 19,
    "9" * 65,
    "x" * 5000,
    "\x00",
    "'; DROP TABLE orders_order; --",
]


@pytest.mark.parametrize("order", ["999999", *IMPOSSIBLE])
def test_unknown_and_impossible_ids_are_not_found(customer, order):
    response = customer.post("status", order=order)

    assert (response.status_code, response.json()) == (400, {"error": "Order not found"})


def test_another_accounts_order_is_not_found(customer, customers):
    order = factories.Order(account=customers().account)

    for reference in (order.pk, order.number):
        assert customer.post("status", order=reference).json() == {"error": "Order not found"}


def test_a_batch_is_keyed_by_the_ids_as_sent(customer, customers):
    mine, also_mine = factories.Order.create_batch(2, account=customer.account)
    theirs = factories.Order(account=customers().account)
    sent = [mine.pk.lower(), str(also_mine.number), mine.pk, theirs.pk, "nonsense"]

    answer = customer.post("status", orders=" , ".join(sent)).json()

    assert list(answer) == sent
    assert [row.get("status") or row.get("error") for row in answer.values()] == [
        "completed",
        "completed",
        "completed",
        "Order not found",
        "Order not found",
    ]


@pytest.mark.parametrize("count", [1, 100])
def test_the_statements_do_not_grow_with_the_batch(customer, django_assert_num_queries, count):
    orders = factories.Order.create_batch(count, account=customer.account, service=factories.Service())
    customer.post("services")  # records the use of the key

    with django_assert_num_queries(2):  # the key, the orders
        answer = customer.post("status", orders=",".join(order.pk for order in orders)).json()

    assert len(answer) == count
