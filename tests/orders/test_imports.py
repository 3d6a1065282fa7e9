import csv
import tracemalloc
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from orders.models import Order, Service
from tests import factories, races

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

    def test_what_is_optional_may_be_missing(self, shop, write):
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
            ({"currency": "usd"}, "currency: “usd” is not a currency code"),
            ({"start_count": "-1"}, "start_count: “-1” is not"),
            ({"remains": "many"}, "remains: “many” is not"),
            ({"status": "Completed"}, "status: “Completed” is not one of pending, processing"),
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

    def test_of_many_errors_the_first_are_reported_and_all_are_counted(self, shop, write):
        message = refused("importorders", write(*[ORDER | {"number": "x"}] * 500))

        assert "line 2: number" in message
        assert "and 450 more" in message

    def test_a_number_that_comes_twice_is_refused(self, shop, write):
        assert "line 4: number: 17 is in the file twice" in refused(
            "importorders", write(ORDER, ORDER | {"number": "18"}, ORDER)
        )

    def test_an_order_does_not_change_hands(self, shop, write):
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
            ("", "number is missing"),
            ("number,acount\n", "“acount” is unknown"),
            ("number,number\n", "a column is named twice"),
            (",".join(ORDER) + "\n1,2\n", "line 2: 2 cells, where the header has 12"),
            (",".join(ORDER) + '\n1,"2\n', "line 2: this is not CSV in UTF-8"),
        ],
    )
    def test_what_is_no_such_file_is_refused(self, shop, tmp_path, text, error):
        (tmp_path / "file.csv").write_text(text)

        assert error in refused("importorders", str(tmp_path / "file.csv"))

    def test_what_is_not_utf8_is_refused(self, shop, tmp_path):
        (tmp_path / "file.csv").write_bytes(",".join(ORDER).encode() + b"\n\xff")

        assert "this is not CSV in UTF-8" in refused("importorders", str(tmp_path / "file.csv"))

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

        import_rows(10, 1)  # what is loaded once
        small = import_rows(1_000, 1_000)
        large = import_rows(20_000, 100_000)

        assert large < small * 1.5 + 200_000


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
            ({"id": "1"}, "id: 1 is in the file twice"),
            ({"rate": "free"}, "rate: “free” is not an amount"),
            ({"max": "49"}, "max: must not be below min"),
            ({"refill": "maybe"}, "refill: “maybe” is neither true nor false"),
            ({"refill_days": "0"}, "refill_days: “0” is not"),
            ({"refill_limit": "0"}, "refill_limit: “0” is not"),
        ],
    )
    def test_a_bad_row_is_reported_with_its_line_and_nothing_changes(self, db, write, cells, error):
        message = refused("importservices", write(SERVICE, SERVICE | {"id": "2"} | cells))

        assert f"line 3: {error}" in message
        assert not Service.objects.exists()


class TestRaces:
    pytestmark = races.pytestmark

    def test_an_import_and_overlapping_batches_do_not_deadlock(self, write):
        from refills.requesting import request_refills

        shop, service = factories.Account(username="shop"), factories.Service(id=1)
        # Their ids in the opposite order of their numbers: locked by number, they would be locked the other way.
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
    def test_after_a_large_import_the_database_looks_at_the_table_anew(self, write, monkeypatch, many, analyzed):
        """Else requests would stay with plans that were made for an empty one."""
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
