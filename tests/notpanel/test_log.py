"""What the log says, whatever clients send, and what an error tracker gets to see."""

import ipaddress
import json
import logging
import random
import re
import sys
import time
from urllib.parse import urlencode

import pytest
from django.db import IntegrityError, connection
from django.test import Client
from django.views.debug import ExceptionReporter

from notpanel.kit import request_facts, sql
from notpanel.logs import formatter, without_secrets
from orders.models import Order
from tests import factories
from tests.conftest import FORM, end, new_customer, post
from tests.hostile import planted
from tests.hostile.requests import make_customer

TOKEN = "dil11w-" + "0123456789abcdef" * 2
KEY = "np_" + "Ab_-9" * 8
NOW = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


class TestLinesOfRequests:
    """A request leaves one line, in JSON."""

    def test_the_line_says_who_asked_for_what_and_what_became_of_it(self, customer, log):
        order = factories.Order(account=customer.account)

        customer.post("refill", order=order.pk)

        [line] = log.requests
        assert re.fullmatch(NOW, line.pop("time"))
        assert line.pop("milliseconds") > 0
        assert line.pop("statements") >= 4
        assert re.fullmatch("[0-9a-f]{32}", line.pop("request_id"))
        assert line == {
            "level": "info",
            "logger": "notpanel.request_log",
            "event": "request",
            "method": "POST",
            "path": "/api/v2",
            "view": "api-v2",
            "status": 200,
            "outcome": "ok",
            "address": "127.0.0.1",
            "account": customer.account.pk,
            "key": customer.api_key.prefix,
            "action": "refill",
            "ids": 1,
        }

    def test_the_line_has_the_id_of_the_answer(self, customer, log):
        response = customer.post("services")

        assert [line["request_id"] for line in log.requests] == [response["X-Request-ID"]]

    def test_the_line_has_the_address_that_the_limits_see(self, db, log, settings):
        settings.TRUSTED_PROXIES = [ipaddress.ip_network("127.0.0.1")]

        Client().get("/api", headers={"X-Forwarded-For": "2001:db8::7"})

        assert log.requests[0]["address"] == "2001:db8::7"

    def test_a_list_says_how_many_ids_were_refused_and_why(self, customer, log):
        order = factories.Order(account=customer.account)
        other = factories.Order(account=customer.account)
        factories.Refill(order=other)

        customer.post("refill", orders=f"{order.pk},{other.pk},nosuch1,nosuch2")

        [line] = log.requests
        assert (line["outcome"], line["ids"]) == ("partial", 4)
        assert line["refused"] == {"order_not_found": 2, "refill_already_pending": 1}

    def test_a_list_that_is_refused_whole_counts_as_refused(self, customer, log):
        customer.post("refill", orders="nosuch1,nosuch2")

        assert log.requests[0]["outcome"] == "refused"

    @pytest.mark.parametrize("answers", ["notpanel", "perfectpanel"])
    def test_a_refusal_has_its_code_whatever_the_status(self, customer, log, answers):
        customer.api_key.answers = answers
        customer.api_key.save()

        customer.post("refill", order="nosuch")

        [line] = log.requests
        assert (line["outcome"], line["code"]) == ("refused", "order_not_found")

    def test_an_answer_that_is_repeated_says_so(self, customer, log):
        order = factories.Order(account=customer.account)
        for _ in range(2):
            customer.post("refill", order=order.pk, request_id="x")

        assert ["replay" in line for line in log.requests] == [False, True]

    def test_the_fields_of_one_request_do_not_reach_the_next(self, customer, log):
        customer.post("services")
        Client().get("/api")

        first, second = log.requests
        assert {"account", "key", "action"} <= first.keys()
        assert not {"account", "key", "action"} & second.keys()

    def test_a_page_says_who_has_signed_in(self, client, staff, log):
        client.force_login(staff)

        client.get("/admin/refills/refill/")

        [line] = log.requests
        assert (line["account"], line["view"], line["outcome"]) == (staff.pk, "admin:refills_refill_changelist", "ok")

    def test_a_page_without_a_user_takes_no_statement_to_log_one(self, client, db, log):
        client.get("/robots.txt")

        assert (log.requests[0]["statements"], "account" in log.requests[0]) == (0, False)

    def test_a_failure_has_its_traceback_under_the_same_id(self, customer, log, monkeypatch):
        def broken(*args, **kwargs):
            raise RuntimeError("broken")

        monkeypatch.setattr(Order.objects.__class__, "filter", broken)

        sent = urlencode({"key": customer.raw_key, "action": "status", "order": 1})
        Client(raise_request_exception=False).post("/api/v2", sent, content_type=FORM)

        [error] = log.records("notpanel.api.exceptions")
        [line] = log.requests
        assert (line["outcome"], line["code"]) == ("failed", "internal_server_error")
        assert error["request_id"] == line["request_id"]
        assert "RuntimeError: broken" in error["exception"]

    @pytest.mark.parametrize(("method", "logged"), [("GET", "GET"), ("PROPFIND", "-"), ("GET\n2026 INFO x", "-")])
    def test_an_unknown_method_is_not_logged(self, db, log, method, logged):
        Client().generic(method, "/api")

        assert [line["method"] for line in log.requests] == [logged]

    def test_a_path_is_cut_between_slashes(self, db, log):
        Client().get("/" + f"{'x' * 20}/" * 10_000)

        [line] = log.requests
        assert len(line["path"]) <= 302
        assert line["path"].endswith(f"/{'x' * 20}/…")


