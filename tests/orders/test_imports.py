import contextlib
import csv
import io
import time
import tracemalloc
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, transaction

from notpanel.kit.refusals import BadFile
from notpanel.kit.row_files import Imported
from orders.imports import _CHANGEABLE, import_orders, import_services
from orders.models import Order, Service
from tests import factories, races
from tests.work import counted

ORDER = {
    "number": "17",
    "account": "shop",
    "service": "1",
    "link": "https://example.com/a,b",
    "quantity": "1000",
    "charge": "0.27819",
    "currency": "EUR",
    "start_count": "12",
    "remains": "0",
    "status": "completed",
    "created": "2026-05-01T10:00:00Z",
    "completed": "2026-05-02T12:00:00+02:00",
}
SERVICE = {
    "id": "1",
    "name": "Likes",
    "category": "Photos",
    "type": "Default",
    "rate": "0.90",
    "min": "50",
    "max": "1000",
    "refill": "true",
    "cancel": "no",
    "active": "1",
    "refill_days": "30",
    "refill_limit": "",
}


@pytest.fixture
def write(tmp_path):
    """Write rows as a CSV file; returns its path."""

    def write_rows(*rows, header=None):
        path = tmp_path / "file.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, header or list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return str(path)

    return write_rows


@pytest.fixture
def shop(db):
    factories.Service(id=1)
    return factories.Account(username="shop")


def refused(command, path):
    with pytest.raises(CommandError) as error:
        call_command(command, path)
    assert error.value.returncode == 1
    assert "Nothing was changed." in str(error.value)
    return str(error.value)


