"""``POST /api/panel/…``: the panel sends files (docs/panel-api.md)."""

import io
import json
from ipaddress import ip_network

import pytest
from django.test import Client

from apikeys.keys import create_api_key
from apikeys.models import Account, AuditEvent
from apikeys.panel_keys import create_panel_key, revoke_panel_key
from notpanel.api.bodies import LARGEST_FILE
from notpanel.kit.row_files import SHOWN_ERRORS
from orders.models import Order, Service
from tests import factories, races
from tests.redis_server import count_in
from tests.work import Work, counted
from tests.wsgi import call

ORDERS = (
    "number,account,service,link,quantity,charge,status,created,completed\n"
    "{number},shop,1,https://example.com/a,1000,0.50,completed,2026-05-01T10:00:00Z,2026-05-02T10:00:00Z\n"
)
SERVICES = "id,name,category,rate,min,max,refill,cancel\n1,Likes,Photos,0.90,50,1000,true,false\n"
ACCOUNTS = "username,email,balance\nshop,shop@example.com,12.50\n"
FILES = {"services": SERVICES, "accounts": ACCOUNTS, "orders": ORDERS.format(number=17)}


class Panel:
    """A panel with a key. ``send`` sends a file, as the panel's program does."""

    def __init__(self, network="127.0.0.1", **how):
        self.key, self.raw_key = create_panel_key("shop", [ip_network(network)], **how)

    def send(self, what, body, *, query="", content_type="text/csv", key=None, **headers):
        return Client(raise_request_exception=False).post(
            f"/api/panel/{what}{query}",
            body,
            content_type=content_type,
            headers={"Authorization": f"Bearer {key or self.raw_key}"} | headers,
        )


@pytest.fixture
def panel(db):
    return Panel()


@pytest.fixture
def shop(db):
    factories.Service(id=1)
    return factories.Account(username="shop")


def test_files_flow_in(panel):
    for name, text in FILES.items():
        response = panel.send(name, text)

        assert response.status_code == 200
        assert response.json() == {"created": 1, "changed": 0, "unchanged": 0, "dry_run": False}
        assert panel.send(name, text).json()["unchanged"] == 1
    order = Order.objects.get()
    assert (order.number, order.account.email, order.service.name) == (17, "shop@example.com", "Likes")


@pytest.mark.parametrize(
    "content_type", ["application/x-ndjson", "application/json", "text/plain", "application/x-www-form-urlencoded", ""]
)
@pytest.mark.parametrize("body", [ACCOUNTS, '{"username": "shop", "email": "shop@example.com", "balance": 12.5}\n'])
def test_csv_and_json_lines_are_told_by_their_first_character(panel, content_type, body):
    """curl sends x-www-form-urlencoded unless it is told otherwise."""
    assert panel.send("accounts", body, content_type=content_type).status_code == 200
    assert Account.objects.get().email == "shop@example.com"


@pytest.mark.parametrize("path", ["orders", "orders/", "Orders", "/orders", "ORDERS/"])
def test_every_spelling_of_the_address_is_served_directly(panel, shop, path):
    assert panel.send(path, FILES["orders"]).status_code == 200


def test_a_wrong_file_changes_nothing_and_its_errors_come_with_their_lines(panel, shop):
    body = FILES["orders"] + "18,nobody,9,x,1,x,completed,2026-05-01,\n19,nobody,1,x,1,1,completed,2026-05-01,\n"

    response = panel.send("orders", body)

    assert response.status_code == 400
    assert response["X-Error-Code"] == "bad_file"
    assert response.json() == {
        "error": "The file has 3 errors. Nothing was changed.",
        "errors": [
            {
                "line": 3,
                "error": "charge: “x” is not an amount from 0 to 999999999.99999 with at most five decimals",
            },
            {"line": 4, "error": "account: “nobody” is unknown"},
            {"line": 4, "error": "completed: must be given, because the order is completed"},
        ],
    }
    assert not Order.objects.exists()


