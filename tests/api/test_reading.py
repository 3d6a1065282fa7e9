"""How parameters are read (docs/contract.md, "Reading parameters"): what people really send is understood."""

import gzip
import json
import re
import time
from urllib.parse import quote

import pytest
from django.test import Client

from apikeys.models import ApiKey
from notpanel.api.bodies import read_pairs
from notpanel.api.errors import MalformedBody, UnsupportedMediaType
from notpanel.api.parameters import clean, split_ids
from refills.models import Refill
from tests import factories
from tests.conftest import FORM, post_json


def send(body, content_type=FORM, **headers):
    body = body if isinstance(body, bytes) else body.encode()
    return Client().generic("POST", "/api/v2", body, content_type=content_type, headers=headers)


@pytest.fixture
def order(customer):
    return lambda **fields: factories.Order(account=customer.account, **fields)


@pytest.fixture
def sent(customer):
    """Send a form, written out, with the key and an action, and return the answer in JSON."""
    return lambda rest, action="status": send(f"key={customer.raw_key}&action={action}&{rest}").json()


NOT_FOUND = {"error": "Order not found"}


# ---- What surrounds a value

SURROUNDINGS = [
    " {}",
    "{}\n",
    "\r\n{}\t",
    "\u00a0{}\u202f",
    "\u200b{}\u200d",
    "\ufeff{}",
    "\u200e{}\u200f",
    "\u2066{}\u2069",
]
SURROUNDINGS += [
    "\u00ad{}",
    "\u2060{}\u180e",
    '"{}"',
    "'{}'",
    "“{}”",
    "«{}»",
    "`{}`",
    '\ufeff "{}" \u200b\n',
    "\u3000{}\x85",
]


@pytest.mark.parametrize("surroundings", SURROUNDINGS)
def test_what_surrounds_a_key_an_action_and_an_id_is_taken_off(customer, order, surroundings):
    key, action = surroundings.format(customer.raw_key), surroundings.format("status")
    number = order().number

    for id_ in (number, order().pk):
        response = post_json({"key": key, "action": action, "order": surroundings.format(id_)})
        assert response.status_code == 200, response.content
    rows = post_json({"key": key, "action": action, "orders": surroundings.format(number)}).json()
    assert list(rows) == [str(number)]


@pytest.mark.parametrize("between", ["\n", "\r\n  ", "\u200b", "\u00ad", " "])
def test_a_key_that_was_wrapped_when_it_was_copied_is_read(customer, between):
    key = customer.raw_key[:20] + between + customer.raw_key[20:]

    assert post_json({"key": key, "action": "services"}).status_code == 200


@pytest.mark.parametrize("key", ["{}x", "x{}", "{}-", "({})", "#{}", "{0},{0}", "{0}{0}"])
def test_anything_else_in_a_key_makes_it_another_key(customer, key):
    assert post_json({"key": key.format(customer.raw_key), "action": "services"}).status_code == 401


@pytest.mark.parametrize("text", ["", " ", '""', "\u200b", "\ufeff\n", " ' ' "])
def test_a_value_that_is_empty_after_cleaning_is_missing(customer, text):
    assert post_json({"key": customer.raw_key, "action": text}).json() == {
        "error": "Missing required parameter: action"
    }
    assert post_json({"key": customer.raw_key, "action": "refill", "order": text}).json() == {
        "error": "Missing required parameter: order"
    }
    assert post_json({"key": text, "action": "services"}).json() == {"error": "Invalid API key"}


@pytest.mark.parametrize("written", ["#{}", "# {}", "{},", ",{}", "[{}]", '["{}"]', '"#{}"', "({})", "{};", "| {} |"])
def test_a_single_id_is_read_as_one_of_a_list(sent, order, written):
    assert sent("order=" + quote(written.format(order().number)))["status"] == "completed"


@pytest.mark.parametrize("written", ["{0},{1}", "{0} {1}", "[{0}, {1}]", "{0}\n{1}"])
def test_two_ids_where_one_belongs_name_nothing(sent, order, written):
    text = written.format(order().number, order().number)

    assert sent("order=" + quote(text), "refill") == NOT_FOUND
    assert not Refill.objects.exists()