class TestWhoIsKeptOut:
    """The line says which limit or which check kept a request out."""

    @pytest.mark.parametrize("layer", ["ip", "key", "tier"])
    def test_the_layer_of_a_limit(self, customer, log, settings, layer):
        if layer == "ip":
            settings.RATE_LIMIT_IP = 1
        elif layer == "key":
            settings.RATE_LIMIT_KEYS = dict.fromkeys(settings.RATE_LIMIT_KEYS, 1)
        else:
            settings.RATE_LIMIT_TIERS = dict.fromkeys(settings.RATE_LIMIT_TIERS, 1)

        customer.post("services")
        customer.post("services")

        first, second = log.requests
        assert (first["outcome"], second["outcome"]) == ("ok", "limited")
        assert (second["limited_by"], second["code"]) == (layer, "rate_limit_exceeded")

    @pytest.mark.parametrize("key", ["", "np_" + "x" * 42])
    def test_no_key(self, db, log, key):
        post(key=key, action="services")

        assert_denied(log, "no_key", "invalid_api_key")

    def test_an_unknown_key(self, db, log):
        post(key="np_" + "x" * 43, action="services")

        assert_denied(log, "unknown_key", "invalid_api_key")

    def test_a_key_from_another_address(self, customer, log):
        customer.api_key.allowed_networks = ["203.0.113.0/24"]
        customer.api_key.save()

        customer.post("services")

        line = assert_denied(log, "address", "invalid_api_key")
        assert (line["account"], line["key"]) == (customer.account.pk, customer.api_key.prefix)

    def test_a_suspended_account(self, customer, log):
        customer.account.is_active = False
        customer.account.save()

        customer.post("services")

        assert assert_denied(log, "suspended", "account_suspended")["account"] == customer.account.pk

    def test_a_key_that_may_only_read(self, customer, log):
        customer.api_key.read_only = True
        customer.api_key.save()

        customer.post("refill", order="1")

        assert assert_denied(log, "read_only", "key_is_read_only")["action"] == "refill"

    def test_an_unknown_host(self, db, log):
        Client().get("/api", headers={"Host": "elsewhere.example"})

        assert_denied(log, "host", "unknown_host")

    def test_a_page_without_permission(self, client, db, log):
        client.force_login(factories.Account(is_staff=True))

        client.get("/admin/refills/refill/")

        assert_denied(log, "permission", None)


def assert_denied(log, denied_by, code):
    [line] = log.requests
    assert (line["outcome"], line["denied_by"], line.get("code")) == ("denied", denied_by, code)
    return line


class TestStatements:
    """A request's statements are counted, whichever way they take to PostgreSQL."""

    def count(self, call):
        facts, token = request_facts.begin("x")
        try:
            call()
        finally:
            request_facts.end(token)
        return facts.statements

    def test_statements_of_the_orm(self, db):
        assert self.count(lambda: list(Order.objects.all())) == 1

    def test_prepared_statements(self, db):
        assert self.count(lambda: sql.fetch("SELECT 1", {})) == 1

    def test_statements_of_a_cursor_that_may_not_prepare(self, db, monkeypatch):
        monkeypatch.setattr(connection.connection, "prepare_threshold", None)

        assert self.count(lambda: sql.fetch("SELECT 1", {})) == 1

    def test_counting_keeps_no_statement_from_being_prepared(self, db):
        sql.fetch("SELECT 1 AS counted_and_prepared", {})

        names = [row[0] for row in sql.fetch("SELECT statement FROM pg_prepared_statements", {})]
        assert "SELECT 1 AS counted_and_prepared" in names

    def test_none_are_counted_outside_of_a_request(self, db):
        sql.fetch("SELECT 1", {})

        assert request_facts.current() is None


