"""The orders that may be refilled now, as the database finds them and as the rules judge them."""

from datetime import timedelta
from itertools import product

import pytest
from django.utils import timezone

from orders.models import Order, OrderStatus
from refills.checking import check_orders
from refills.refillable import refillable
from tests import factories

pytestmark = pytest.mark.django_db

HISTORIES = [[], ["pending"], ["approved"], ["rejected", "rejected"], ["completed"], ["completed", "completed"]]


def test_the_database_finds_the_orders_that_the_rules_accept(settings):
    settings.REFILL_LIMIT = 2
    now, account = timezone.now(), factories.Account()
    services = [
        factories.Service(refill=refill, refill_days=days, refill_limit=limit)
        for refill, days, limit in product([True, False], [None, 30, 36_500], [None, 1, 3])
        if refill or limit is None
    ]
    for service, history in product(services, HISTORIES):
        order = factories.Order(account=account, service=service)
        for status in history:
            factories.Refill(order=order, status=status)
    edge = factories.Service(refill_days=30)
    for status, late in product(OrderStatus.values, (timedelta(), timedelta(microseconds=1), timedelta(days=-1))):
        ended = None if status in ("pending", "processing", "in_progress") else now - timedelta(days=30) - late
        created = now - timedelta(days=40)
        factories.Order(account=account, service=edge, status=status, created_at=created, completed_at=ended)
    orders = list(Order.objects.all())

    found = set(refillable(Order.objects.all(), now))

    verdicts = check_orders(account.pk, [order.pk for order in orders], now)
    assert found == {order for order, verdict in zip(orders, verdicts, strict=True) if verdict.refusal is None}
    assert len(found) == 31