class TestOrders:
    def test_a_row_becomes_an_order(self, shop, write, capsys):
        call_command("importorders", write(ORDER))

        order = Order.objects.get()
        assert capsys.readouterr().out == "Imported: 1 created, 0 changed, 0 unchanged.\n"
        assert order.pk.startswith("ord_")
        assert (order.number, order.account, order.service_id) == (17, shop, 1)
        assert (order.link, order.quantity, order.charge) == ("https://example.com/a,b", 1000, Decimal("0.27819"))
        assert (order.currency, order.start_count, order.remains) == ("EUR", 12, 0)
        assert order.status == "completed"
        assert order.created_at == datetime(2026, 5, 1, 10, tzinfo=UTC)
        assert order.completed_at == datetime(2026, 5, 2, 10, tzinfo=UTC)

    def test_optional_columns_may_be_missing(self, shop, write):
        optional = ("currency", "start_count", "remains", "completed")
        row = {name: value for name, value in ORDER.items() if name not in optional} | {"status": "pending"}

        call_command("importorders", write(row))

        order = Order.objects.get()
        assert (order.currency, order.start_count, order.remains, order.completed_at) == ("USD", None, None, None)

    def test_a_known_number_is_changed_and_keeps_its_id(self, shop, write, capsys):
        call_command("importorders", write(ORDER, ORDER | {"number": "18"}))
        before = Order.objects.get(number=17)

        call_command("importorders", write(ORDER | {"remains": "5", "status": "partial"}, ORDER | {"number": "18"}))

        after = Order.objects.get(number=17)
        assert (after.pk, after.remains, after.status) == (before.pk, 5, "partial")
        assert "0 created, 1 changed, 1 unchanged" in capsys.readouterr().out

    @pytest.mark.parametrize("absent", [["currency"], ["start_count"], ["remains", "completed"]])
    def test_what_a_file_has_no_column_for_stays(self, shop, write, absent):
        call_command("importorders", write(ORDER), verbosity=0)
        before = Order.objects.values().get()
        row = {name: value for name, value in ORDER.items() if name not in absent} | {"quantity": "2000"}

        with open(write(row), "rb") as file:
            assert import_orders(file) == Imported(created=0, changed=1, unchanged=0)
        with open(write(row), "rb") as file:
            assert import_orders(file) == Imported(created=0, changed=0, unchanged=1)

        assert Order.objects.values().get(number=17) == before | {"quantity": 2000}

    def test_an_empty_cell_clears_what_may_be_empty_and_leaves_the_currency(self, shop, write):
        call_command("importorders", write(ORDER, ORDER | {"number": "18"}), verbosity=0)
        empty = {"start_count": "", "remains": "", "currency": ""}

        call_command("importorders", write(ORDER | empty, ORDER | {"number": "18", "currency": "USD"}), verbosity=0)

        orders = Order.objects.order_by("number").values_list("start_count", "remains", "currency")
        assert list(orders) == [(None, None, "EUR"), (12, 0, "USD")]

    def test_a_kept_completion_must_go_with_the_status(self, shop, write):
        """The time of a known order counts where the file has no column for it."""
        call_command("importorders", write(ORDER, ORDER | {"number": "18", "status": "pending", "completed": ""}))
        row = {name: value for name, value in ORDER.items() if name != "completed"}

        message = refused("importorders", write(row | {"status": "pending"}, row | {"number": "18"}))

        assert "line 2: completed: must be empty, because the order is pending" in message
        assert "line 3: completed: must be given, because the order is completed" in message
        call_command("importorders", write(row | {"status": "partial"}), verbosity=0)
        assert Order.objects.get(number=17).completed_at

    def test_a_dry_run_changes_nothing(self, shop, write, capsys):
        call_command("importorders", write(ORDER), "--dry-run")

        assert capsys.readouterr().out == "Would be imported: 1 created, 0 changed, 0 unchanged.\n"
        assert not Order.objects.exists()

    @pytest.mark.parametrize(
        ("cells", "error"),
        [
            ({"number": "0"}, "number: “0” is not a whole number from 1 to"),
            ({"number": "-5"}, "number: “-5” is not"),
            ({"number": "1e3"}, "number: “1e3” is not"),
            ({"number": "9" * 19}, "number: “9999999999999999999” is not"),
            ({"number": "9" * 5000}, "number: “9999"),
            ({"number": ""}, "number: “” is not"),
            ({"account": "nobody"}, "account: “nobody” is unknown"),
            ({"account": ""}, "account: must be text of 1 to 150 characters"),
            ({"service": "2"}, "service: 2 is unknown"),
            ({"link": ""}, "link: must be text"),
            ({"link": "x" * 2049}, "link: must be text of 1 to 2048 characters"),
            ({"link": "a\x00b"}, "link: must be text"),
            ({"quantity": "0"}, "quantity: “0” is not"),
            ({"charge": "-1"}, "charge: “-1” is not an amount"),
            ({"charge": "NaN"}, "charge: “NaN” is not an amount"),
            ({"charge": "Infinity"}, "charge: “Infinity” is not an amount"),
            ({"charge": "0.000001"}, "charge: “0.000001” is not an amount"),
            ({"charge": "1000000000"}, "charge: “1000000000” is not an amount"),
            ({"charge": "1e999999999"}, "charge: “1e999999999” is not an amount"),
            ({"currency": "US$"}, "currency: “US$” is not a currency code"),
            ({"start_count": "-1"}, "start_count: “-1” is not"),
            ({"remains": "many"}, "remains: “many” is not"),
            ({"status": "Done"}, "status: “Done” is not one of pending, processing"),
            ({"created": "yesterday"}, "created: “yesterday” is not a time"),
            ({"created": "0001-01-01"}, "created: 1 is not a year"),
            ({"completed": ""}, "completed: must be given, because the order is completed"),
            ({"status": "in_progress"}, "completed: must be empty, because the order is in_progress"),
            ({"completed": "2026-04-01"}, "completed: must not be before created"),
        ],
    )
    def test_a_bad_row_is_reported_with_its_line_and_nothing_changes(self, shop, write, cells, error):
        message = refused("importorders", write(ORDER, ORDER | {"number": "18"} | cells))

        assert f"line 3: {error}" in message
        assert not Order.objects.exists()

    def test_all_errors_are_reported_at_once(self, shop, write):
        message = refused("importorders", write(ORDER | {"account": "x"}, ORDER | {"status": "x", "charge": "x"}))

        assert [line[:14] for line in message.splitlines()[1:4]] == [
            "line 2: accoun",
            "line 3: charge",
            "line 3: status",
        ]

    def test_the_first_of_many_errors_are_reported_and_all_are_counted(self, shop, write):
        message = refused("importorders", write(*[ORDER | {"number": "x"}] * 500))

        assert "line 2: number" in message
        assert "and 450 more" in message

    def test_a_number_that_is_in_the_file_twice_is_refused(self, shop, write):
        assert "line 4: number: 17 is in the file twice" in refused(
            "importorders", write(ORDER, ORDER | {"number": "18"}, ORDER)
        )

    def test_an_order_keeps_its_account_and_its_service(self, shop, write):
        factories.Account(username="other")
        factories.Service(id=2)
        call_command("importorders", write(ORDER))

        for cells in ({"account": "other"}, {"service": "2"}):
            message = refused("importorders", write(ORDER | cells))
            assert "line 2: number: 17 is an order of another account or service" in message
        assert Order.objects.get().account == shop

    @pytest.mark.parametrize(
        ("text", "error"),
        [
            ("", "line 1: the file is empty"),
            (",".join(ORDER)[7:], "number is missing"),
            ("number,acount\n", "“acount” is unknown"),
            ("number,number\n", "number is named twice (“number” and “number”)"),
            (",".join([*ORDER, "colour"]) + "\n", "; “colour” is unknown"),
            (",".join(ORDER).replace("number", "Numbers") + "\n", "; number is missing; “Numbers” is unknown"),
            (",".join([*ORDER, "link"]) + "\n", "the columns must be number, account"),
            (",".join(ORDER) + "\n1,2\n", "line 2: 2 cells, where the header has 12"),
            (",".join(ORDER) + '\n1,"2\n', "line 2: this is not CSV: a double quote is not closed"),
        ],
    )
    def test_a_file_of_the_wrong_form_is_refused(self, shop, tmp_path, text, error):
        (tmp_path / "file.csv").write_text(text)

        assert error in refused("importorders", str(tmp_path / "file.csv"))

    def test_a_file_that_is_not_utf8_is_refused(self, shop, tmp_path):
        (tmp_path / "file.csv").write_bytes(",".join(ORDER).encode() + b"\n\xff")

        assert "line 2: number: a character is neither UTF-8 nor UTF-16" in refused(
            "importorders", str(tmp_path / "file.csv")
        )

    def test_a_file_from_a_spreadsheet_is_read(self, shop, tmp_path):
        """With a byte order mark, CRLF, blank lines and a line break within a cell."""
        cells = ",".join(ORDER.values()).replace("https://example.com/a,b", '"a\r\nb"')
        (tmp_path / "file.csv").write_text(
            f"\ufeff{','.join(ORDER)}\r\n\r\n{cells}\r\n{cells.replace('17', '18').replace('shop', 'x')}\r\n",
            newline="",
        )

        assert "line 5: account: “x” is unknown" in refused("importorders", str(tmp_path / "file.csv"))

    def test_a_file_that_does_not_exist_is_reported(self, db):
        with pytest.raises(CommandError, match=r"nowhere\.csv: No such file or directory"):
            call_command("importorders", "nowhere.csv")

    def test_columns_may_come_in_any_order_and_cells_may_have_spaces(self, shop, tmp_path):
        names = sorted(ORDER)
        lines = [" , ".join(names), " , ".join(ORDER[name].replace(",", "") for name in names)]
        (tmp_path / "file.csv").write_text("\n".join(lines))

        call_command("importorders", str(tmp_path / "file.csv"), verbosity=0)

        order = Order.objects.get()
        assert (order.number, order.link, order.status) == (17, "https://example.com/ab", "completed")

    def test_the_ids_of_orders_sort_by_the_time_they_were_created(self, shop, write):
        days = {"1": "2026-05-03", "2": "2026-05-01", "3": "2026-05-02"}
        rows = [ORDER | {"number": number, "created": day, "completed": "2026-06-01"} for number, day in days.items()]

        call_command("importorders", write(*rows), verbosity=0)

        assert list(Order.objects.order_by("pk").values_list("number", flat=True)) == [2, 3, 1]

    @pytest.mark.parametrize(
        ("cells", "changes"),
        [
            ({"link": "https://example.com/c"}, {"link": "https://example.com/c"}),
            ({"quantity": "2"}, {"quantity": 2}),
            ({"charge": "0.27820"}, {"charge": Decimal("0.27820")}),
            ({"currency": "USD"}, {"currency": "USD"}),
            ({"start_count": ""}, {"start_count": None}),
            ({"start_count": "13"}, {"start_count": 13}),
            ({"remains": "1"}, {"remains": 1}),
            ({"status": "partial"}, {"status": "partial"}),
            ({"created": "2026-05-01T10:00:01Z"}, {"created_at": datetime(2026, 5, 1, 10, 0, 1, tzinfo=UTC)}),
            ({"completed": "2026-05-03"}, {"completed_at": datetime(2026, 5, 3, tzinfo=UTC)}),
            ({"charge": "0.278190", "completed": "2026-05-02T10:00:00Z"}, {}),  # the same values, written differently
        ],
    )
    def test_only_a_change_is_counted_and_written_whatever_the_column(self, shop, write, cells, changes):
        call_command("importorders", write(ORDER, ORDER | {"number": "18"}), verbosity=0)
        before = {order.number: order for order in Order.objects.all()}

        with open(write(ORDER | cells, ORDER | {"number": "18"}, ORDER | {"number": "19"}), "rb") as file:
            imported = import_orders(file)

        assert imported == Imported(created=1, changed=int(bool(changes)), unchanged=2 - int(bool(changes)))
        differences = {
            (order.number, field.attname): getattr(order, field.attname)
            for order in Order.objects.filter(number__in=before)
            for field in Order._meta.fields
            if getattr(order, field.attname) != getattr(before[order.number], field.attname)
        }
        assert differences == {(17, name): value for name, value in changes.items()}

    def test_an_import_can_change_every_column_except_account_and_service(self):
        assert set(_CHANGEABLE) == {field.name for field in Order._meta.fields} - {"id", "number", "account", "service"}

    @pytest.mark.parametrize(
        "cells",
        [
            {"number": "9223372036854775807"},
            {"quantity": "9223372036854775807"},
            {"charge": "999999999.99999"},
            {"charge": "0"},
            {"start_count": "0"},
            {"link": "x" * 2048},
            {"completed": "2026-05-01T10:00:00Z"},  # when it was created
            {"created": "1971-01-01"},
            {"created": "2026-05-01T10:00:00+14:00"},
            {"status": "cancelled", "completed": ""},
            {"status": "cancelled"},
            {"status": "refunded", "completed": ""},
            {"status": "pending", "completed": ""},
            {"status": "pending", "created": "9998-12-31", "completed": ""},
            {"status": "processing", "completed": ""},
            {"status": "in_progress", "completed": ""},
        ],
    )
    def test_values_at_their_limits_are_accepted(self, shop, write, cells):
        call_command("importorders", write(ORDER | cells), verbosity=0)

        assert Order.objects.count() == 1

    @pytest.mark.parametrize(
        "cells",
        [
            {"number": "9223372036854775808"},
            {"number": "٣"},
            {"quantity": "9" * 20},
            {"account": "x" * 151},
            {"currency": "ÄÖÜ"},
            {"currency": "USDT"},
            {"currency": "U1D"},
            {"created": "1970-12-31"},
            {"status": "pending", "created": "9999-01-01", "completed": ""},
            {"completed": "2026-05-01T09:59:59Z"},
            {"status": "pending"},
            {"status": "processing"},
            {"status": "partial", "completed": ""},
        ],
    )
    def test_values_just_past_their_limits_are_refused(self, shop, write, cells):
        assert "line 2: " in refused("importorders", write(ORDER | cells))

    def test_errors_are_sorted_by_line_and_the_first_fifty_are_shown(self, shop, write):
        def lines(count):
            rows = [ORDER | {"number": str(n), "account": "x"} for n in range(1, count)] + [ORDER | {"number": "x"}]
            return refused("importorders", write(*rows)).splitlines()

        assert lines(3)[1:] == [
            "line 2: account: “x” is unknown",
            "line 3: account: “x” is unknown",
            "line 4: number: “x” is not a whole number from 1 to 9223372036854775807",
            "Nothing was changed.",
        ]
        assert len(lines(50)) == 52
        assert lines(50)[-2].startswith("line 51: number")
        assert lines(51)[-2:] == ["and 1 more", "Nothing was changed."]

    def test_a_line_break_within_a_cell_is_kept(self, shop, write):
        call_command("importorders", write(ORDER | {"link": "a\r\nb"}), verbosity=0)

        assert Order.objects.get().link == "a\r\nb"

    def test_the_errors_of_the_first_lines_are_shown_whatever_their_kind(self, shop, write):
        rows = [ORDER | {"service": "9"}] * 40 + [ORDER | {"account": "x"}] * 40
        rows = [row | {"number": str(number)} for number, row in enumerate(rows, 1)]

        shown = refused("importorders", write(*rows)).splitlines()[1:-2]

        assert [line.split(":")[0] for line in shown] == [f"line {number}" for number in range(2, 52)]

    def test_lines_are_counted_from_the_top_of_the_file(self, shop, tmp_path):
        """A header of two lines and a blank line come before the row."""
        header, cells = ",".join(ORDER).replace("number", '"number\n"'), ",".join(ORDER.values()).replace("a,b", "a")
        path = tmp_path / "file.csv"

        path.write_text(f"{header}\n\n{cells}\n\n")
        call_command("importorders", str(path), verbosity=0)
        assert Order.objects.count() == 1

        path.write_text(f"{header}\n{cells.replace('shop', 'x')}\n")
        assert "line 3: account: “x” is unknown" in refused("importorders", str(path))

    def test_an_error_of_the_database_is_reported(self, shop, write, monkeypatch):
        def fail(*args, **options):
            raise OperationalError("canceling statement due to lock timeout\n")

        monkeypatch.setattr("orders.management.commands.importorders.Command.importer", fail)

        with pytest.raises(CommandError) as error:
            call_command("importorders", write(ORDER))
        assert str(error.value) == (
            "The database refused the file: canceling statement due to lock timeout\nNothing was changed."
        )

    def test_memory_does_not_grow_with_the_file(self, shop, tmp_path):
        def import_rows(count, first):
            path = tmp_path / "file.csv"
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, ORDER)
                writer.writeheader()
                writer.writerows(ORDER | {"number": str(first + n)} for n in range(count))
            tracemalloc.start()
            try:
                call_command("importorders", str(path), verbosity=0)
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

        import_rows(10, 1)  # load what only the first import loads
        small = import_rows(1_000, 1_000)
        large = import_rows(20_000, 100_000)

        assert large < small * 1.5 + 200_000


