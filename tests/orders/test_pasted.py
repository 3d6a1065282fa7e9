"""What people paste into a search."""

import pytest

from orders.models import Order
from orders.pasted import Pasted, read
from tests import factories

REF = "ref_01HG9X7KJP4N0123456789ABCD"


@pytest.mark.parametrize(
    ("text", "ids", "links", "names", "unread"),
    [
        ("52796", ["52796"], [], [], []),
        (" #52796 ", ["52796"], [], [], []),
        ("\u200b52796\u00a0", ["52796"], [], [], []),
        ("52796, 52797;52798|52799", ["52796", "52797", "52798", "52799"], [], [], []),
        ("#1\n#2\r\n3", ["1", "2", "3"], [], [], []),
        (REF.lower(), [REF.lower()], [], [], []),
        ("https://a.example/p?x=1,2", [], ["https://a.example/p?x=1,2"], [], []),
        ("a.example/p", [], ["a.example/p"], [], []),
        ("<https://a.example/p>,", [], ["https://a.example/p"], [], []),
        ("https://a.example/p,https://b.example/q", [], ["https://a.example/p", "https://b.example/q"], [], []),
        ("52796,https://a.example/p", ["52796"], ["https://a.example/p"], [], []),
        ("www.a.example", [], ["www.a.example"], [], []),
        ("a.example", [], ["a.example"], ["a.example"], []),
        ("ann@shop.example", [], ["ann@shop.example"], ["ann@shop.example"], []),
        ("Ann", [], [], ["Ann"], []),
        ("Ann of the shop", [], [], ["Ann of the shop"], []),
        ("order 52796 of ann@shop.example", ["52796"], [], ["ann@shop.example"], ["order", "of"]),
        ("2,000,000,028", [], [], ["2,000,000,028"], []),
        ("0123", [], [], ["0123"], []),
        ("", [], [], [], []),
        ('""', [], [], [], []),
    ],
)
def test_a_text_is_sorted_out(text, ids, links, names, unread):
    assert read(text) == Pasted(ids, links, names, unread)


def test_a_hundred_ids_are_not_too_long():
    assert not read(" ".join(map(str, range(1, 101)))).is_too_long
    assert read(" ".join(map(str, range(1, 102)))).is_too_long


@pytest.mark.parametrize(
    ("stored", "pasted"),
    [
        ("https://www.example.com/p/x/", "https://www.example.com/p/x/"),
        ("https://www.example.com/p/x/", "http://example.com/p/x"),
        ("https://www.example.com/p/x/", "EXAMPLE.com/p/X/"),
        ("https://example.com/p/x", "www.example.com/p/x//"),
        ("https://example.com/p/x", "https://m.example.com/p/x"),
        ("https://example.com/p/x", "https://example.com/p/x?igsh=abc&utm_source=qr"),
        ("https://example.com/p/x/?igsh=abc", "example.com/p/x"),
        ("https://example.com/p/x/?igsh=abc", "https://example.com/p/x?igsh=def"),
        ("https://example.com/p/x", "https://example.com/p/x#comments"),
        ("https://www.youtube.com/watch?v=abc", "youtube.com/watch?v=abc&t=10s"),
        ("https://www.youtube.com/watch?v=abc", "youtube.com/watch?si=1&v=abc"),
        ("https://www.youtube.com/watch?v=abc&t=10s", "https://youtube.com/watch?v=abc"),
        ("example.com/%_x", "https://example.com/%_x/"),
        ("example.com/%_x?y=1", "https://example.com/%_x/"),
        ("https://example.com/" + "x" * 300, "example.com/" + "x" * 300),
    ],
)
def test_an_order_is_found_however_its_link_is_written(db, stored, pasted):
    order = factories.Order(link=stored)

    assert list(Order.objects.matching(pasted)) == [order]


@pytest.mark.parametrize(
    ("stored", "pasted"),
    [
        ("https://example.com/p/x", "https://example.com/p"),
        ("https://example.com/p", "https://example.com/p/x"),
        ("https://www.youtube.com/watch?v=abc", "https://www.youtube.com/watch?v=abd"),
        ("https://www.youtube.com/watch?v=abcd", "https://www.youtube.com/watch?v=abc"),
        ("https://example.com/aax", "https://example.com/%x"),
        ("https://example.com/x", "https://example.org/x"),
        ("https://wwwexample.com/x", "https://example.com/x"),
    ],
)
def test_another_link_does_not_find_it(db, stored, pasted):
    factories.Order(link=stored)

    assert not Order.objects.matching(pasted).exists()


def test_several_orders_are_found_at_once(db):
    orders = [factories.Order(link=f"https://example.com/{n}") for n in range(4)]
    factories.Order()

    text = f"#{orders[0].number}, {orders[1].pk} https://www.example.com/2?x=1\nexample.com/3"

    assert set(Order.objects.matching(text)) == set(orders)