def test_the_first_of_many_errors_are_listed_and_all_are_counted(panel):
    response = panel.send("accounts", "username\n" + "a b\n" * 1000)

    assert response.json()["error"] == "The file has 1,000 errors. Nothing was changed."
    assert len(response.json()["errors"]) == SHOWN_ERRORS


def test_a_dry_run_and_a_time_zone_are_asked_for_in_the_address(panel, shop):
    body = FILES["orders"].replace("2026-05-01T10:00:00Z", "2026-05-01 10:00:00")

    response = panel.send("orders", body, query="?dry_run=1&time_zone=Europe/Berlin")

    assert response.json() == {"created": 1, "changed": 0, "unchanged": 0, "dry_run": True}
    assert not Order.objects.exists()
    panel.send("orders", body, query="?time_zone=Europe/Berlin")
    assert Order.objects.get().created_at.hour == 8


@pytest.mark.parametrize(
    ("what", "query", "error", "code"),
    [
        ("orders", "?dryrun=1", "Unknown option: dryrun", "unknown_option"),
        ("accounts", "?time_zone=UTC", "Unknown option: time_zone", "unknown_option"),
        ("orders", "?dry_run=maybe", "dry_run: “maybe” is neither true nor false", "bad_option"),
        ("orders", "?time_zone=Mars", "time_zone: “Mars” is not a time zone such as Europe/Berlin", "bad_option"),
        ("orders", "?dry_run=1&dry_run=0", "dry_run: given more than once", "bad_option"),
    ],
)
def test_an_option_that_is_not_understood_is_refused(panel, shop, what, query, error, code):
    response = panel.send(what, FILES[what], query=query)

    assert (response.status_code, response.json(), response["X-Error-Code"]) == (400, {"error": error}, code)
    assert not Order.objects.exists()


class TestKeys:
    @pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer x", "Basic {key}", "{key}"])
    def test_without_a_panel_key_nothing_is_read(self, panel, authorization):
        response = panel.send("accounts", ACCOUNTS, Authorization=authorization.format(key=panel.raw_key))

        assert (response.status_code, response.json()) == (401, {"error": "Invalid API key"})
        assert not Account.objects.exists()

    def test_a_revoked_key_is_refused(self, panel):
        revoke_panel_key(panel.key)

        assert panel.send("accounts", ACCOUNTS).status_code == 401

    def test_a_key_for_another_address_is_refused(self, db):
        assert Panel("203.0.113.0/24").send("accounts", ACCOUNTS).status_code == 401

    def test_a_customers_key_is_refused(self, panel, shop):
        assert panel.send("accounts", ACCOUNTS, key=create_api_key(shop)[1]).status_code == 401

    def test_a_key_in_the_address_or_the_body_is_ignored(self, panel):
        for query, body in ((f"?key={panel.raw_key}", ACCOUNTS), ("", f"key={panel.raw_key}")):
            response = panel.send("accounts", body, query=query, Authorization="")
            assert response.status_code == 401

    def test_no_log_line_has_the_key(self, panel, log):
        panel.send("accounts", ACCOUNTS)
        panel.send(f"accounts/{panel.raw_key}", ACCOUNTS)

        assert panel.raw_key not in log.text
        first, second = log.requests
        assert (first["view"], first["key"], first["created"]) == ("panel-accounts", panel.key.prefix, 1)
        assert (second["path"], second["code"]) == ("/api/panel/accounts/npp_…", "not_found")