# ---- Lists

LISTS = [
    "{0},{1},{2}",
    "{0}, {1} ,{2}",
    "{0};{1};{2}",
    "{0}|{1}|{2}",
    "{0}\n{1}\r\n{2}\n",
    "{0} {1}\t{2}",
    "[{0}, {1}, {2}]",
]
LISTS += ['["{0}","{1}","{2}"]', "('{0}', '{1}', '{2}')", "#{0}, #{1}, #{2}", '"{0}","{1}","{2}"', '"{0},{1},{2}"']
LISTS += [
    "{0},,{1},;|{2},",
    "\ufeff{0}\u00a0{1}\u2003{2}",
    "{0},\u200b{1},\u200e{2}",
    "{{{0},{1},{2}}}",
    "“{0}”, “{1}”, “{2}”",
]


@pytest.mark.parametrize("written", LISTS)
@pytest.mark.parametrize("reference", ["pk", "number"])
def test_a_list_is_separated_and_decorated_as_people_do(sent, order, written, reference):
    ids = [str(getattr(order(), reference)) for _ in range(3)]

    rows = sent("orders=" + quote(written.format(*ids)), "refill")

    assert [row["order"] for row in rows] == ids
    assert all("refill" in row for row in rows)


REPEATED = ["orders={0}&orders={1}&orders={2}", "orders[]={0}&orders[]={1}&orders[]={2}", "orders={0},{1}&orders[]={2}"]
REPEATED += [
    "orders[0]={0}&orders[1]={1}&orders[2]={2}",
    "orders%5B%5D={0}&orders%5b0%5d={1}&orders={2}",
    "orders={0}&orders=&orders={1},{2}",
]


@pytest.mark.parametrize("rest", REPEATED)
@pytest.mark.parametrize("action", ["refill", "status"])
def test_a_list_that_comes_in_parts_is_joined(sent, order, rest, action):
    ids = [str(order().number) for _ in range(3)]

    answer = sent(rest.format(*ids), action)

    assert [row["order"] for row in answer] == ids if action == "refill" else list(answer) == ids


def test_multipart_parts_are_joined(customer, order):
    ids = [order().pk for _ in range(3)]

    response = Client().post(
        "/api/v2", {"key": customer.raw_key, "action": "status", "orders[]": ids[:2], "orders": ids[2]}
    )

    assert set(response.json()) == set(ids)


JSON_LISTS = [
    "[{0}, {1}, {2}]",
    '["{0}", {1}, "{2}"]',
    "[{0}.0, {1}.00, {2}e0]",
    '["{0},{1}", " {2} "]',
    '["#{0}", null, {1}, "", "{2}"]',
]
JSON_LISTS += [
    '"{0},{1},{2}"',
    '"[{0},{1},{2}]"',
    '[{0}], "orders": [{1}, {2}]',
    '[{0}], "orders[]": {1}, "orders[0]": [{2}]',
]


@pytest.mark.parametrize("written", JSON_LISTS)
def test_a_json_list_holds_text_integers_and_floats_without_a_fraction(customer, order, written):
    ids = [str(order().number) for _ in range(3)]
    orders = written.format(*ids)

    response = post_json(f'{{"key": "{customer.raw_key}", "action": "refill", "orders": {orders}}}'.encode())

    echoed = [row["order"] for row in response.json()]
    assert list(map(str, echoed)) == ids
    # In the answer, an id is an integer only if it was sent as an integer of JSON.
    assert all(isinstance(each, int) == is_integer(written, n) for n, each in enumerate(echoed))


def is_integer(written, n):
    """Return whether the id in place of ``n`` is an integer of JSON."""
    return re.search(rf"[\[ ]\{{{n}\}}[\],]", re.sub(r'"[^"]*"', "", written)) is not None


