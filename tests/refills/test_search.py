"""What a search of the desk's list finds and says."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from refills import search as search_module
from refills.models import Refill
from refills.search import search
from tests import factories

pytestmark = pytest.mark.django_db

LIST = reverse("admin:refills_refill_changelist")


@pytest.fixture
def admin(client, staff):
    client.force_login(staff)
    return client


def listed(client, text, **query):
    return list(client.get(LIST, {"q": text, **query}).context["cl"].result_list)


def found(text):
    return list(Refill.objects.filter(search(text, timezone.now()).refills))


@pytest.mark.parametrize(
    "text",
    [
        "{refill.pk}",
        "#{refill.number}",
        "{order.pk}",
        "#{order.number}",
        "0, {order.number}\n{order.number}",
        "example.com/P/x",
        "https://www.example.com/p/x/?utm_source=mail",
        "some-shop",
        "SHOP",
        "ann@example.org",
        "order {order.number} please",
    ],
)
def test_a_settled_refill_is_found_by_whatever_names_it(text):
    order = factories.Order(
        number=4711,
        link="https://example.com/p/x",
        account__username="some-shop",
        account__email="Ann@example.org",
    )
    refill = factories.Refill(status="completed", order=order, number=70_001)
    factories.Refill(order__number=4712, order__link="https://example.com/p/y", number=70_002)

    assert found(text.format(refill=refill, order=order)) == [refill]


def test_a_number_finds_the_refill_and_the_order_that_have_it_and_no_part_of_a_name():
    by_number = factories.Refill(number=4711, order__number=80_001)
    by_order = factories.Refill(order__number=4711, number=80_002)
    by_name = factories.Refill(number=80_003, order__number=80_003, order__account__username="4711")
    factories.Refill(number=80_004, order__number=80_004, order__account__email="a4711@example.org")

    assert set(found("4711")) == {by_number, by_order, by_name}


def test_what_names_nothing_finds_nothing():
    factories.Refill()

    for text in ("nonsense", "ref_", "99999999999999999999", "x" * 3000, "%", "\\", "'"):
        assert found(text) == []


def test_refills_in_flight_come_first_then_those_settled_last(admin):
    now, account = timezone.now(), factories.Account(username="shop")

    def refill(days, status):
        settled_at = {} if status == "pending" else {"settled_at": now - timedelta(days=days)}
        return factories.Refill(
            order__account=account, status=status, created_at=now - timedelta(days=9 + days), **settled_at
        )

    old, late, pending, middle = (
        refill(5, "completed"),
        refill(1, "rejected"),
        refill(9, "pending"),
        refill(3, "rejected"),
    )

    assert listed(admin, "shop") == [pending, late, middle, old]


def test_a_search_can_be_filtered(admin):
    account = factories.Account(username="shop")
    factories.Refill(order__account=account)
    rejected = factories.Refill(order__account=account, status="rejected")

    assert listed(admin, "shop", status="rejected") == [rejected]


def test_an_order_without_refills_is_shown_with_the_verdict_of_each_rule(admin):
    order = factories.Order(number=4711, service__refill=False)
    factories.Refill(order__number=4712)

    page = admin.get(LIST, {"q": "4711"}).content.decode()

    assert reverse("admin:orders_order_change", args=[order.pk]) in page
    assert "A request would be refused now: Service does not support refills." in page
    assert "Cap is not reached: 0 of 3 used" in page
    assert "No other refill is in flight: 0 in flight" in page


def test_an_order_that_could_be_refilled_is_shown_as_such(admin):
    factories.Order(number=4711)

    assert "A request would be accepted now." in admin.get(LIST, {"q": "4711"}).content.decode()


def test_an_order_with_a_refill_in_flight_is_not_shown_beside_it():
    refill = factories.Refill(status="approved")

    assert search(refill.order_id, timezone.now()).judged == []


def test_an_order_whose_refills_are_settled_is_judged_with_all_that_count(admin):
    order = factories.Order(number=4711, service__refill_limit=2)
    for status in ("completed", "rejected", "completed"):
        factories.Refill(order=order, status=status)

    page = admin.get(LIST, {"q": "4711"}).content.decode()

    assert "A request would be refused now: Refill limit reached (2 per order)." in page
    assert "Cap is not reached: 2 of 2 used" in page
    assert len(listed(admin, "4711")) == 3


def test_few_orders_without_refills_are_shown_and_the_search_says_so():
    factories.Order.create_batch(7, link="https://example.com/same")

    result = search("example.com/same", timezone.now())

    assert len(result.judged) == 5
    assert result.remarks == ["More orders have no refill in flight: 5 of them are shown."]


def test_a_search_that_matches_too_much_says_so(monkeypatch):
    monkeypatch.setattr(search_module, "FOUND_ACCOUNTS", 2)
    monkeypatch.setattr(search_module, "FOUND_ORDERS", 2)
    for _ in range(3):
        factories.Refill(order__account=factories.Account(email="x@same.example"), order__link="https://same.example/x")

    for text, what in (("x@same", "customers"), ("https://same.example/x", "orders")):
        [remark] = search(text, timezone.now()).remarks
        assert remark.startswith(f"More than 2 {what} match")
        assert len(found(text)) == 2


def test_words_that_are_not_looked_for_are_named():
    assert search("order 12 please", timezone.now()).remarks == ["Not searched for: order, please."]


def test_a_search_for_more_than_a_hundred_numbers_is_refused(admin):
    refill = factories.Refill(number=90_001)
    text = " ".join(map(str, range(90_001, 90_102)))

    assert "Search for at most 100 ids, links and names." in admin.get(LIST, {"q": text}).content.decode()
    assert listed(admin, text) == []
    assert listed(admin, text.removesuffix(" 90101")) == [refill]


@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("text", ["shop", "https://example.com/x", "1 2 3 https://example.com/x shop@"])
def test_the_statements_do_not_grow_with_what_is_found(admin, django_assert_max_num_queries, count, text):
    for n in range(count):
        factories.Refill(
            order__account=factories.Account(username=f"shop{n}"),
            order__link="https://example.com/x",
            status="rejected",
        )
        factories.Order(link="https://example.com/x")
    admin.get(LIST)

    # The statements of the list without a search, and: orders, those without a refill in flight, accounts, reasons.
    with django_assert_max_num_queries(14):
        admin.get(LIST, {"q": text})


def test_an_orders_page_shows_the_verdict_of_each_rule(admin):
    refill = factories.Refill()

    page = admin.get(reverse("admin:orders_order_change", args=[refill.order_id])).content.decode()

    assert "No other refill is in flight: 1 in flight – A refill request is already pending for this order" in page
    assert "Cap is not reached: 1 of 3 used" in page