class TestLimits:
    @pytest.fixture(autouse=True, params=["memory", "redis"])
    def counters(self, request, settings, time_machine):
        if request.param == "redis":
            count_in(settings, request.getfixturevalue("redis_url"))
        time_machine.move_to("2026-05-01T12:00:00Z", tick=False)

    def test_each_key_has_its_own_limit(self, panel, settings):
        settings.PANEL_RATE_LIMIT = 2
        other, generous = Panel(), Panel(limit_per_minute=3)

        assert [panel.send("accounts", ACCOUNTS).status_code for _ in range(3)] == [200, 200, 429]
        assert other.send("accounts", ACCOUNTS).status_code == 200
        assert [generous.send("accounts", ACCOUNTS).status_code for _ in range(4)] == [200, 200, 200, 429]

    def test_a_refusal_says_how_long_to_wait(self, panel, settings):
        settings.PANEL_RATE_LIMIT = 1
        panel.send("accounts", ACCOUNTS)

        response = panel.send("accounts", ACCOUNTS)

        assert response.json() == {"error": "Rate limit exceeded"}
        assert response["X-RateLimit-DeniedBy"] == "panel"
        assert 0 < int(response["Retry-After"]) <= 60
        assert response["X-RateLimit-Remaining"] == "0"

    def test_guesses_of_keys_are_counted_on_the_address(self, panel, settings):
        settings.RATE_LIMIT_IP = 2

        answers = [panel.send("accounts", ACCOUNTS, key="npp_" + "x" * 43).status_code for _ in range(3)]

        assert answers == [401, 401, 429]


class TestErrorsAreJson:
    def sent(self, response):
        assert response["Content-Type"] == "application/json"
        assert list(response.json()) == ["error"]
        assert response["X-Error-Code"]
        assert response["X-Request-ID"]
        return response.status_code

    def test_another_method(self, panel):
        response = Client().get("/api/panel/orders")

        assert self.sent(response) == 405
        assert response["Allow"] == "POST"

    @pytest.mark.parametrize("path", ["refills", "", "orders/17"])
    def test_another_address(self, panel, path):
        assert self.sent(panel.send(path, ACCOUNTS)) == 404

    @pytest.mark.parametrize("encoding", ["gzip", "br"])
    def test_a_compressed_body(self, panel, encoding):
        assert self.sent(panel.send("accounts", ACCOUNTS, **{"Content-Encoding": encoding})) == 415

    def test_a_form_with_a_file_in_it(self, panel):
        form = {"file": io.BytesIO(ACCOUNTS.encode())}
        headers = {"Authorization": f"Bearer {panel.raw_key}"}

        assert self.sent(Client().post("/api/panel/accounts", form, headers=headers)) == 415

    def test_a_database_that_does_not_answer(self, panel, monkeypatch):
        from django.db import OperationalError

        def fail(*args):
            raise OperationalError

        monkeypatch.setattr("apikeys.imports._write", fail)

        response = panel.send("accounts", ACCOUNTS)

        assert self.sent(response) == 503
        assert response["Retry-After"]

    def test_a_bug(self, panel, monkeypatch):
        monkeypatch.setattr("apikeys.imports._write", lambda *args: 1 / 0)

        assert self.sent(panel.send("accounts", ACCOUNTS)) == 500


