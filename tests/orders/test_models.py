from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from orders.models import money
from tests import factories


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [
        ({"number": 0}, "order_number_is_positive"),
        ({"quantity": 0}, "order_quantity_is_positive"),
        ({"charge": Decimal("-0.01")}, "order_charge_is_not_negative"),
        ({"start_count": -1}, "orders_order_start_count_check"),
        ({"remains": -1}, "orders_order_remains_check"),
        ({"currency": "usd"}, "order_currency_is_a_code"),
        ({"status": "lost"}, "order_status_is_known"),
        ({"status": "completed", "completed_at": None}, "order_delivered_has_its_time"),
        ({"status": "partial", "completed_at": None}, "order_delivered_has_its_time"),
        ({"status": "pending", "completed_at": timezone.now()}, "order_under_way_has_no_end"),
        ({"completed_at": timezone.now() - timedelta(days=400)}, "order_ends_after_it_began"),
    ],
)
def test_the_database_refuses_an_order_that_must_never_be(db, fields, constraint):
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        factories.Order(**fields)


def test_the_number_of_an_order_is_unique(db):
    order = factories.Order()

    with pytest.raises(IntegrityError, match="number"), transaction.atomic():
        factories.Order(number=order.number)


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [
        ({"rate": Decimal("-1")}, "service_rate_is_not_negative"),
        ({"min": 100, "max": 99}, "service_max_is_not_below_min"),
        ({"min": -1}, "orders_service_min_check"),
        ({"refill_days": 0}, "service_refill_days_is_positive"),
        ({"refill_limit": 0}, "service_refill_limit_is_positive"),
    ],
)
def test_the_database_refuses_a_service_that_must_never_be(db, fields, constraint):
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        factories.Service(**fields)


@pytest.mark.parametrize(
    ("amount", "text"),
    [("0.9", "0.90"), ("0", "0.00"), ("12", "12.00"), ("0.27819", "0.27819"), ("1.10000", "1.10"), ("100", "100.00")],
)
def test_money_has_two_decimals_or_as_many_as_it_needs(amount, text):
    assert money(Decimal(amount)) == text
