"""Files as people have them: a hundred small ones, each of which is read, or refused with a helpful sentence."""

import gzip
import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from notpanel.kit.refusals import BadFile
from notpanel.kit.row_files import SHOWN_ERRORS
from orders.imports import ORDER_COLUMNS, SERVICE_COLUMNS, import_orders, import_services
from orders.models import Order, Service
from tests import factories

CELLS = {
    "number": "17",
    "account": "shop",
    "service": "1",
    "link": "https://example.com/a",
    "quantity": "1000",
    "charge": "0.27819",
    "currency": "EUR",
    "start_count": "12",
    "remains": "0",
    "status": "completed",
    "created": "2026-05-01T10:00:00Z",
    "completed": "2026-05-02T10:00:00Z",
}
EXPECTED = {
    "number": 17,
    "service_id": 1,
    "link": "https://example.com/a",
    "quantity": 1000,
    "charge": Decimal("0.27819"),
    "currency": "EUR",
    "start_count": 12,
    "remains": 0,
    "status": "completed",
    "created_at": datetime(2026, 5, 1, 10, tzinfo=UTC),
    "completed_at": datetime(2026, 5, 2, 10, tzinfo=UTC),
}
HEADER, ROW = ",".join(CELLS), ",".join(CELLS.values())
BOTH = f"{HEADER}\n{ROW}\n"
OPEN = {"completed": ""}  # what an order under way must have


def cells(delimiter=",", **changed):
    """Return a file of one row, with these cells replaced."""
    return f"{delimiter.join(CELLS)}\n{delimiter.join((CELLS | changed).values())}\n"


def named(**names):
    """Return a file of one row whose columns have these names."""
    return f"{','.join(names.get(name, name) for name in CELLS)}\n{ROW}\n"


def on_a_day(time):
    return {"created_at": time, "completed_at": datetime(2026, 11, 2, tzinfo=UTC)}


def json_line(**changed):
    return json.dumps(CELLS | changed) + "\n"


def without(name):
    return json.dumps({key: value for key, value in CELLS.items() if key != name})


MAY_DAY = datetime(2026, 5, 1, tzinfo=UTC)