class TestSkippingWrongRows:
    """--skip-wrong --report: the good rows are imported, the others are listed."""

    @pytest.fixture
    def report(self, tmp_path):
        return tmp_path / "wrong.csv"

    def rows_of(self, report):
        with report.open(encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file))

    def test_the_good_rows_are_imported_and_the_wrong_ones_listed_with_their_reasons(self, shop, write, report, capsys):
        wrong = {"18": {"charge": "x", "quantity": "0"}, "19": {"account": "nobody", "service": "9"}, "20": {}}
        path = write(ORDER, *[ORDER | {"number": number} | cells for number, cells in wrong.items()], ORDER)

        call_command("importorders", path, "--skip-wrong", "--report", str(report))

        assert capsys.readouterr().out == f"Imported: 2 created, 0 changed, 0 unchanged; 3 wrong, listed in {report}.\n"
        assert set(Order.objects.values_list("number", flat=True)) == {17, 20}
        assert [(row["line"], row["error"]) for row in self.rows_of(report)] == [
            (
                "3",
                (
                    f"quantity: “0” is not a whole number from 1 to {2**63 - 1}; charge: “x” is not an amount from 0 "
                    "to 999999999.99999 with at most five decimals"
                ),
            ),
            ("4", "account: “nobody” is unknown; service: 9 is unknown"),
            ("6", "number: 17 is in the file twice"),
        ]

    def test_a_corrected_report_is_imported_as_it_is(self, shop, write, report):
        path = write(ORDER | {"account": "nobody", "link": 'a;b,"c"\nd'}, ORDER | {"number": "18", "charge": "x"})
        call_command("importorders", path, "--skip-wrong", "--report", str(report), verbosity=0)
        report.write_text(report.read_text().replace("nobody", "shop").replace(",x,", ",1,"))

        call_command("importorders", str(report), verbosity=0)

        orders = Order.objects.order_by("number").values_list("number", "link", "charge")
        assert list(orders) == [(17, 'a;b,"c"\nd', Decimal("0.27819")), (18, ORDER["link"], 1)]

    def test_the_report_of_a_report_has_its_columns_once(self, shop, write, report):
        call_command("importorders", write(ORDER | {"account": "x"}), "--skip-wrong", "--report", str(report))
        before = report.read_text()

        call_command("importorders", str(report), "--skip-wrong", "--report", str(report))

        assert report.read_text() == before

    @pytest.mark.parametrize(("dry_run", "created"), [(False, 1), (True, 0)])
    def test_without_wrong_rows_the_report_is_empty(self, shop, write, report, dry_run, created):
        report.write_text("of yesterday")

        call_command(
            "importorders", write(ORDER), "--skip-wrong", "--report", str(report), dry_run=dry_run, verbosity=0
        )

        assert self.rows_of(report) == []
        assert Order.objects.count() == created

    def test_a_row_with_too_few_or_too_many_cells_is_listed_too(self, shop, tmp_path, report):
        good = ",".join(ORDER.values()).replace("a,b", "a")
        (tmp_path / "file.csv").write_text(f"{','.join(ORDER)}\n18,shop\n{good}\n{good},more\n")

        call_command("importorders", str(tmp_path / "file.csv"), "--skip-wrong", "--report", str(report), verbosity=0)

        assert Order.objects.get().number == 17
        assert [row["error"][:8] for row in self.rows_of(report)] == ["2 cells,", "13 cells"]

    def test_what_is_wrong_with_the_whole_file_refuses_it_and_leaves_the_report(self, shop, tmp_path, report):
        report.write_text("of yesterday")
        (tmp_path / "file.csv").write_bytes(f"{','.join(ORDER)}\n".encode() + b"\xff\n")

        with pytest.raises(CommandError, match="line 2: number: a character is neither UTF-8"):
            call_command("importorders", str(tmp_path / "file.csv"), "--skip-wrong", "--report", str(report))

        assert report.read_text() == "of yesterday"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["file.csv", "wrong.csv"]

    @pytest.mark.parametrize("options", [["--skip-wrong"], ["--report", "wrong.csv"]])
    def test_one_option_without_the_other_is_wrong_usage(self, shop, write, options):
        with pytest.raises(CommandError, match="Give --skip-wrong and --report together") as error:
            call_command("importorders", write(ORDER), *options)

        assert error.value.returncode == 2

    def test_the_statements_do_not_grow_with_the_file(self, shop, write):
        def statements(count):
            rows = [ORDER | {"number": str(n), "account": "shop" if n % 2 else "x"} for n in range(1, count + 1)]
            with open(write(*rows), "rb") as file, counted() as work:
                import_orders(file, report_wrong=lambda *row: None)
            return work.statements

        statements(1)
        # With BEGIN and COMMIT, and without the two COPYs, which are not logged.
        assert statements(2) == statements(400) == 14


