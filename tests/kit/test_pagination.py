"""Pages of long lists, found by keyset pagination."""

from datetime import timedelta

import pytest
from django.utils import timezone

from notpanel.kit.pagination import page_of
from orders.models import Order
from tests import factories


@pytest.fixture
def orders(customer):
    """Seven orders, the latest first; three of them have the same created_at."""
    now = timezone.now()
    for days in (20, 17, 15, 15, 15, 11, 10):
        factories.Order(account=customer.account, created_at=now - timedelta(days=days))
    return list(Order.objects.order_by("-created_at", "-pk"))


def take(**edge):
    return page_of(Order.objects.all(), rows=3, **edge)


def test_the_first_page_is_the_latest_rows(orders):
    first = take()

    assert first.rows == orders[:3]
    assert (first.newer_than, first.older_than) == (None, orders[2].pk)


def test_older_pages_follow_to_the_end(orders):
    second = take(before=take().older_than)
    third = take(before=second.older_than)

    assert (second.rows, third.rows) == (orders[3:6], orders[6:])
    assert (third.newer_than, third.older_than) == (orders[6].pk, None)


def test_newer_pages_lead_back(orders):
    third = take(before=orders[5].pk)
    second = take(after=third.newer_than)
    first = take(after=second.newer_than)

    assert (second.rows, first.rows) == (orders[3:6], orders[:3])
    assert (first.newer_than, first.older_than) == (None, orders[2].pk)


@pytest.mark.parametrize("edge", ["nonsense", "1", "ord_01HG9X7KJP4NV8QZ2M6T3W5YBC"])
def test_an_unknown_id_gives_the_newest_rows(orders, edge):
    assert take(before=edge).rows == orders[:3]


@pytest.mark.parametrize("edge", ["before", "after"])
def test_the_id_of_a_row_outside_the_list_gives_the_newest_rows(orders, customer, edge):
    """Another account's row must not tell when it was created."""
    foreign = factories.Order(created_at=orders[3].created_at)

    found = page_of(Order.objects.filter(account=customer.account), rows=3, **{edge: foreign.pk})

    assert found.rows == orders[:3]
    assert (found.newer_than, found.older_than) == (None, orders[2].pk)


@pytest.mark.parametrize("count", range(8))
def test_a_page_has_as_many_rows_as_requested(orders, count):
    rows = page_of(Order.objects.all(), rows=count + 1)

    assert rows.rows == orders[: count + 1]
    assert (rows.older_than is None) == (count + 1 >= len(orders))


def test_every_row_is_on_exactly_one_page_whatever_the_page_size(orders):
    for size in (1, 2, 3, 4, 7):
        found, before = [], ""
        while before is not None:
            piece = page_of(Order.objects.all(), rows=size, before=before)
            found += piece.rows
            before = piece.older_than
        assert found == orders

        found, after = [], orders[-1].pk
        while after is not None:
            piece = page_of(Order.objects.all(), rows=size, after=after)
            found = piece.rows + found
            after = piece.newer_than
        assert found == orders[:-1]


def test_a_page_that_ends_with_the_list_has_no_neighbour_there(orders):
    last, first = take(before=orders[3].pk), take(after=orders[3].pk)

    assert (last.rows, last.older_than) == (orders[4:], None)
    assert (first.rows, first.newer_than) == (orders[:3], None)


def test_before_wins_over_after(orders):
    assert take(before=orders[3].pk, after=orders[6].pk) == take(before=orders[3].pk)


def test_a_page_past_the_ends_is_empty(orders):
    assert take(before=orders[-1].pk).rows == []
    assert take(after=orders[0].pk).rows == []


def test_an_empty_list_has_no_neighbouring_pages(db):
    assert (take().rows, take().newer_than, take().older_than) == ([], None, None)


def test_a_page_far_back_takes_two_statements(orders, django_assert_num_queries):
    with django_assert_num_queries(2):
        take(before=orders[4].pk)
    with django_assert_num_queries(1):
        take()