class TestOneRecordIsOneLine:
    FORGERIES = ("\r\nforged", "\nforged", "\x1b[2Jforged", "\x85forged", "\u2028forged", "\x00", "\ud800", "\u202e")

    @pytest.mark.parametrize("form", ["json", "console"])
    @pytest.mark.parametrize("sent", FORGERIES)
    def test_whatever_a_message_holds(self, form, sent):
        line = written(form, "before %s after", sent)

        assert line.splitlines() == [line]
        assert re.sub(r"\x1b\[\d*m", "", line).isprintable()  # the terminal's own colours

    @pytest.mark.parametrize("form", ["json", "console"])
    @pytest.mark.parametrize("sent", FORGERIES)
    def test_whatever_a_traceback_holds(self, form, sent):
        try:
            raise ValueError(f"sent{sent}")
        except ValueError:
            first, *others = written(form, "failed", exc_info=True).splitlines()

        assert "failed" in first
        assert not others or (form == "console" and all(line.startswith("  ") for line in others))

    @pytest.mark.parametrize("sent", FORGERIES)
    def test_whatever_a_client_sends(self, customer, log, sent):
        client = Client()
        client.generic("POST", "/x", QUERY_STRING=f"a={sent}", HTTP_USER_AGENT=sent, HTTP_REFERER=sent)
        client.get("/api", headers={"X-Request-ID": f"a{sent}", "X-Forwarded-For": sent, "Host": f"a{sent}"})
        form = urlencode({"username": f"anna{sent}", "password": sent}, errors="surrogatepass")
        client.post("/dashboard/sign-in/", form, content_type=FORM)
        client.get(f"/admin{sent}".encode("utf-8", "surrogatepass").decode("latin-1"))
        form = urlencode({"key": customer.raw_key, "action": f"refill{sent}"}, errors="surrogatepass")
        client.post("/api/v2", form, content_type=FORM)

        assert len(log.requests) == 5
        assert all(record["level"] in ("info", "warning") for record in log.records())

    @pytest.mark.parametrize(
        "query", ["x%0d%0aforged=1", "category=%0d%0aforged", "q=%0aforged", "o=%0aforged", "%0aforged__x=1"]
    )
    def test_whatever_the_query_of_the_admin_holds(self, client, staff, log, query):
        client.force_login(staff)

        client.get(f"/admin/refills/refill/?{query}")
        end(client.get(f"/admin/refills/refill/export/?{query}"))
        client.get(f"/admin/%0aforged/?{query}")

        assert len(log.requests) == 3
        assert len(log.records()) == len(log.lines)

    def test_records_of_libraries_take_the_same_form(self, log):
        logging.getLogger("waitress").error("Client disconnected while serving /%s", KEY)

        [record] = log.records()
        assert (record["logger"], record["level"]) == ("waitress", "error")
        assert record["event"] == "Client disconnected while serving /np_…"
        assert "request_id" not in record


def written(form, message, *arguments, exc_info=False):
    """Return what a handler with this form writes of a record."""
    failure = sys.exc_info() if exc_info else None
    return formatter(form).format(logging.LogRecord("orders", logging.ERROR, "", 0, message, arguments, failure))