# What the order has that differs from EXPECTED.
READ = {
    # ---- the form of the file
    "commas": (BOTH, {}),
    "semicolons": (cells(";"), {}),
    "tabs": (cells("\t"), {}),
    "semicolons, with a comma in a cell": (cells(";", link="https://a.example/b,c"), {"link": "https://a.example/b,c"}),
    "tabs, with a semicolon in a cell": (cells("\t", link="a;b"), {"link": "a;b"}),
    "Excel's line about the delimiter": (f"sep=;\n{cells(';')}", {}),
    "commas behind every line": (f"{HEADER},,\n{ROW},,\n", {}),
    "commas behind the row": (f"{HEADER}\n{ROW},,,\n", {}),
    "commas behind the header": (f"{HEADER},,\n{ROW}\n", {}),
    "a column without a name and without content": (f",{HEADER}\n,{ROW}\n", {}),
    "empty lines": (f"\n\n{HEADER}\n\n{ROW}\n\n\n", {}),
    "lines of commas": (f",,,\n{HEADER}\n,,,,,\n{ROW}\n,,,\n", {}),
    "lines of blanks": (f"{HEADER}\n   \n{ROW}\n \t \n", {}),
    "no line break at the end": (BOTH.rstrip(), {}),
    "lines that end with CR and LF": (BOTH.replace("\n", "\r\n"), {}),
    "lines that end with CR": (BOTH.replace("\n", "\r"), {}),
    "quotes around every cell": ('"' + BOTH.strip().replace(",", '","').replace("\n", '"\n"') + '"\n', {}),
    "blanks before the quotes": (BOTH.replace(",shop,", ', "shop",'), {}),
    "blanks around the cells": (BOTH.replace(",", " , "), {}),
    "no-break spaces around the cells": (BOTH.replace(",", "\xa0,\xa0"), {}),
    "zero-width spaces around the cells": (BOTH.replace(",", "\u200b,\ufeff"), {}),
    "columns in another order": ("\n".join(",".join(line.split(",")[::-1]) for line in BOTH.split()), {}),
    "formulas that hold text": (cells(number='="17"', link='"=""https://example.com/a"""'), {}),
    # ---- its encoding
    "UTF-8 with a byte order mark": (BOTH.encode("utf-8-sig"), {}),
    "UTF-8 of other scripts": (cells(link="https://example.com/ü/中"), {"link": "https://example.com/ü/中"}),
    "UTF-16 with tabs, Excel's Unicode text": (cells("\t").encode("utf-16"), {}),
    "UTF-16, big end first": (b"\xfe\xff" + BOTH.encode("utf-16-be"), {}),
    "UTF-16 without a byte order mark": (BOTH.encode("utf-16-le"), {}),
    "UTF-16, big end first, without a byte order mark": (BOTH.encode("utf-16-be"), {}),
    # ---- the names of the columns
    "names in upper case": (f"{HEADER.upper()}\n{ROW}\n", {}),
    "names in title case with blanks": (f"{HEADER.replace('_', ' ').title()}\n{ROW}\n", {}),
    "names in camel case": (named(start_count="startCount", created="createdAt"), {}),
    "the names of a panel's list of orders": (
        named(number="ID", account="User", link="URL", start_count="Start count", created="Created at"),
        {},
    ),
    "the names of a panel's export": (
        named(number="Order ID", account="Username", service="Service ID", created="Date", completed="Completed at"),
        {},
    ),
    "the names of a panel's database": (
        named(number="order_id", quantity="qty", start_count="start_counter", remains="remain", charge="price"),
        {},
    ),
    # ---- the words of cells
    "Completed": (cells(status="Completed"), {}),
    "COMPLETE": (cells(status="COMPLETE"), {}),
    "Partial": (cells(status="Partial"), {"status": "partial"}),
    "In progress": (cells(status="In progress", **OPEN), {"status": "in_progress", "completed_at": None}),
    "In-Progress": (cells(status="In-Progress", **OPEN), {"status": "in_progress", "completed_at": None}),
    "Inprogress": (cells(status="Inprogress", **OPEN), {"status": "in_progress", "completed_at": None}),
    "canceled": (cells(status="canceled"), {"status": "cancelled"}),
    "Cancelled": (cells(status="Cancelled"), {"status": "cancelled"}),
    "Refunded": (cells(status="Refunded"), {"status": "refunded"}),
    "a currency in lower case": (cells(currency="usd"), {"currency": "USD"}),
    "NULL": (cells(start_count="NULL", remains="null"), {"start_count": None, "remains": None}),
    r"\N, as PostgreSQL and MySQL write NULL": (cells(remains=r"\N"), {"remains": None}),
    "None": (cells(remains="None"), {"remains": None}),
    "NaN": (cells(start_count="nan", remains="NaN"), {"start_count": None, "remains": None}),
    "N/A": (cells(remains="N/A"), {"remains": None}),
    "a dash": (cells(remains="-"), {"remains": None}),
    "NULL for the currency of a new order": (cells(currency="NULL"), {"currency": "USD"}),
    "MySQL's zero for a time": (
        cells(status="Pending", completed="0000-00-00 00:00:00"),
        {"status": "pending", "completed_at": None},
    ),
    # ---- numbers
    "1000.0": (cells(quantity="1000.0", number="17.0", service="1.00"), {}),
    "1000.00000": (cells(quantity="1000.00000"), {}),
    "a negative remains": (cells(remains="-5"), {}),
    "a negative remains with a fraction of zero": (cells(remains="-5.0"), {}),
    "seven decimals, of which two are zeros": (cells(charge="0.2781900"), {}),
    "an amount of a program that writes exponents": (cells(charge="9e-05"), {"charge": Decimal("0.00009")}),
    "an amount without digits before the point": (cells(charge=".5"), {"charge": Decimal("0.5")}),
    "an amount without digits behind the point": (cells(charge="5."), {"charge": Decimal(5)}),
    # ---- times
    "a time with a blank": (cells(created="2026-05-01 10:00:00"), {}),
    "a time without seconds": (cells(created="2026-05-01 10:00"), {}),
    "a time with UTC": (cells(created="2026-05-01 10:00:00 UTC"), {}),
    "a time with an offset": (cells(created="2026-05-01 12:00:00 +0200"), {}),
    "a time with a fraction": (
        cells(created="2026-05-01T10:00:00.5Z"),
        {"created_at": datetime(2026, 5, 1, 10, 0, 0, 500_000, tzinfo=UTC)},
    ),
    "a day": (cells(created="2026-05-01"), {"created_at": MAY_DAY}),
    "a time without separators": (cells(created="20260501T100000Z"), {}),
    "Unix seconds": (cells(created=str(int(datetime(2026, 5, 1, 10, tzinfo=UTC).timestamp()))), {}),
    # ---- JSON lines
    "JSON lines": (json_line(), {}),
    "JSON lines with empty lines and a byte order mark": (f"\ufeff\n{json_line()}\n\n", {}),
    "JSON in UTF-16": (json_line().encode("utf-16"), {}),
    "JSON with numbers and null": (
        json_line(number=17, quantity=1000.0, charge=0.27819, start_count=None, remains=-3),
        {"start_count": None},
    ),
    "JSON with the names of a panel": (json_line().replace('"number"', '"Order ID"'), {}),
    "JSON with a text that spreadsheets would need quotes for": (json_line(link='a,"b"\n'), {"link": 'a,"b"'}),
}

