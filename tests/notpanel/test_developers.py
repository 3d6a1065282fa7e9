"""The developers' pages follow the list of actions, and the page of action=refill has its literal texts."""

import html
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from datetime import date, timedelta

import pytest
from django.utils import timezone

from notpanel.api.errors import RateLimitExceeded, status_of
from notpanel.api.examples import LOOPS, ORDER, UNKNOWN_ORDER, printed
from notpanel.api.schemas import record, rows
from notpanel.kit.refusals import AccountSuspended, InvalidApiKey
from notpanel.urls import ACTIONS, developers
from refills.models import Refill
from tests import factories

PAGES = [
    "",
    "authentication/",
    "rate-limits/",
    "errors/",
    "trying-again/",
    "missing/",
    "moving/",
    "changelog/",
    "reference/",
    *(f"{action.name}/" for action in ACTIONS),
]


def text(response):
    """Return the text of a page, without markup and line breaks."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", response.content.decode())).split())


def programs(response):
    """Return the language and the text of each program on a page."""
    found = re.findall(r'<code data-language="(\w+)">(.*?)</code>', response.content.decode(), re.DOTALL)
    return [(language, html.unescape(program)) for language, program in found]


def responses(response):
    """Return the responses shown with the examples."""
    return [
        html.unescape(text) for text in re.findall(r"data-response>(.*?)</code>", response.content.decode(), re.DOTALL)
    ]


@pytest.mark.parametrize("page", PAGES)
def test_everybody_may_read_the_pages(client, db, page):
    assert client.get(f"/developers/{page}").status_code == 200


@pytest.mark.parametrize("page", PAGES)
def test_nobody_posts_to_them(client, db, page):
    assert client.post(f"/developers/{page}").status_code == 405


def test_an_unknown_action_has_no_page(client, db):
    assert client.get("/developers/nonsense/").status_code == 404


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)
class TestAction:
    def test_the_parameters_are_listed(self, client, db, action):
        page = text(client.get(f"/developers/{action.name}/"))

        assert "key Required string Your API key." in page
        assert f'action Required string Must be the literal string "{action.name}".' in page
        for parameter in action.parameters:
            assert f"{parameter.name} {parameter.type} {parameter.description}" in page

    def test_the_errors_are_listed_in_order_with_status_and_cause(self, client, db, action):
        page = text(client.get(f"/developers/{action.name}/"))

        rows = [f'{status_of(e)} {{"error":"{action.text_of(e)}"}} {e.cause}' for e in action.errors]
        assert all(row in page for row in rows)
        assert sorted(rows, key=page.index) == rows

    def test_there_are_examples_in_four_languages_with_their_responses(self, client, db, action):
        response = client.get(f"/developers/{action.name}/")

        languages = [language for language, _ in programs(response)]
        assert languages == ["curl", "JavaScript", "Python", "PHP"] * len(action.examples)
        for _, program in programs(response):
            assert "http://testserver/api/v2" in program
            assert "YOUR_API_KEY" in program
            assert action.name in program
        assert response.content.decode().count("data-response") == len(action.examples)


def members(schema):
    """Return the names of all members of the objects that a schema describes."""
    if isinstance(schema, list | tuple):
        return {name for each in schema for name in members(each)}
    if not isinstance(schema, dict):
        return set()
    return set(schema.get("properties", ())) | members(list(schema.values()))


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)
def test_each_member_of_an_answer_is_in_a_table(client, db, action):
    page = client.get(f"/developers/{action.name}/").content.decode()
    told = re.findall(r'role="rowheader">\s*<code>(?:\w+\[\]\.)?(\w+)</code>', page)

    assert set(told) == members(action.schema)


def test_the_members_have_types_nulls_values_and_descriptions(client, db, monkeypatch):
    described = record(
        "Described",
        "",
        {"status": {"type": ["string", "null"], "enum": ["on", "off"], "description": "Whether it runs."}},
        {"rows": {"type": "array", "items": record("Row", "", {"at": {"type": "integer"}})}},
    )
    schema = {"anyOf": [described, rows("order", described)]}
    monkeypatch.setitem(developers.actions, "refill", replace(developers.actions["refill"], schema=schema))

    page = text(client.get("/developers/refill/"))

    assert (
        "An object Members of the answer: An object Member Type Meaning status string or null Whether it runs. on , "
        "off rows not always array rows[].at integer"
    ) in page
    assert (
        "An array; each of its rows Member Type Meaning order string or integer The ID of the order, as you sent it. "
        "status not always string or null Whether it runs. on , off rows not always array rows[].at integer "
        "error not always string Why it was refused, in words. code not always string The code"
    ) in page


@pytest.mark.parametrize("action", ["refill", "refill_status", "status", "services"])
def test_errors_about_parameters_name_the_parameters_of_the_action(client, db, action):
    page = text(client.get(f"/developers/{action}/"))

    told = re.findall(r'"error":"((?:Missing|Provide|Too many) .*?)"', page)
    assert told == {
        "services": [],
        "refill_status": [
            "Missing required parameter: refill",
            "Provide only one of refill, refills, order or orders",
            "Too many refills (100 at most)",
        ],
    }.get(
        action,
        [
            "Missing required parameter: order",
            "Provide either order or orders, not both",
            "Too many orders (100 at most)",
        ],
    )


def test_the_page_shows_the_configured_cap():
    code = (
        "import django; django.setup()\n"
        "from notpanel.urls import ACTIONS\n"
        "print(ACTIONS[0].summary, *(error.example_text() for error in ACTIONS[0].errors))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"REFILL_LIMIT": "5", "DJANGO_SETTINGS_MODULE": "notpanel.settings"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert "(5 by default)" in run.stdout
    assert "Refill limit reached (5 per order)" in run.stdout


class TestRefill:
    """The page has these literal texts, which never change."""

    @pytest.mark.parametrize(
        "words",
        [
            "Request refill",
            (
                "Creates a refill request against a completed or partial order. Refills are subject to a per-order cap "
                "(3 by default) and a single in-flight constraint — only one pending refill per order at a time."
            ),
            "POST http://testserver/api/v2 action=refill",
            "API key required",
            "Rate limited (per-key + per-tier + per-IP)",
            "Body: application/x-www-form-urlencoded",
            "key Required string Your API key.",
            'action Required string Must be the literal string "refill".',
            "order string Single-order ID. Either order or orders is required, not both.",
            (
                "orders string (CSV) Up to 100 comma-separated order IDs for batch refill. Returns an array — each row "
                "carries either a refill ID or a per-order error."
            ),
            "Replace YOUR_API_KEY with the key generated under your dashboard’s API page .",
            (
                'curl -X POST http://testserver/api/v2 \\ -H "Content-Type: application/x-www-form-urlencoded" \\ '
                '-d "key=YOUR_API_KEY&action=refill&order=ord_01HG9X7KJP4N'
            ),
            (
                'const res = await fetch("http://testserver/api/v2", { method: "POST", headers: { "Content-Type": '
                '"application/x-www-form-urlencoded" }, body: new URLSearchParams({ key: "YOUR_API_KEY", '
                'action: "refill", order: "ord_01HG9X7KJP4N'
            ),
            "const data = await res.json(); console.log(data);",
            (
                'import requests res = requests.post( "http://testserver/api/v2", data={ "key": "YOUR_API_KEY", '
                '"action": "refill", "order": "ord_01HG9X7KJP4N'
            ),
            (
                "<?php $body = http_build_query([ 'key' => 'YOUR_API_KEY', 'action' => 'refill', 'order' => "
                "'ord_01HG9X7KJP4N"
            ),
            "'ignore_errors' => true, ], ])); print_r(json_decode($response, true));",
            '{ "refill": "ref_01HG9X',
            "Common errors",
            "Status Body Cause X-Error-Code",
            '400 {"error":"Order not found"} Order ID doesn\'t exist or doesn\'t belong to your account.',
            (
                '400 {"error":"Refill only available for completed or partial orders"} The order is still pending, '
                "processing, in_progress, cancelled, or refunded."
            ),
            (
                '400 {"error":"Service does not support refills"} The underlying service has refill=false. Check the '
                "services catalog before submitting refill requests."
            ),
            (
                '400 {"error":"A refill request is already pending for this order"} Wait for the previous refill to '
                "settle before creating another."
            ),
            '400 {"error":"Refill limit reached (3 per order)"} Per-order cap exhausted.',
        ],
    )
    def test_the_page_has_the_literal_text(self, client, db, words):
        assert words in text(client.get("/developers/refill/"))

    def test_the_headings_are_in_order(self, client, db):
        page = client.get("/developers/refill/").content.decode()

        headings = re.findall(r"<h\d[^>]*>\s*(.*?)\s*</h\d>", page)
        model = ["Request refill", "Parameters", "Example request", "Example response", "Common errors"]
        assert [heading for heading in dict.fromkeys(headings) if heading in model] == model


class TestSignedIn:
    @pytest.fixture
    def page(self, client, customer):
        client.force_login(customer.account)
        return lambda name: client.get(f"/developers/{name}/")

    def test_each_example_holds_an_order_of_the_visitor_that_may_be_refilled(self, page, customer):
        older, newer = (
            factories.Order(account=customer.account, created_at=timezone.now() - timedelta(days=days))
            for days in (20, 10)
        )
        factories.Refill(order=factories.Order(account=customer.account))
        factories.Order(account=customer.account, status="in_progress")
        factories.Order()

        shown = [program for _, program in programs(page("refill"))]

        assert all(newer.pk in program for program in shown[:4])
        assert all(older.pk in program for program in shown[4:])
        assert json.loads(responses(page("refill"))[1])[0]["order"] == older.pk

    def test_a_single_order_is_in_every_example(self, page, customer):
        order = factories.Order(account=customer.account)

        assert all(order.pk in program for _, program in programs(page("refill")))

    def test_a_visitor_without_orders_sees_the_general_example(self, page, customer):
        factories.Order(account=customer.account, status="in_progress")

        assert all("ord_01HG9X7KJP4N" in program for _, program in programs(page("refill")))

    def test_the_visitor_sees_the_real_status_of_their_latest_order(self, page, customer):
        factories.Order(account=customer.account, created_at=timezone.now() - timedelta(days=20))
        order = factories.Order(account=customer.account, status="partial", charge="1.25", start_count=None, remains=7)
        factories.Order()

        shown = page("status")

        state = {"status": "partial", "charge": "1.25", "start_count": None, "remains": "7", "currency": "USD"}
        one, several = map(json.loads, responses(shown))
        assert one == state
        assert several == {order.pk: state, UNKNOWN_ORDER: {"error": "Order not found"}}
        assert all(order.pk in program for _, program in programs(shown))

    def test_the_visitor_sees_the_real_status_of_their_latest_refill(self, page, customer):
        refill = factories.Refill(order__account=customer.account, status="approved")
        factories.Refill()

        shown = page("refill_status")

        one, several, latest = map(json.loads, responses(shown))
        assert one == {"status": "approved"}
        assert several[0] == {"refill": refill.pk, "status": "approved"}
        assert latest == {"refill": refill.pk, "status": "approved"}
        assert all(refill.pk in program or refill.order_id in program for _, program in programs(shown))

    def test_an_order_that_vanished_meanwhile_is_not_found(self, page, monkeypatch):
        monkeypatch.setattr(developers, "own_ids", lambda account_id: {ORDER: UNKNOWN_ORDER})

        assert json.loads(responses(page("status"))[0]) == {"error": "Order not found"}

    def test_a_page_takes_few_statements(self, page, customer, django_assert_max_num_queries):
        for order in factories.Order.create_batch(30, account=customer.account):
            factories.Refill(order=order, status="completed")
        assert Refill.objects.count() == 30

        # The session, the account, the orders, their refills, an order, a refill.
        with django_assert_max_num_queries(6):
            page("refill")

    @pytest.mark.parametrize("name", ["refill", "rate-limits", "reference"])
    def test_the_pages_must_not_be_cached(self, page, client, name):
        response = page(name)
        assert "no-store" in response["Cache-Control"]
        assert "Cookie" in response["Vary"]

        client.logout()
        general = page(name)
        assert "Cache-Control" not in general
        assert "Cookie" in general["Vary"]

    def test_there_is_a_form_to_try_the_request(self, page, client):
        assert "data-try-it" in page("refill").content.decode()
        client.logout()
        assert "data-try-it" not in page("refill").content.decode()


def test_the_page_shows_the_configured_limits(client, db, settings):
    settings.RATE_LIMIT_IP = 321
    settings.RATE_LIMIT_KEYS = {"standard": 12, "reseller": 21, "agency": 400}
    settings.RATE_LIMIT_TIERS = {"standard": 11, "reseller": 22, "agency": 4000}

    page = text(client.get("/developers/rate-limits/"))

    assert "ip 321 " in page
    assert "key : agency 400 " in page
    assert "tier : reseller 22 " in page
    assert "standard: tier reseller: key agency: ip " in page
    assert "standard, 11 a minute: 1 key and 1 address reseller, 22 a minute: 2 keys and 1 address" in page
    assert "agency, 4000 a minute: 10 keys and 13 addresses" in page


def test_the_rate_limit_headers_are_described_as_in_openapi(client, db):
    page = text(client.get("/developers/rate-limits/"))
    responses = client.get("/api/openapi.json").json()["paths"]["/api/v2"]["post"]["responses"]

    headers = responses["429"]["headers"]
    del headers["X-Request-ID"], headers["X-Error-Code"]
    assert len(headers) == 6
    for name, header in headers.items():
        assert f"{name} {header['description']}" in page


def test_the_first_call_is_printed_in_four_languages(client, db):
    shown = programs(client.get("/developers/"))

    assert [language for language, _ in shown] == ["curl", "JavaScript", "Python", "PHP"]
    assert all("YOUR_API_KEY" in program and "balance" in program for _, program in shown)


def test_the_loop_is_printed_as_the_tests_run_it(client, db):
    assert programs(client.get("/developers/trying-again/")) == list(printed(LOOPS).items())


def test_the_changes_have_their_dates(client, db):
    headings = re.findall(r"<h2>(.*?)</h2>", client.get("/developers/changelog/").content.decode())

    assert headings == sorted(map(str, map(date.fromisoformat, headings)), reverse=True)


def test_the_errors_of_every_request_are_listed(client, db):
    page = text(client.get("/developers/errors/"))

    for words in ("Invalid API key", "Unknown action", "Service temporarily unavailable", "Request body too large"):
        assert f'{{"error":"{words}"}}' in page


def row_of(error, action=None):
    text = action.text_of(error) if action else error.example_text()
    return f'{status_of(error)} {{"error":"{text}"}} {error.cause}'


def test_the_errors_of_keys_and_limits_are_on_their_pages(client, db):
    keys, limits = (text(client.get(f"/developers/{page}/")) for page in ("authentication", "rate-limits"))

    assert row_of(InvalidApiKey) in keys
    assert row_of(AccountSuspended) in keys
    assert row_of(RateLimitExceeded) in limits


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)
def test_an_action_has_the_shared_errors_too(client, db, action):
    page = text(client.get(f"/developers/{action.name}/"))

    assert RateLimitExceeded in action.shared_errors
    assert all(row_of(error, action) in page for error in action.shared_errors)


def test_the_size_of_a_body_is_told_in_kib(client, db):
    pages = [text(client.get(f"/developers/{page}")) for page in PAGES]

    assert any("64 KiB" in page for page in pages)
    assert not any("65536" in page or "65,536" in page for page in pages)