@pytest.mark.parametrize(
    ("written", "echoed"),
    [
        ("9007199254740993.0", "9007199254740993"),  # which a float cannot hold
        ("28.5", "28.5"),
        ("1e400", "1e400"),
        ("-0.0", "0"),
        ("1e-400", "1e-400"),
        ("1e99999999999999999999", "1e99999999999999999999"),
        ("1." + "0" * 5000, "1." + "0" * 5000),
        ("true", "true"),
        ("-28", -28),
    ],
)
def test_no_number_becomes_another(customer, order, written, echoed):
    order(number=9_007_199_254_740_992)
    order(number=28)

    response = post_json(f'{{"key": "{customer.raw_key}", "action": "refill", "orders": [{written}]}}'.encode())

    assert response.json() == [{"order": echoed, **NOT_FOUND}]


TORN = [
    "2,000,000,028",
    "2 000 000 028",
    "2\u00a0000\u00a0000\u00a0028",
    "2\u202f000\u202f000\u202f028",
    '"2,000,000,028"',
    "#2,000,000,028",
    "[2,000,000,028]",
]


@pytest.mark.parametrize("text", TORN)
def test_a_number_with_thousands_separators_never_becomes_another_order(sent, order, text):
    for number in (2, 28):
        order(number=number)

    [row] = sent("orders=" + quote(text), "refill")

    assert row["error"] == "Order not found"
    assert row["order"][0] == "2"
    assert row["order"].endswith("028")
    assert sent("order=" + quote(text), "refill") == NOT_FOUND
    assert not Refill.objects.exists()


@pytest.mark.parametrize(
    "rest", ["orders=2,000,028,7", "orders=7;2,000,028", "orders=7%0A2,000,028", "orders[]=7&orders[]=2,000,028"]
)
def test_a_number_with_separators_harms_no_other_id_of_the_list(sent, order, rest):
    order(number=7)

    rows = {row["order"]: row for row in sent(rest, "refill")}

    assert set(rows) == {"7", "2,000,028"}
    assert "refill" in rows["7"]


@pytest.mark.parametrize("text", ["000", "028", "0028", "00", "0"])
def test_digits_that_begin_with_0_are_not_a_number(sent, order, text):
    order(number=28)

    assert sent(f"orders={text},028", "refill")[0] == {"order": text, **NOT_FOUND}


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("100,101,102", ["100", "101", "102"]),
        ("100 101", ["100", "101"]),
        ("1,010,1001", ["1,010", "1001"]),
        ("1002,000", ["1002", "000"]),
        ("ord_2,000", ["ord_2", "000"]),
        ("2,000x", ["2", "000x"]),
        ("100\n000\n028", ["100", "000", "028"]),
        ("100\t000", ["100", "000"]),
        ("2,000,028.00", ["2,000", "028.00"]),
        ("5,2,000", ["5", "2,000"]),
        ("1 000 2 000", ["1 000", "2 000"]),
    ],
)
def test_what_counts_as_a_number_with_thousands_separators(text, ids):
    assert split_ids(text) == ids


@pytest.mark.parametrize(
    "text",
    [
        " " * 60_000 + "x",
        "1,000" * 12_000,
        "1,000," * 10_000,
        "\u200b x" * 15_000,
        "[" * 60_000,
        "9" * 60_000,
        "#" * 60_000 + "1",
        "1 " * 30_000,
    ],
)
def test_the_longest_texts_are_read_in_no_time(text):
    started = time.process_time()
    split_ids(text)
    clean(text)

    assert time.process_time() - started < 0.5


# ---- A single parameter that comes more than once


@pytest.mark.parametrize(
    ("rest", "name"),
    [
        ("order={0}&order={1}", "order"),
        ("order[]={0}&order[]={1}", "order"),
        ("order={0}&order[0]={1}", "order"),
        ("order={0}&action=refill", "action"),
        ("order={0}&key=np_x", "key"),
        ("refill=1&refill=2&action=refill", "action"),
    ],
)
def test_a_parameter_with_several_values_is_refused(customer, sent, order, rest, name):
    answer = sent(rest.format(order().number, order().number))

    assert answer == {"error": f"Parameter given more than once: {name}"}