REFUSED = {
    # ---- what is not a file of rows
    "an empty file": (b"", "line 1: the file is empty"),
    "nothing but empty lines": ("\n\n,,\n", "line 3: the file is empty"),
    "a spreadsheet": (b"PK\x03\x04\x14\0", "line 1: this is a spreadsheet, not CSV: save it as “CSV UTF-8”"),
    "a spreadsheet of an old Excel": (b"\xd0\xcf\x11\xe0\xa1\xb1", "line 1: this is a spreadsheet"),
    "a compressed file": (gzip.compress(BOTH.encode()), "line 1: this is compressed: unpack it"),
    "HTML": ("<!DOCTYPE html>", "line 1: this is HTML or XML, not CSV"),
    "a list in JSON": (f"[{json_line()}]", "line 1: write each object in JSON on a line of its own, without a list"),
    # ---- encodings
    "Latin-1": (cells(link="https://example.com/ü").encode("latin-1"), "line 2: link: a character is neither UTF-8"),
    "Windows-1251": (cells(account="магазин").encode("cp1251"), "line 2: account: a character is neither UTF-8"),
    "Latin-1 in the header": (named(link="Lïnk").encode("latin-1"), "line 1: a character is neither UTF-8 nor UTF-16"),
    "UTF-16 that was cut off": (BOTH.encode("utf-16")[:-1], "line 2: a character is neither UTF-8 nor UTF-16"),
    "UTF-32": (BOTH.encode("utf-32"), "line 1: a character is neither UTF-8 nor UTF-16"),
    # ---- the header, and the form of rows
    "a column is missing": (BOTH.replace("charge", "fee"), "; charge is missing; “fee” is unknown"),
    "no header": (f"{ROW}\n", "line 1: the columns must be number, account, service"),
    "two columns with the same meaning": (
        f"{HEADER},Order ID\n{ROW},17\n",
        "created, completed, supplier_order; number is named twice (“number” and “Order ID”)",
    ),
    "a comma in a cell without quotes": (
        cells(link="https://example.com/a,b"),
        "line 2: 13 cells, where the header has 12: a cell with a separator in it must be in double quotes",
    ),
    "a row that was cut off": (f"{HEADER}\n17,shop,1\n", "line 2: 3 cells, where the header has 12"),
    "a column without a name": (f",{HEADER}\nnote,{ROW}\n", "line 2: “note” is in a column without a name"),
    "a quote that is not closed": (BOTH.replace("shop", '"shop'), "line 2: this is not CSV: a double quote is not"),
    # ---- numbers
    "1_5.0": (cells(charge="1_5.0"), "line 2: charge: “1_5.0” is not an amount"),
    "1_000": (cells(quantity="1_000"), "line 2: quantity: “1_000” is not a whole number"),
    "Arabic digits": (cells(quantity="١٠٠٠"), "line 2: quantity: “١٠٠٠” is not a whole number"),
    "an amount in Arabic digits": (cells(charge="٠.٥"), "line 2: charge: “٠.٥” is not an amount"),
    "full-width digits": (cells(service="１"), "line 2: service: “１” is not a whole number"),
    "a fraction": (cells(quantity="1000.5"), "line 2: quantity: “1000.5” is not a whole number"),
    "an exponent in a whole number": (cells(quantity="1e3"), "line 2: quantity: “1e3” is not a whole number"),
    "a separator of thousands": (
        cells(";", quantity="1,000"),
        "line 2: quantity: “1,000” may have a thousands separator: write it without one",
    ),
    "a point that may separate thousands": (
        cells(quantity="1.000"),
        "line 2: quantity: “1.000” may have a thousands separator",
    ),
    "a blank between thousands": (cells(remains="12 000"), "line 2: remains: “12 000” may have a thousands separator"),
    "a negative quantity": (cells(quantity="-5"), "line 2: quantity: “-5” is not a whole number from 1"),
    "a negative count at the start": (cells(start_count="-1"), "line 2: start_count: “-1” is not a whole number"),
    "seven decimals": (cells(charge="0.2781912"), "line 2: charge: “0.2781912” is not an amount from 0 to"),
    "a comma before the decimals": (
        cells(";", charge="0,28"),
        "line 2: charge: “0,28” has a comma: write amounts with a point and no separators, such as 1234.56",
    ),
    "an amount with its currency": (cells(charge="$0.28"), "line 2: charge: “$0.28” is not an amount"),
    "NULL where there must be a value": (cells(quantity="NULL"), "line 2: quantity: “NULL” is not a whole number"),
    # ---- words and times
    "a status that no panel has": (cells(status="Done"), "line 2: status: “Done” is not one of pending, processing"),
    "a week date": (cells(created="2026-W18-5"), "line 2: created: “2026-W18-5” is not a time such as 2026-05-31T12"),
    "a day of the year": (cells(created="2026-121"), "line 2: created: “2026-121” is not a time"),
    "a day as Americans write it": (cells(created="05/01/2026"), "line 2: created: “05/01/2026” is not a time"),
    "a day that does not exist": (cells(created="2026-02-30"), "line 2: created: “2026-02-30” is not a time"),
    "a time in Arabic digits": (cells(created="٢٠٢٦-٠٥-٠١"), "line 2: created: “٢٠٢٦-٠٥-٠١” is not a time"),
    "Unix milliseconds": (cells(created="1767225600000"), "line 2: created: “1767225600000” is not a time"),
    "a completion in the future": (
        cells(completed="2126-05-02T10:00:00Z"),
        "line 2: completed: “2126-05-02T10:00:00Z” is in the future",
    ),
    # ---- JSON lines
    "a list in a line of JSON": (f"{json_line()}[1]\n", "line 2: this is not one object in JSON"),
    "an object on several lines": (
        json.dumps(CELLS, indent=1),
        "line 1: write each object in JSON on a line of its own",
    ),
    "JSON with a name that is unknown": (json_line(colour="red"), "line 1: “colour” is unknown"),
    "JSON without a name that must be there": (without("charge"), "line 1: charge is missing"),
    "JSON with a name that comes twice": ('{"Number": 1, ' + json_line()[1:], "line 1: number is named twice"),
    "JSON with a list for a value": (
        json_line(link=["a"]),
        "line 1: link: must be text, a number, true, false or null",
    ),
    "JSON with half a surrogate pair": (json_line(link="\ud800"), "line 1: link: must be text of 1 to 2048 characters"),
    "JSON in Latin-1": (
        json.dumps(CELLS | {"link": "ü"}, ensure_ascii=False).encode("latin-1"),
        "line 1: a character is neither UTF-8",
    ),
    "JSON a thousand levels deep": ('{"a":' * 100_000, "line 1: this is not one object in JSON"),
}


