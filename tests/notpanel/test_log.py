"""What the log says, whatever clients send, and what an error collector gets to see."""

import json
import logging
from urllib.parse import urlencode

import pytest
from django.conf import settings as django_settings
from django.test import Client
from django.views.debug import ExceptionReporter

from notpanel.request_log import LineFormatter
from tests import factories
from tests.conftest import FORM, end, new_customer

TOKEN = "dil11w-" + "0123456789abcdef" * 2


@pytest.fixture
def lines():
    """Return what the handler of the settings writes, line by line."""

    class Lines(logging.Handler):
        def emit(self, record):
            record.request_id = "-"
            written.append(self.format(record))

    written = []
    handler = Lines()
    handler.setFormatter(LineFormatter(django_settings.LOGGING["formatters"]["line"]["format"]))
    logging.getLogger().addHandler(handler)
    yield written
    logging.getLogger().removeHandler(handler)


@pytest.mark.parametrize("sent", ["\r\nforged", "\nforged", "\x1b[2J", "\x85forged", "\u2028forged", "\x00"])
def test_no_text_ends_a_line(lines, sent):
    logging.getLogger("x").error("before %s after", sent)

    [line] = lines
    assert line.splitlines() == [line]
    assert line.isprintable()


def test_a_traceback_is_indented(lines):
    try:
        raise ValueError("sent\n2026-01-01 00:00:00,000 INFO forged\r2026\x1b[2J")
    except ValueError:
        logging.getLogger("x").exception("failed")

    first, *others = lines[0].split("\n")
    assert first.endswith("ERROR x [-] failed")
    assert "  2026-01-01 00:00:00,000 INFO forged\\r2026\\x1b[2J" in others
    assert all(line.startswith("  ") for line in others)


def test_a_token_is_nowhere(lines):
    try:
        raise ValueError(TOKEN)
    except ValueError:
        logging.getLogger("x").exception("Internal Server Error: /dashboard/password/reset/MQ/%s/", TOKEN)

    assert TOKEN not in lines[0]


def test_a_key_is_nowhere_but_its_visible_beginning_may_be(lines):
    key = "np_" + "Ab_-9" * 8
    logging.getLogger("waitress").info("Client disconnected while serving /%s", key)
    logging.getLogger("x").error("key=%s", key[:11])

    assert "serving /np_…" in lines[0]
    assert f"key={key[:11]}" in lines[1]


@pytest.mark.parametrize(
    "query", ["x%0d%0aforged=1", "category=%0d%0aforged", "q=%0aforged", "o=%0aforged", "%0aforged__x=1"]
)
def test_the_query_of_the_admin_forges_no_line(client, staff, lines, query):
    client.force_login(staff)

    client.get(f"/admin/refills/refill/?{query}")
    end(client.get(f"/admin/refills/refill/export/?{query}"))
    client.get(f"/admin/%0aforged/?{query}")

    assert lines
    assert not any(line.startswith("forged") for text in lines for line in text.splitlines())


@pytest.mark.parametrize(("encode", "content_type"), [(urlencode, FORM), (json.dumps, "application/json")])
@pytest.mark.parametrize("failing", ["apikeys.keys.fetch", "refills.api.request_refills"])
def test_an_error_collector_gets_no_key(db, monkeypatch, caplog, encode, content_type, failing):
    """It reads the frames of what is logged, as Django's own report does."""
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
