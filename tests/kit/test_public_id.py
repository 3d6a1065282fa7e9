"""Ids: how they are read, and how the database stores them (docs/contract.md, "Ids")."""

import uuid

import pytest
from django.core.exceptions import ValidationError
from django.db import connection

from notpanel.kit.public_id import generate, parse
from orders.models import Order
from tests import factories

ID = "ord_01HG9X7KJP4NV8QZ2M6T3W5YBC"


def test_an_id_is_a_prefix_and_a_ulid():
    assert len(generate("ord")) == 30
    assert generate("ord") != generate("ord")
    assert parse("ord", generate("ord"))


def test_ids_sort_by_time():
    ids = [generate("ref") for _ in range(100)]

    assert ids == sorted(ids)


@pytest.mark.parametrize("text", [ID, ID.lower(), ID.upper(), f" {ID}\n"])
def test_an_id_is_read_in_either_case_and_written_in_upper(text):
    assert parse("ord", text) == ID


@pytest.mark.parametrize(
    ("text", "number"), [("1", 1), (" 12 ", 12), (str(2**63 - 1), 2**63 - 1), ("1" * 18, int("1" * 18))]
)
def test_digits_are_read_as_a_number(text, number):
    assert parse("ord", text) == number


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "ord",
            "ord_",
            ID[:-1],
            ID + "0",
            ID.replace("ord", "ref"),
            "ord-" + ID[4:],
            ID[:-1] + "U",
            ID[:-1] + "I",
        ),
        *(
            "ord_8" + "Z" * 25,
            str(2**63),
            "٣",
            "²",
            "+1",
            "-1",
            "1.0",
            "1e3",
            "0x1",
            "007",  # a piece of 2,000,007
            "0",
            "1".zfill(64),
            "9" * 65,
            "1".zfill(65),
            ID[:9] + "\x00" + ID[10:],
        ),
    ],
)
def test_text_that_cannot_be_an_id_is_read_as_none(text):
    assert parse("ord", text) is None


def test_nobody_edits_an_id():
    assert not Order._meta.pk.editable


def test_an_id_is_stored_as_a_uuid(db):
    order = factories.Order(pk=ID)

    with connection.cursor() as cursor:
        cursor.execute("SELECT id, pg_typeof(id)::text FROM orders_order")
        stored, kind = cursor.fetchone()
    assert kind == "uuid"
    assert isinstance(stored, uuid.UUID)
    assert Order.objects.get(pk=stored).pk == order.pk == ID
    assert Order.objects.get(pk=ID.lower()).pk == ID


def test_text_that_is_not_an_id_is_refused(db):
    with pytest.raises(ValidationError, match="is not an id that starts with ord_"):
        Order.objects.get(pk="17")


def test_rows_are_found_by_id_and_by_number(db):
    by_id, by_number, by_both, _ = factories.Order.create_batch(4)
    named = [by_id.pk, by_number.number, by_both.pk, by_both.number, None]

    assert set(Order.objects.named(named)) == {by_id, by_number, by_both}
    assert set(Order.objects.named(name for name in named)) == {by_id, by_number, by_both}
    assert list(Order.objects.named([])) == []
    assert list(Order.objects.named([None])) == []