@pytest.fixture
def shop(db):
    factories.Service(id=1)
    return factories.Account(username="shop")


def file_of(content):
    return io.BytesIO(content.encode() if isinstance(content, str) else content)


def values_of(order):
    return {name: getattr(order, name) for name in EXPECTED}


@pytest.mark.parametrize("name", READ)
def test_a_file_is_read(shop, name):
    content, differs = READ[name]

    import_orders(file_of(content))

    assert values_of(Order.objects.get(account=shop)) == EXPECTED | differs


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_file_is_refused_with_line_and_column(shop, name):
    content, error = REFUSED[name]

    with pytest.raises(BadFile) as refused:
        import_orders(file_of(content))

    [only, end] = refused.value.text.splitlines()
    assert error in only
    assert only.startswith("line ")
    assert end == "Nothing was changed."
    assert not Order.objects.exists()


@pytest.mark.parametrize(
    ("written", "zone", "meant"),
    [
        ("2026-05-01 10:00:00", "Europe/Berlin", datetime(2026, 5, 1, 8, tzinfo=UTC)),
        ("2026-05-01", "Asia/Kolkata", datetime(2026, 4, 30, 18, 30, tzinfo=UTC)),
        ("2026-05-01T10:00:00Z", "Europe/Berlin", datetime(2026, 5, 1, 10, tzinfo=UTC)),
        ("2026-05-01T10:00:00-04:00", "Europe/Berlin", datetime(2026, 5, 1, 14, tzinfo=UTC)),
        ("2026-10-25 02:30:00", "Europe/Berlin", datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),  # comes twice: the first
    ],
)
def test_times_without_an_offset_are_in_the_zone_that_is_given(shop, written, zone, meant):
    content = cells(created=written, completed="2026-11-02T00:00:00Z")

    import_orders(file_of(content), zone=ZoneInfo(zone))

    assert values_of(Order.objects.get()) == EXPECTED | on_a_day(meant)