@pytest.mark.parametrize("names", ["order", "action", "key"])
def test_a_member_of_json_that_comes_twice_is_refused(customer, order, names):
    members = [("key", customer.raw_key), ("action", "refill"), ("order", str(order().number)), (names, "2")]
    body = "{" + ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in members) + "}"

    response = post_json(body.encode())

    assert (response.status_code, response.json()) == (400, {"error": f"Parameter given more than once: {names}"})
    assert response["X-Error-Code"] == "parameter_repeated"
    assert not Refill.objects.exists()


@pytest.mark.parametrize(
    "rest",
    [
        "order={0}&order={0}",
        "order={0}&order=%20{0}%20",
        "order={0}&order=",
        "order=&order={0}",
        "order={0}&action=status",
    ],
)
def test_the_same_value_twice_is_one(sent, order, rest):
    assert sent(rest.format(order().number))["status"] == "completed"


def test_a_repeated_key_is_judged_before_the_action(customer):
    assert send(f"key={customer.raw_key}&key=np_x&action=nonsense").json() == {
        "error": "Parameter given more than once: key"
    }


def test_unknown_parameters_are_ignored(sent, order):
    assert sent(f"order={order().number}&x=1&x=2&y[]=3&z[a]=4&ORDER=5&request=&&=&%00=1")["status"] == "completed"


def test_unknown_members_of_json_are_ignored(customer, order):
    body = {"key": customer.raw_key, "action": "status", "order": order().number, "meta": {"a": [{}]}, "x": [1]}

    assert post_json(body).status_code == 200


@pytest.mark.parametrize("count", [100, 101])
def test_as_many_ids_are_taken_however_they_come(sent, order, count):
    answer = sent("&".join(f"orders[{n}]={n}" for n in range(1, count + 1)))

    if count > 100:
        assert answer == {"error": "Too many orders (100 at most)"}
    else:
        assert len(answer) == count


@pytest.mark.parametrize(
    ("count", "error"), [(1998, "Too many orders (100 at most)"), (1999, "Malformed request body")]
)
def test_the_number_of_parameters_is_bounded(sent, count, error):
    assert sent("&".join("orders=1" for _ in range(count))) == {"error": error}


# ---- The body itself shows what it is


def json_body(customer, order, **more):
    return json.dumps({"key": customer.raw_key, "action": "status", "order": order.number, **more})


TYPES = [
    "text/plain",
    "text/plain;charset=UTF-8",
    "text/json",
    "",
    FORM,
    "application/xml",
    "multipart/form-data",
    "garbage",
    "application/json",
]


@pytest.mark.parametrize("content_type", TYPES)
@pytest.mark.parametrize("before", ["", "\ufeff", " \r\n", "\ufeff\n"])
def test_a_json_object_is_read_as_json_whatever_its_content_type(customer, order, content_type, before):
    response = send(before + json_body(customer, order()), content_type)

    assert response.status_code == 200, response.content


def test_a_byte_order_mark_before_a_form_is_skipped(customer, order):
    assert send(f"\ufeffkey={customer.raw_key}&action=status&order={order().number}").status_code == 200


def multipart(customer, order):
    names = {"key": customer.raw_key, "action": "status", "order": str(order.number)}
    parts = (
        f'--x y\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in names.items()
    )
    return "".join(parts) + "--x y--\r\n"


@pytest.mark.parametrize(
    "content_type", [FORM, "", "multipart/form-data", "multipart/form-data; boundary=other", "application/json"]
)
def test_a_multipart_form_is_read_whatever_its_content_type(customer, order, content_type):
    assert send(multipart(customer, order()), content_type).status_code == 200


def test_a_form_as_plain_text_is_not_supported(customer):
    response = send(f"key={customer.raw_key}&action=services", "text/plain")

    assert (response.status_code, response.json()) == (415, {"error": "Unsupported media type"})
    assert response["X-Error-Code"] == "unsupported_media_type"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "GZIP", "identity, gzip", "nonsense"])
