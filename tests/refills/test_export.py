import csv
import io

import pytest
from django.urls import reverse

from tests import factories

URL = reverse("admin:refills_refill_export")


@pytest.fixture
def export(client, staff):
    client.force_login(staff)

    def rows(query=""):
        response = client.get(URL + query)
        assert response.status_code == 200
        assert response["Content-Type"] == "text/csv; charset=utf-8"
        text = b"".join(response.streaming_content).decode()
        return list(csv.DictReader(io.StringIO(text)))

    return rows


def test_the_filtered_list_is_exported(export):
    pending = factories.Refill(order__account__username="shop")
    rejected = factories.Refill(status="rejected", reason=factories.RejectionReason(text="Private."), note="n")

    [row] = export()
    assert row["refill"] == pending.pk
    assert row["order"] == pending.order_id
    assert row["account"] == "shop"
    assert row["requested"] == pending.created_at.isoformat()
    assert row["settled"] == ""
    [row] = export("?status=rejected")
    assert (row["refill"], row["reason"], row["note"]) == (rejected.pk, "Private.", "n")


def test_all_pages_are_exported_not_only_the_first(export):
    factories.Refill.create_batch(60)

    assert len(export()) == 60


def test_the_export_of_an_empty_list_is_a_header(export, client):
    assert export() == []
    assert b"".join(client.get(URL).streaming_content).startswith(b"refill,number,status,order")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_text_that_a_customer_wrote_is_not_exported_as_a_formula(export, start):
    factories.Refill(order__link=f"{start}HYPERLINK(1)")

    assert export()[0]["link"] == f"'{start}HYPERLINK(1)"


def test_a_cell_that_is_not_a_formula_is_exported_unchanged(export):
    refill = factories.Refill(
        order__link="https://example.com/?a=1&b=-2", order__account__username="a=b", delivered=None
    )

    [row] = export()

    assert (row["link"], row["account"], row["number"]) == ("https://example.com/?a=1&b=-2", "a=b", str(refill.number))
    assert (row["settled_by"], row["delivered"]) == ("", "")


@pytest.mark.parametrize("count", [1, 40])
def test_the_statements_do_not_grow_with_the_list(export, client, django_assert_num_queries, count):
    factories.Refill.create_batch(count)

    # session, user; of the list, the choices of the filters (2), the count, a page, its orders; the rows of the file
    with django_assert_num_queries(8):
        b"".join(client.get(URL).streaming_content)