class TestTimeZone:
    def test_times_without_an_offset_are_read_in_it(self, shop, write):
        row = ORDER | {"created": "2026-05-01 10:00:00", "completed": "2026-05-02T12:00:00+02:00"}

        call_command("importorders", write(row), "--time-zone", "Europe/Berlin", verbosity=0)

        assert Order.objects.get().created_at == datetime(2026, 5, 1, 8, tzinfo=UTC)

    @pytest.mark.parametrize("name", ["Mars/Olympus", "", "Europe", "../../etc/passwd"])
    def test_an_unknown_time_zone_is_wrong_usage(self, shop, write, name):
        with pytest.raises(CommandError, match="is not a time zone such as Europe/Berlin"):
            call_command("importorders", write(ORDER), "--time-zone", name)


class TestServices:
    def test_a_row_becomes_a_service(self, db, write, capsys):
        call_command("importservices", write(SERVICE))

        service = Service.objects.get()
        assert capsys.readouterr().out == "Imported: 1 created, 0 changed, 0 unchanged.\n"
        assert (service.id, service.name, service.category, service.type) == (1, "Likes", "Photos", "Default")
        assert (service.rate, service.min, service.max) == (Decimal("0.90"), 50, 1000)
        assert (service.refill, service.cancel, service.active) == (True, False, True)
        assert (service.refill_days, service.refill_limit) == (30, None)

    def test_a_known_id_is_changed(self, db, write, capsys):
        call_command("importservices", write(SERVICE, SERVICE | {"id": "2"}))
        call_command("importservices", write(SERVICE | {"refill": "false"}, SERVICE | {"id": "2"}))

        assert "0 created, 1 changed, 1 unchanged" in capsys.readouterr().out
        assert Service.objects.get(id=1).refill is False

    def test_a_dry_run_changes_nothing(self, db, write, capsys):
        call_command("importservices", write(SERVICE), "--dry-run")

        assert "Would be imported: 1 created" in capsys.readouterr().out
        assert not Service.objects.exists()

    @pytest.mark.parametrize(
        ("cells", "error"),
        [
            ({"id": "0"}, "id: “0” is not"),
            ({"id": "2147483648"}, "id: “2147483648” is not"),
            ({"name": ""}, "name: must be text"),
            ({"name": "x" * 256}, "name: must be text"),
            ({"type": "x" * 51}, "type: must be text"),
            ({"min": "9223372036854775808"}, "min: “9223372036854775808” is not"),
            ({"refill_limit": "2147483648"}, "refill_limit: “2147483648” is not"),
            ({"id": "1"}, "id: 1 is in the file twice"),
            ({"rate": "free"}, "rate: “free” is not an amount"),
            ({"max": "49"}, "max: must not be below min"),
            ({"refill": "maybe"}, "refill: “maybe” is neither true nor false"),
            ({"refill_days": "0"}, "refill_days: “0” is not"),
            ({"refill_days": "36501"}, "refill_days: “36501” is not a whole number from 1 to 36500\n"),
            ({"refill_limit": "0"}, "refill_limit: “0” is not"),
        ],
    )
    def test_a_bad_row_is_reported_with_its_line_and_nothing_changes(self, db, write, cells, error):
        message = refused("importservices", write(SERVICE, SERVICE | {"id": "2"} | cells))

        assert f"line 3: {error}" in message
        assert not Service.objects.exists()

    def test_optional_columns_may_be_missing_or_empty(self, db, write):
        optional = ("type", "active", "refill_days", "refill_limit")
        required = {name: value for name, value in SERVICE.items() if name not in optional}

        for row in (required, SERVICE | dict.fromkeys(optional, "")):
            call_command("importservices", write(row), verbosity=0)

            service = Service.objects.get()
            assert (service.type, service.active) == ("Default", True)
            assert (service.refill_days, service.refill_limit) == (None, None)

    def test_what_a_file_has_no_column_for_stays(self, db, write, capsys):
        kept = {"type": "Custom", "active": "no", "refill_days": "60", "refill_limit": "5"}
        call_command("importservices", write(SERVICE | kept), verbosity=0)
        row = {name: value for name, value in SERVICE.items() if name not in kept}
        capsys.readouterr()

        call_command("importservices", write(row, row | {"id": "2"}))
        assert "1 created, 0 changed, 1 unchanged" in capsys.readouterr().out
        call_command("importservices", write(row | {"name": "Views"}, row | {"id": "2"}))
        assert "0 created, 1 changed, 1 unchanged" in capsys.readouterr().out

        services = Service.objects.values_list("name", "type", "active", "refill_days", "refill_limit")
        assert list(services) == [("Views", "Custom", False, 60, 5), ("Likes", "Default", True, None, None)]

    def test_an_empty_cell_clears_what_may_be_empty_and_leaves_the_rest(self, db, write):
        kept = {"type": "Custom", "active": "no", "refill_days": "60", "refill_limit": "5"}
        call_command("importservices", write(SERVICE | kept), verbosity=0)

        call_command("importservices", write(SERVICE | dict.fromkeys(kept, "")), verbosity=0)

        service = Service.objects.get()
        assert (service.type, service.active) == ("Custom", False)
        assert (service.refill_days, service.refill_limit) == (None, None)

    def test_the_statements_do_not_grow_with_the_file(self, db, write):
        def statements(count):
            rows = [SERVICE | {"id": str(number)} for number in range(1, count + 1)]
            with open(write(*rows), "rb") as file, counted() as work:
                import_services(file)
            return work.statements

        assert statements(1) == statements(5000) == 5  # with BEGIN and COMMIT: the catalogue, the services, the INSERT

    def test_flags_are_read_in_either_case(self, db, write):
        rows = [("True", "FALSE"), ("1", "0"), ("YES", "No")]
        services = [SERVICE | {"id": str(n), "refill": yes, "cancel": no} for n, (yes, no) in enumerate(rows, 1)]

        call_command("importservices", write(*services), verbosity=0)

        assert set(Service.objects.values_list("refill", "cancel")) == {(True, False)}

    @pytest.mark.parametrize("name", [name for name in SERVICE if name != "id"])
    def test_a_change_of_any_column_is_counted_and_written(self, db, write, name):
        other = {"name": "x", "category": "x", "type": "x", "rate": "0.91", "min": "51", "max": "1001"}
        other |= {"refill": "no", "cancel": "yes", "active": "no", "refill_days": "31", "refill_limit": "2"}
        call_command("importservices", write(SERVICE, SERVICE | {"id": "2"}), verbosity=0)
        before = getattr(Service.objects.get(pk=1), name)

        rows = (SERVICE | {name: other[name]}, SERVICE | {"id": "2"}, SERVICE | {"id": "3", "max": "50"})
        with open(write(*rows), "rb") as file:
            imported = import_services(file)

        assert imported == Imported(created=1, changed=1, unchanged=1)
        assert getattr(Service.objects.get(pk=1), name) != before
        assert getattr(Service.objects.get(pk=2), name) == before


