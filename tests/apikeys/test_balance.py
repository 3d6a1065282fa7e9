"""action=balance (docs/contract.md)."""

from decimal import Decimal

import pytest

from tests.conftest import post


@pytest.mark.parametrize(
    ("balance", "text"),
    [("47.32", "47.32"), ("0", "0.00"), ("-3.5", "-3.50"), ("0.27819", "0.27819"), (None, None)],
)
def test_the_balance_is_what_the_books_said_last(customers, balance, text):
    customer = customers(balance=balance and Decimal(balance), currency="EUR")

    response = customer.post("balance")

    assert response.status_code == 200
    assert response.json() == {"balance": text, "currency": "EUR"}


def test_each_account_gets_its_own_balance(customers):
    mine, another = (customers(balance=Decimal(amount)) for amount in (1, 2))

    assert [who.post("balance").json()["balance"] for who in (mine, another)] == ["1.00", "2.00"]


def test_the_balance_needs_a_key_of_an_active_account(db, customers):
    assert post(key="np_", action="balance").status_code == 401
    assert customers(is_active=False).post("balance").status_code == 403