def test_a_compressed_body_is_refused(customer, order, encoding):
    response = send(gzip.compress(json_body(customer, order()).encode()), "application/json", content_encoding=encoding)

    assert (response.status_code, response.json()) == (415, {"error": "Unsupported content encoding"})
    assert response["X-Error-Code"] == "unsupported_content_encoding"


@pytest.mark.parametrize("encoding", ["", "identity", " Identity "])
def test_a_body_that_is_not_compressed_may_say_so(customer, order, encoding):
    assert send(json_body(customer, order()), content_encoding=encoding).status_code == 200


def test_bytes_that_are_not_utf8_harm_no_other_parameter(customer, order):
    body = f"key={customer.raw_key}&action=status&order={order().number}&name=".encode() + b"M\xfcller"

    assert send(body).status_code == 200


PARTS = [b"Content-Disposition: form-data; name*=zip''%41", b"Content-Disposition: form-data; name*=nonsense''%41"]
PARTS += [
    b'Content-Disposition: form-data; name="\xff"',
    b"Content-Disposition: form-data",
    b"Content-Type: text/plain; charset=zip",
]
PARTS += [
    b"Content-Disposition: form-data; name=x\r\nContent-Transfer-Encoding: base64",
    b"Content-Disposition: form-data; name=x; filename*=zip''a",
]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("value", [b"x", b"\xff", b"%%%", b"="])
def test_no_header_of_a_part_breaks_anything(db, part, value):
    response = send(b"--b\r\n" + part + b"\r\n\r\n" + value + b"\r\n--b--\r\n", "multipart/form-data; boundary=b")

    assert response.status_code in (400, 401)


@pytest.mark.parametrize(
    ("body", "content_type", "error"),
    [
        (b"\xff\xfe{\x00}\x00", "application/json", MalformedBody),
        (b"{}x", FORM, MalformedBody),
        (b"{\xff}", "", MalformedBody),
        (b"", "application/json", MalformedBody),
        (b"", "multipart/form-data; boundary=b", None),
        (b"", "text/plain", UnsupportedMediaType),
    ],
)
def test_what_cannot_be_read(body, content_type, error):
    if error:
        with pytest.raises(error):
            read_pairs(body, content_type)
    else:
        assert list(read_pairs(body, content_type)) == []


# ---- The dashboard's pasted list


@pytest.mark.parametrize("written", LISTS)
def test_the_dashboard_reads_a_pasted_list_the_same_way(client, customer, order, written):
    ids = [str(order().number) for _ in range(3)]
    client.force_login(customer.account)

    response = client.post("/dashboard/orders/list/", {"orders": written.format(*ids)})

    assert [row.order for row in response.context["results"].first] == ids
    assert response.context["results"].requested == 3


@pytest.mark.parametrize("text", TORN)
def test_the_dashboard_refills_no_part_of_a_number(client, customer, order, text):
    order(number=2), order(number=28)
    client.force_login(customer.account)

    client.post("/dashboard/orders/list/", {"orders": text})

    assert not Refill.objects.exists()


def test_a_pasted_list_counts_on_the_account_as_the_api_does(client, customer, order, settings, time_machine):
    time_machine.move_to("2026-05-01 12:00:00+00:00", tick=False)
    settings.RATE_LIMIT_TIERS = {"standard": 3}
    ApiKey.objects.update(limit_per_minute=100)
    client.force_login(customer.account)
    paste = lambda: client.post("/dashboard/orders/list/", {"orders": f"{order().number} {order().number}"})  # noqa: E731

    assert customer.post("services").status_code == 200
    assert paste().status_code == 200
    assert client.get("/dashboard/orders/list/").status_code == 200  # looking at the form is not counted
    assert customer.post("services")["X-RateLimit-Tier-Remaining"] == "0"
    refused = paste()

    assert refused.status_code == 429
    assert 1 <= int(refused["Retry-After"]) <= 60
    assert "too many requests" in refused.content.decode()
    assert refused.context["text"]  # what was pasted is not lost
    assert Refill.objects.count() == 2
    assert customer.post("services").status_code == 429