class TestBodies:
    def headers(self, panel):
        return {"HTTP_AUTHORIZATION": f"Bearer {panel.raw_key}", "REMOTE_ADDR": "127.0.0.1"}

    def padded(self, size):
        return ACCOUNTS.encode() + b"\n" * (size - len(ACCOUNTS))

    def test_ten_mebibytes_are_taken_and_a_byte_more_is_not(self, panel):
        assert panel.send("accounts", self.padded(LARGEST_FILE)).status_code == 200

        response = panel.send("accounts", self.padded(LARGEST_FILE + 1))

        assert (response.status_code, response.json()) == (413, {"error": "Request body too large"})

    @pytest.mark.parametrize("length", ["-1", "x", "1_0"])
    def test_an_invalid_length_is_refused(self, panel, length):
        status, _, _ = call(ACCOUNTS.encode(), "/api/panel/accounts", **self.headers(panel), CONTENT_LENGTH=length)

        assert status == 400

    def test_half_a_file_is_not_imported(self, panel):
        """The client may have hung up, or the server may not report that it did."""
        whole = ACCOUNTS.encode()

        status, _, content = call(
            whole[:-1], "/api/panel/accounts", **self.headers(panel), CONTENT_LENGTH=str(len(whole))
        )

        assert (status, json.loads(content)) == (400, {"error": "Malformed request body"})
        assert not Account.objects.exists()

    @pytest.mark.parametrize(
        ("path", "size", "status"),
        [
            ("/api/panel/accounts", LARGEST_FILE, 200),
            ("/api/panel/accounts", LARGEST_FILE + 1, 413),
            ("//api/panel/accounts", 1024 * 1024, 200),
            ("//api/panel/accounts", 1024 * 1024 + 1, 413),
            ("/api/v2", 1024 * 1024 + 1, 413),
        ],
    )
    def test_a_body_in_chunks_is_taken_whole_or_not_at_all(self, panel, path, size, status):
        environ = {**self.headers(panel), "HTTP_TRANSFER_ENCODING": "chunked"}
        body = self.padded(size)

        found, _, _ = call_in_chunks(body, path, **environ)

        assert found == status
        assert Account.objects.exists() == (status == 200)


def call_in_chunks(body, path, **environ):
    from tests import wsgi

    made = wsgi.wsgi_environ

    def without_length(body, **environ):
        found = made(body, **environ)
        del found["CONTENT_LENGTH"]
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wsgi, "wsgi_environ", without_length)
        return call(body, path, **environ)


def test_the_audit_log_says_from_where_an_account_was_changed(panel):
    panel.send("accounts", ACCOUNTS)

    event = AuditEvent.objects.get(kind="account_created")
    assert (event.account.username, event.by, event.address) == ("shop", None, "127.0.0.1")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("what", "statements"), [("services", 6), ("orders", 13), ("accounts", 8)])
def test_the_statements_do_not_grow_with_the_file(settings, redis_url, time_machine, what, statements):
    """The count includes the statement that finds the key. COPY is not logged. Round trips: the address, the key."""
    count_in(settings, redis_url)
    time_machine.move_to("2026-06-01T12:00:00Z", tick=False)
    panel = Panel()
    factories.Service(id=1)
    factories.Account(username="shop")
    header, row = FILES[what].splitlines()
    panel.send(what, "")  # records the use of the key, connects, and loads the script of the counters

    def work(count):
        first = row.partition(",")[0]
        rows = [
            row.replace(first, f"1{count}{n}" if first.isdigit() else f"{first}{count}{n}", 1) for n in range(count)
        ]
        with counted() as found:
            response = panel.send(what, "\n".join([header, *rows]))
        assert response.json() == {"created": count, "changed": 0, "unchanged": 0, "dry_run": False}
        return found

    assert work(1) == work(300) == Work(statements=statements, round_trips=2)


class TestRaces:
    pytestmark = races.MARKS

    @pytest.mark.parametrize("what", FILES)
    def test_the_same_file_sent_twice_at_once_is_imported_in_either_order(self, what):
        panel = Panel()
        factories.Service(id=1)
        factories.Account(username="shop")
        header, row = FILES[what].splitlines()
        first = row.partition(",")[0]
        names = [str(n) if first.isdigit() else f"a{n}" for n in range(101, 151)]
        rows = [row.replace(first, name, 1) for name in names]

        answers = races.race(
            [lambda order=order: panel.send(what, "\n".join([header, *order])) for order in (rows, rows[::-1])] * 2
        )

        assert [answer.status_code for answer in answers] == [200] * 4
        assert sorted(answer.json()["created"] for answer in answers) == [0, 0, 0, 50]
        assert sorted(answer.json()["unchanged"] for answer in answers) == [0, 50, 50, 50]
        model = {"orders": Order, "services": Service, "accounts": Account}[what]
        assert model.objects.count() == 50 + {"orders": 0, "services": 1, "accounts": 1}[what]
