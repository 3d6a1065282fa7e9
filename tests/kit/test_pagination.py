"""Slices of long lists."""

from datetime import timedelta

import pytest
from django.utils import timezone

from notpanel.kit.pagination import slice_of
from orders.models import Order
from tests import factories


@pytest.fixture
def orders(customer):
    """Seven orders, the latest first; three of them were made in the same moment."""
    now = timezone.now()
    for days in (20, 17, 15, 15, 15, 11, 10):
        factories.Order(account=customer.account, created_at=now - timedelta(days=days))
    return list(Order.objects.order_by("-created_at", "-pk"))


def take(**edge):
    return slice_of(Order.objects.all(), rows=3, **edge)


def test_the_first_slice_is_the_latest_rows(orders):
    first = take()

    assert first.rows == orders[:3]
    assert (first.newer_than, first.older_than) == (None, orders[2].pk)


def test_older_slices_follow_to_the_end(orders):
    second = take(before=take().older_than)
    third = take(before=second.older_than)

    assert (second.rows, third.rows) == (orders[3:6], orders[6:])
    assert (third.newer_than, third.older_than) == (orders[6].pk, None)


def test_newer_slices_lead_back(orders):
    third = take(before=orders[5].pk)
    second = take(after=third.newer_than)
    first = take(after=second.newer_than)

    assert (second.rows, first.rows) == (orders[3:6], orders[:3])
    assert (first.newer_than, first.older_than) == (None, orders[2].pk)


@pytest.mark.parametrize("edge", ["nonsense", "1", "ord_01HG9X7KJP4NV8QZ2M6T3W5YBC"])
def test_an_edge_that_is_no_row_gives_the_latest(orders, edge):
    assert take(before=edge).rows == orders[:3]


def test_nothing_has_no_neighbours(db):
    assert (take().rows, take().newer_than, take().older_than) == ([], None, None)


def test_a_slice_far_back_takes_two_statements(orders, django_assert_num_queries):
    with django_assert_num_queries(2):
        take(before=orders[4].pk)
    with django_assert_num_queries(1):
        take()