class TestSecrets:
    @pytest.mark.parametrize(
        ("text", "without"),
        [
            (f"key={KEY}", "key=np_…"),
            (f"key={KEY[:11]}", f"key={KEY[:11]}"),
            ("Bearer npp_" + "x" * 43, "Bearer npp_…"),
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo= is", "whsec_… is"),
            (f"at {TOKEN}.", "at …."),
            ("/dashboard/password/reset/MQ/secret-token/", "/dashboard/password/reset/MQ/…/"),
            ("/elsewhere/dashboard/email/confirm/eyJ:1u:x/?a", "/elsewhere/dashboard/email/confirm/…/?a"),
            ("anna.b+c@mail.example.com wrote", "… wrote"),
            ("Key (email)=(anna@example.com)", "Key (email)=(…)"),
            ("sessionid=0123456789abcdefghijklmnopqrstuv;", "sessionid=…;"),
            ("csrf=" + "aB3" * 21 + "x", "csrf=…"),
            ("https://instagram.com/p/abc?x=1 dropped", "https://instagram.com/… dropped"),
            ("Listening at: http://127.0.0.1:8000 (7)", "Listening at: http://127.0.0.1:8000 (7)"),
            ("postgresql://np:secret@db:5432/np", "postgresql://…@db:5432/…"),
            ("DETAIL:  Failing row contains (1, anna).", "DETAIL: …"),
            ('File "/srv/np/lib/python3.11/x.py", line 3', 'File "/srv/np/lib/python3.11/x.py", line 3'),
            ("in answer_what_the_server_has_refused_before", "in answer_what_the_server_has_refused_before"),
            ("ord_01ARZ3NDEKTSV4RRFFQ69G5FAV", "ord_01ARZ3NDEKTSV4RRFFQ69G5FAV"),
        ],
    )
    def test_what_is_taken_out_of_a_text(self, text, without):
        assert without_secrets(text) == without

    @pytest.mark.parametrize("unit", ["a", "a.", "@", "a@", "a@a.", "np", "np_", "://", "a://", "/", "-", "1-", "é"])
    def test_a_long_text_takes_no_longer_than_many_short_ones(self, unit):
        """The filter reads paths that clients choose, so its time must not grow with the square of their length."""
        short, long = unit * (2_000 // len(unit)), unit * (200_000 // len(unit))

        def seconds(text, times):
            started = time.process_time()
            for _ in range(times):
                without_secrets(text)
            return time.process_time() - started

        assert seconds(long, 1) < 10 * seconds(short, 100) + 0.05

    def test_a_traceback_has_no_secrets(self, log):
        try:
            raise ValueError(f"{KEY} {TOKEN} anna@example.com")
        except ValueError:
            logging.getLogger("orders").exception("failed")

        [record] = log.records()
        assert record["exception"].endswith("ValueError: np_… … …")

    def test_a_row_that_postgresql_quotes_is_not_logged(self, customer, log):
        try:
            factories.Account(username=customer.account.username)
        except IntegrityError:
            logging.getLogger("orders").exception("failed")

        assert "already exists" not in log.text
        assert "duplicate key value violates unique constraint" in log.text


def test_no_planted_secret_is_in_the_log(db, settings, log):
    """A short form of ``python -m tests.hostile log``."""
    settings.RATE_LIMIT_IP = settings.ATTEMPTS_PER_ADDRESS = settings.ATTEMPTS_PER_NAME = settings.PASSWORD_CHECKS = (
        10**6
    )
    settings.RATE_LIMIT_KEYS = settings.RATE_LIMIT_TIERS = dict.fromkeys(settings.RATE_LIMIT_TIERS, 10**6)
    seed = time.time_ns()
    chance = random.Random(seed)
    make_customer()

    for _ in range(100):
        log.clear()
        secrets = planted.Secrets(chance)
        planted.send(secrets)
        for _ in range(20):
            planted.log(secrets)

        assert len(log.lines) == len(log.records()) >= 21
        assert not [text for text in secrets.fragments if text in log.text], f"with seed {seed}"


@pytest.mark.parametrize(("encode", "content_type"), [(urlencode, FORM), (json.dumps, "application/json")])
@pytest.mark.parametrize("failing", ["apikeys.keys.fetch", "refills.api.request_refills"])
def test_an_error_collector_gets_no_key(db, monkeypatch, caplog, encode, content_type, failing):
    """A collector reads the frames of what is logged, as Django's own report does."""
    customer = new_customer()
    sent = {"key": customer.raw_key, "action": "refill", "order": factories.Order(account=customer.account).pk}

    def fail(*args, **kwargs):
        raise ValueError

    monkeypatch.setattr(failing, fail)
    client = Client(raise_request_exception=False)
    response = client.post("/api/v2", encode(sent), content_type=content_type)

    assert response.status_code == 500
    [record] = [record for record in caplog.records if record.exc_info]
    report = ExceptionReporter(getattr(record, "request", None), *record.exc_info).get_traceback_html()
    assert "identify_caller" in report or "lock_orders" in report
    assert "********************" in report
    assert customer.raw_key not in report
