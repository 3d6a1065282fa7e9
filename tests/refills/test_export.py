import csv
import io
from datetime import datetime, timedelta, timezone

import pytest
from django.core.management import call_command
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
        text = b"".join(response.streaming_content).decode("utf-8-sig")
        return list(csv.DictReader(io.StringIO(text)))

    return rows


def test_the_filtered_list_is_exported(export):
    pending = factories.Refill(order__account__username="shop")
    rejected = factories.Refill(status="rejected", reason=factories.RejectionReason(text="Private."), note="n")

    [row] = export()
    assert row["refill"] == pending.pk
    assert row["order"] == pending.order_id
    assert row["account"] == "shop"
    assert row["requested (UTC)"] == f"{pending.created_at:%Y-%m-%d %H:%M:%S}"
    assert row["settled (UTC)"] == ""
    [row] = export("?status=rejected")
    assert (row["refill"], row["reason"], row["note"]) == (rejected.pk, "Private.", "n")


def test_all_pages_are_exported_not_only_the_first(export):
    factories.Refill.create_batch(60)

    assert len(export()) == 60


def test_the_export_of_an_empty_list_is_a_header(export, client):
    assert export() == []
    assert b"".join(client.get(URL).streaming_content).startswith(b"\xef\xbb\xbfrefill,number,status,order")


@pytest.mark.parametrize("start", [*"=+-@＝＋－＠", "\t", "\r", "\n", "\xa0"])
def test_what_a_customer_wrote_is_no_formula(export, start):
    factories.Refill(order__link=f"{start}HYPERLINK(1)")

    assert export()[0]["link"] == f"'{start}HYPERLINK(1)"


@pytest.mark.parametrize("blank", ["", " ", "\xa0", "\u200b", "\ufeff"])
@pytest.mark.parametrize("separator", [";", "\t", "\n", "|"])
def test_what_follows_a_separator_of_another_locale_is_no_formula(export, separator, blank):
    factories.Refill(order__link=f"x{separator}{blank}=1+1;-2")

    assert export()[0]["link"] == f"x{separator}'{blank}=1+1;'-2"


def test_excel_reads_names(export, client):
    factories.Refill(order__account__username="žofie")

    content = b"".join(client.get(URL).streaming_content)

    assert content.startswith("\ufeff".encode())
    assert "žofie".encode() in content


def test_times_are_as_excel_takes_them(export):
    factories.Refill(created_at=datetime(2026, 5, 31, 12, 0, 0, 123, tzinfo=timezone(timedelta(hours=2))))

    assert export()[0]["requested (UTC)"] == "2026-05-31 10:00:00"


def test_columns_of_the_file_settle_what_it_lists(export, client, staff, tmp_path):
    """With the byte order mark, the quotes and the line ends that it has."""
    refill = factories.Refill(order__link="x;=1+1")
    lines = b"".join(client.get(URL).streaming_content).decode().splitlines()
    cells = [line.split(",") for line in lines]
    file = tmp_path / "refills.csv"
    kept = [[row[0], row[2].replace("pending", "completed"), row[-1] or "done"] for row in cells]
    file.write_text("".join(",".join(row) + "\r\n" for row in kept))
    assert file.read_text().startswith("\ufeffrefill,status,note")

    call_command("settlerefills", str(file), "--by", staff.username)

    refill.refresh_from_db()
    assert refill.status == "completed"


def test_a_cell_that_is_no_formula_is_exported_as_it_is(export):
    refill = factories.Refill(
        order__link="https://example.com/?a=1&b=-2", order__account__username="a=b", delivered=None
    )

    [row] = export()

    assert (row["link"], row["account"], row["number"]) == ("https://example.com/?a=1&b=-2", "a=b", str(refill.number))
    assert (row["settled_by"], row["delivered"]) == ("", "")


@pytest.mark.parametrize("count", [1, 40])
def test_the_statements_do_not_grow_with_the_list(export, client, django_assert_num_queries, count):
    factories.Refill.create_batch(count)

    # session, user, second factor; of the list, the choices of the filters (2), the count, a page, its orders,
    # the tabs; the rows of the file
    with django_assert_num_queries(10):
        b"".join(client.get(URL).streaming_content)
