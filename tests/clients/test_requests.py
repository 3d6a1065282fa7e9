"""What programs send with the library requests, and what they send by mistake, to the running server."""

import gzip
import http.client
import json
from urllib.parse import urlsplit

import pytest
import requests

from tests import factories
from tests.conftest import new_customer
from tests.server import MARKS

pytestmark = MARKS


@pytest.fixture
def customer(transactional_db):
    return new_customer()


@pytest.fixture
def ids(customer):
    return [order.pk for order in factories.Order.create_batch(3, account=customer.account)]


@pytest.mark.parametrize("name", ["orders", "orders[]"])
def test_a_list_repeats_its_name(server, customer, ids, name):
    answer = requests.post(
        f"{server}/api/v2", data={"key": customer.raw_key, "action": "refill", name: ids}, timeout=30
    )

    assert [row["order"] for row in answer.json()] == ids


def test_json_without_a_content_type(server, customer, ids):
    body = json.dumps({"key": customer.raw_key, "action": "status", "orders": ids})

    assert list(requests.post(f"{server}/api/v2", data=body, timeout=30).json()) == ids


def test_a_compressed_body(server, customer):
    body = gzip.compress(json.dumps({"key": customer.raw_key, "action": "services"}).encode())

    answer = requests.post(f"{server}/api/v2", data=body, headers={"Content-Encoding": "gzip"}, timeout=30)

    assert (answer.status_code, answer.json()) == (415, {"error": "Unsupported content encoding"})


def post(server, path, body, **headers):
    """POST without a library that tidies up what is sent."""
    connection = http.client.HTTPConnection(urlsplit(server).netloc, timeout=30)
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer, json.loads(content)


@pytest.mark.parametrize("path", ["//api/v2", "/API/V2", "//api//v2/", "/%61pi/v2", "/api/../api/v2"])
def test_every_spelling_of_the_address(server, customer, path):
    form = f"key={customer.raw_key}&action=services"

    answer, content = post(server, path, form, **{"Content-Type": "application/x-www-form-urlencoded"})

    assert (answer.status, content) == (200, [])


def test_a_charset_that_breaks_the_framework(server, customer):
    form = f"key={customer.raw_key}&action=services"

    answer, content = post(
        server, "/api/v2?a=b", form, **{"Content-Type": "application/x-www-form-urlencoded; charset=zip"}
    )

    assert (answer.status, content) == (200, [])


def test_a_host_that_is_not_ours(server):
    answer, content = post(server, "/api/v2", "key=x", Host="evil.example")

    assert (answer.status, content) == (421, {"error": "Unknown host"})


def test_after_a_413_the_connection_closes(server):
    answer, content = post(server, "/api/v2", "x" * 70_000)

    assert (answer.status, content) == (413, {"error": "Request body too large"})
    assert answer.headers["X-Error-Code"] == "body_too_large"
    assert answer.headers["Connection"] == "close"
