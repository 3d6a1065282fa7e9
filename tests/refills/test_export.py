import csv
import io
from datetime import UTC, datetime, timedelta, timezone

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection
from django.urls import reverse

from notpanel.kit.csv_answers import safe_cell
from orders.models import Order
from refills.admin.export import EXPORTED
from refills.models import Refill
from refills.reopening import reopen
from refills.settlement_files import COLUMNS, unquoted
from refills.statuses import RefillStatus
from tests import factories
from tests.conftest import settle

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


@pytest.mark.parametrize("query", ["", "settled/?since=2026-05-01&until=2026-05-31&columns=number"])
def test_a_query_that_fails_is_a_page_and_not_half_a_file(client, staff, query):
    client.force_login(staff)
    client.raise_request_exception = False

    def fail(execute, sql, *args):
        if 'FROM "refills_refill"' in sql and "ORDER BY" in sql and "LIMIT" not in sql:
            raise OperationalError("canceling statement due to statement timeout")
        return execute(sql, *args)

    factories.Refill(status="completed", settled_at=datetime(2026, 5, 5, tzinfo=UTC))
    with connection.execute_wrapper(fail):
        response = client.get(URL + query)

    assert response.status_code == 503
    assert response["Content-Type"].startswith("text/html")


def test_the_export_of_an_empty_list_is_a_header(export, client):
    assert export() == []
    assert b"".join(client.get(URL).streaming_content).startswith(b"\xef\xbb\xbfrefill,number,status,order")


@pytest.mark.parametrize("start", [*"=+-@＝＋－＠", "\t", "\r", "\n", "\xa0"])
def test_what_a_customer_wrote_is_not_a_formula(export, start):
    factories.Refill(order__link=f"{start}HYPERLINK(1)")

    assert export()[0]["link"] == f"'{start}HYPERLINK(1)"