def test_a_time_that_the_clocks_left_out_is_refused(shop):
    with pytest.raises(BadFile, match="“2026-03-29 02:30:00” does not exist in Europe/Berlin, where the clocks were"):
        import_orders(file_of(cells(created="2026-03-29 02:30:00")), zone=ZoneInfo("Europe/Berlin"))


def test_lines_of_json_need_not_have_the_same_names(shop):
    """What a line does not have stays as it is, whatever the other lines have."""
    import_orders(file_of(json_line() + json_line(number=18)))

    import_orders(file_of(json.dumps(CELLS | {"number": 18, "remains": 7}) + "\n" + without("remains")))
    import_orders(file_of(without("currency") + "\n" + json_line(number=18, remains=None, currency="USD")))

    orders = Order.objects.order_by("number").values_list("remains", "currency")
    assert list(orders) == [(0, "EUR"), (None, "USD")]


def test_the_words_of_panels_are_read_for_services_too(db):
    text = "ID;Service name;Category;Price;Minimum;Maximum;Refill;Cancel;Status\n"
    text += "1;Likes;Photos;0.90;50.0;1000;ON;n;Enabled\n"

    import_services(file_of(text))

    service = Service.objects.get(id=1)
    assert (service.name, service.rate, service.min, service.max) == ("Likes", Decimal("0.90"), 50, 1000)
    assert (service.refill, service.cancel, service.active) == (True, False, True)


def test_a_file_in_another_encoding_ends_at_its_first_wrong_character(shop):
    """Otherwise every row of it would have the same error."""
    content = f"{HEADER}\n" + "".join(f"{ROW.replace('17', str(n), 1)}ü\n" for n in range(SHOWN_ERRORS * 2))

    with pytest.raises(BadFile) as refused:
        import_orders(file_of(content.encode("latin-1")))

    assert [line for line, _ in refused.value.errors] == [2]


@pytest.mark.parametrize("columns", [ORDER_COLUMNS, SERVICE_COLUMNS])
def test_no_two_columns_share_a_name(columns):
    names = [name for column in columns for name in (column.name, *column.also)]

    assert len(names) == len(set(names))