class TestRaces:
    pytestmark = races.MARKS

    @pytest.mark.parametrize("dry_run", [False, True])
    def test_an_import_and_a_saved_service_do_not_deadlock(self, write, dry_run):
        for number in (1, 2):
            factories.Service(id=number)
        path = write(*[SERVICE | {"id": number} for number in ("1", "2")])

        with transaction.atomic():
            Service.objects.get(pk=2).save()
            imported = races.Waiting(lambda: call_command("importservices", path, dry_run=dry_run, verbosity=0))
            Service.objects.get(pk=1).save()  # an import that locked the services first would hold it

        imported.result()
        assert Service.objects.filter(name="Likes").count() == (0 if dry_run else 2)

    def test_many_imports_and_saved_services_do_not_deadlock(self, write):
        services = [factories.Service(id=number) for number in range(1, 31)]
        path = write(*[SERVICE | {"id": str(number)} for number in range(1, 31)])

        def save():
            for service in reversed(services):
                with transaction.atomic():
                    service.save()

        races.race([lambda: call_command("importservices", path, verbosity=0), save] * 3)

        assert Service.objects.count() == 30

    def test_a_service_that_changes_during_an_import_is_compared_in_its_new_state(self, write):
        call_command("importservices", write(SERVICE), verbosity=0)
        path = write(SERVICE)

        def run():
            with open(path, "rb") as file:
                return import_services(file)

        with transaction.atomic():
            Service.objects.update(name="another")
            imported = races.Waiting(run)

        assert imported.result() == Imported(created=0, changed=1, unchanged=0)
        assert Service.objects.get().name == "Likes"

    @pytest.mark.parametrize("columns", [{}, {"account": "nobody"}])
    def test_an_import_may_take_longer_than_a_request_and_the_next_statement_may_not(self, write, columns):
        factories.Account(username="shop")
        factories.Service(id=1)

        class Slow(io.BytesIO):
            def read(self, size=-1):
                time.sleep(0.3)
                return super().read(size)

        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = 200")
            try:
                with contextlib.suppress(BadFile), open(write(ORDER | columns), "rb") as file:
                    import_orders(Slow(file.read()))
                cursor.execute("SHOW statement_timeout")
                assert cursor.fetchone() == ("200ms",)
            finally:
                cursor.execute("RESET statement_timeout")
        assert Order.objects.count() == (0 if columns else 1)

    def test_two_imports_of_the_same_orders_wait_for_each_other(self, write):
        factories.Account(username="shop")
        factories.Service(id=1)
        paths = write(*[ORDER | {"number": str(number)} for number in range(1, 50)])

        def run():
            with open(paths, "rb") as file:
                return import_orders(file)

        imported = races.race([run] * 4)

        assert sorted(each.created for each in imported) == [0, 0, 0, 49]
        assert sorted(each.unchanged for each in imported) == [0, 49, 49, 49]

    def test_an_import_and_overlapping_batches_do_not_deadlock(self, write):
        from refills.requesting import request_refills

        shop, service = factories.Account(username="shop"), factories.Service(id=1)
        # The ids are in the opposite order of the numbers, so an import that locked by number could deadlock.
        orders = [factories.Order(account=shop, service=service, number=n) for n in range(40, 0, -1)]
        path = write(*[ORDER | {"number": str(n), "quantity": "7"} for n in range(1, 41)])
        ids = [order.pk for order in orders]

        def request():
            return request_refills(shop.pk, ids)

        races.race([lambda: call_command("importorders", path, verbosity=0), *[request] * 8])

        assert set(Order.objects.values_list("quantity", flat=True)) == {7}

    def test_an_import_locks_orders_in_the_order_of_their_ids_too(self, write):
        from refills.requesting import lock_orders

        shop, service = factories.Account(username="shop"), factories.Service(id=1)
        low, high = sorted(factories.Order.build().pk for _ in range(2))
        last = factories.Order(pk=high, number=1, account=shop, service=service)
        first = factories.Order(pk=low, number=2, account=shop, service=service)
        path = write(*[ORDER | {"number": number, "quantity": "7"} for number in ("1", "2")])

        with transaction.atomic():
            lock_orders(shop.pk, [first.pk])
            imported = races.Waiting(lambda: call_command("importorders", path, verbosity=0))
            assert Order.objects.select_for_update(nowait=True).get(pk=last.pk)

        imported.result()
        assert set(Order.objects.values_list("quantity", flat=True)) == {7}

    @pytest.mark.parametrize(("many", "analyzed"), [(3, 1), (4, 0)])
    def test_a_large_import_analyzes_the_table(self, write, monkeypatch, many, analyzed):
        """Otherwise requests would keep plans that were made for an empty table."""
        monkeypatch.setattr("orders.imports._MANY", many)
        factories.Account(username="shop")
        factories.Service(id=1)

        def times():
            with connection.cursor() as cursor:
                cursor.execute("SELECT analyze_count FROM pg_stat_user_tables WHERE relname = 'orders_order'")
                return cursor.fetchone()[0]

        before = times()
        path = write(*[ORDER | {"number": str(number)} for number in range(1, 4)])
        call_command("importorders", path, dry_run=True, verbosity=0)
        call_command("importorders", path, verbosity=0)

        assert times() - before == analyzed
        call_command("importorders", path, verbosity=0)  # this one creates none
        assert times() - before == analyzed

    def test_an_import_locks_no_order_that_it_does_not_change(self, write):
        factories.Account(username="shop")
        factories.Service(id=1)
        path = write(*[ORDER | {"number": str(number)} for number in range(1, 11)])
        call_command("importorders", path, verbosity=0)

        with transaction.atomic():
            call_command("importorders", path, verbosity=0)
            [free] = races.race([_free_orders])

        assert free == 10


def _free_orders():
    with transaction.atomic():
        return len(Order.objects.select_for_update(skip_locked=True))