@pytest.mark.parametrize("blank", ["", " ", "\xa0", "\u200b", "\ufeff"])
@pytest.mark.parametrize("separator", [";", "\t", "\n", "|"])
def test_what_follows_a_separator_of_another_locale_is_not_a_formula(export, separator, blank):
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


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_the_export_is_read_back_export_edit_the_status_settle(export, client, staff, tmp_path, capsys, delimiter):
    """The file comes back as a spreadsheet writes it: byte order mark, its own quotes, line ends and separator."""
    to_complete, to_reject, left = factories.Refill.create_batch(3, order__link="x;=1+1")
    untouched = [
        factories.Refill(status="completed", delivered=5, note="=1+1; -2"),
        factories.Refill(status="rejected", reason_text="-50% is normal.", note="two\nlines"),
        factories.Refill(status="rejected", note="no words for the customer"),
        factories.Refill(status="approved", note="+1"),
    ]
    reopened, settled_meanwhile = factories.Refill(status="completed"), factories.Refill()
    rows = [row for query in ("?status=in_flight", "?status=completed", "?status=rejected") for row in export(query)]
    assert len(rows) == 9
    edits = {
        to_complete.pk: {"status": "completed", "delivered": "7", "note": "'=2"},
        to_reject.pk: {"status": "rejected", "reason": "Nothing dropped."},
    }
    file = tmp_path / "refills.csv"
    with file.open("w", encoding="utf-8-sig", newline="") as opened:
        writer = csv.DictWriter(opened, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(row | edits.get(row["refill"], {}) for row in rows)
    reopen([reopened.pk], staff, "a mistake")
    settle([settled_meanwhile.pk], RefillStatus.COMPLETED, staff)
    before = [Refill.objects.filter(pk=refill.pk).values().get() for refill in [*untouched, left]]

    call_command("settlerefills", str(file), "--by", staff.username)

    assert capsys.readouterr().out == "Settled: 2; approved: 0; unchanged: 7; refused: 0.\n"
    for refill in (to_complete, to_reject, reopened):
        refill.refresh_from_db()
    assert (to_complete.status, to_complete.delivered, to_complete.note) == ("completed", 7, "=2")
    assert (to_reject.status, to_reject.reason_text) == ("rejected", "Nothing dropped.")
    assert reopened.status == "pending"
    assert [Refill.objects.filter(pk=refill.pk).values().get() for refill in [*untouched, left]] == before


def test_settlerefills_knows_every_column_of_the_export():
    assert set(EXPORTED) <= {column.name for column in COLUMNS}


@pytest.mark.parametrize("start", ["", *"=+-@＝＋－＠"])
@pytest.mark.parametrize("before", ["", "x", "x;", "x|", "\n", "x\n \u200b", "\xa0", "\t"])
def test_what_the_export_quotes_is_unquoted(before, start):
    text = f"{before}{start}y"

    assert unquoted(safe_cell(text)) == text


def test_a_cell_that_is_not_a_formula_is_exported_as_it_is(export):
    refill = factories.Refill(
        order__link="https://example.com/?a=1&b=-2", order__account__username="a=b", delivered=None
    )

    [row] = export()

    assert (row["link"], row["account"], row["number"]) == ("https://example.com/?a=1&b=-2", "a=b", str(refill.number))
    assert (row["settled_by"], row["delivered"]) == ("", "")


@pytest.mark.parametrize("count", [1, 40])
def test_the_statements_do_not_grow_with_the_list(export, client, django_assert_num_queries, count):
    factories.Refill.create_batch(count)

    # session, user, second factor; the choices of the list's filters (2); the rows of the file
    with django_assert_num_queries(6):
        b"".join(client.get(URL).streaming_content)


class TestBySettlementDate:
    """The page that asks for days and columns, and its file."""

    FORM = reverse("admin:refills_refill_export_form")
    DAYS = {"since": "2026-05-01", "until": "2026-05-31"}

    @pytest.fixture
    def settled(self, client, staff):
        """Sign in, and return a function that exports what was settled in May."""
        client.force_login(staff)

        def rows(**query):
            columns = query.pop("columns", list(EXPORTED))
            response = client.get(self.FORM, self.DAYS | {"columns": columns} | query)
            assert response["Content-Type"] == "text/csv; charset=utf-8", response.context["form"].errors
            text = b"".join(response.streaming_content).decode("utf-8-sig")
            return list(csv.DictReader(io.StringIO(text)))

        return rows

    def test_refills_of_all_settled_statuses_from_the_first_to_the_last_moment(self, settled):
        moments = {
            "before": datetime(2026, 4, 30, 23, 59, 59, tzinfo=UTC),
            "first": datetime(2026, 5, 1, tzinfo=UTC),
            "last": datetime(2026, 5, 31, 23, 59, 59, 999999, tzinfo=UTC),
            "after": datetime(2026, 6, 1, tzinfo=UTC),
        }
        refills = {
            name: factories.Refill(status="rejected" if name == "last" else "completed", settled_at=at)
            for name, at in moments.items()
        }
        factories.Refill(created_at=moments["first"])

        assert [row["refill"] for row in settled()] == [refills["first"].pk, refills["last"].pk]

    def test_days_are_those_of_the_agents_zone(self, settled, staff):
        refill = factories.Refill(status="completed", settled_at=datetime(2026, 4, 30, 22, 30, tzinfo=UTC))

        assert settled() == []
        staff.time_zone = "Europe/Berlin"
        staff.save()
        assert [row["refill"] for row in settled()] == [refill.pk]

    def test_only_the_columns_that_were_chosen_and_they_are_remembered(self, settled, client):
        factories.Refill(status="completed", settled_at=datetime(2026, 5, 5, tzinfo=UTC))

        [row] = settled(columns=["number", "status"])

        assert list(row) == ["number", "status"]
        assert client.get(self.FORM).context["form"]["columns"].value() == ["number", "status"]

    def test_a_supplier_sees_no_names_and_no_notes(self, settled):
        factories.Refill(
            status="completed",
            settled_at=datetime(2026, 5, 5, tzinfo=UTC),
            note="secret-note",
            staff=factories.Account(username="secret-agent"),
            order__account__username="secret-shop",
        )

        [row] = settled(for_supplier="on")

        assert not {"account", "settled_by", "note"} & set(row)
        assert "secret" not in "".join(row.values())
        assert row["link"]

    @pytest.mark.parametrize(
        ("query", "told"),
        [
            ({"since": ""}, "Enter a date such as 2026-05-31."),
            ({"since": "31.5.2026"}, "Enter a date such as 2026-05-31."),
            ({"until": "2026-02-30"}, "Enter a date such as 2026-05-31."),
            ({"since": "0001-01-01"}, "Choose a year from 1971 to 9000."),
            ({"until": "9999-12-31"}, "Choose a year from 1971 to 9000."),
            ({"until": "2026-04-30"}, "Choose a last day that is not before the first."),
            ({"columns": []}, "Choose at least one column."),
            ({"columns": ["password"]}, "Choose at least one column."),
            ({"columns": ["note"], "for_supplier": "on"}, "Choose a column that a supplier may see."),
        ],
    )
    def test_what_is_wrong_gets_a_sentence(self, client, staff, query, told):
        client.force_login(staff)

        response = client.get(self.FORM, self.DAYS | {"columns": ["number"]} | query)

        assert response.status_code == 200
        assert told in response.content.decode()

    @pytest.mark.parametrize("count", [10, 1000])
    def test_the_statements_do_not_grow(self, settled, django_assert_num_queries, count):
        account, service = factories.Account(), factories.Service()
        orders = Order.objects.bulk_create(factories.Order.build_batch(count, account=account, service=service))
        at = datetime(2026, 5, 5, tzinfo=UTC)
        Refill.objects.bulk_create(
            Refill(order=o, account=account, service=service, status="completed", settled_at=at, settled_by=account)
            for o in orders
        )
        settled()

        # session, user, second factor; the session with the columns (3); the rows of the file
        with django_assert_num_queries(7):
            assert len(settled()) == count
