"""The Postman collection and the .http file are sent, request by request, as their readers send them."""

import json
import re
from datetime import timedelta
from typing import NamedTuple

import pytest
import requests
from django.test import Client

from notpanel.api.examples import VARIABLES
from notpanel.urls import ACTIONS
from refills.statuses import RefillStatus
from tests import factories
from tests.conftest import new_customer
from tests.races import await_others
from tests.server import MARKS

pytestmark = MARKS

EXAMPLES = [(action, example) for action in ACTIONS for example in action.examples]
VARIABLE = re.compile(r"{{(\w+)}}")


class Sent(NamedTuple):
    """A request of a file, with its variables replaced, and what the file says about it."""

    title: str
    method: str
    url: str
    headers: dict
    body: bytes | dict


def fill(text, variables):
    return VARIABLE.sub(lambda found: variables[found[1]], text)


def read_postman(text, own):
    """Return the requests of a collection, as Postman sends them: a body in mode urlencoded is a form."""
    collection = json.loads(text)
    variables = {each["key"]: each["value"] for each in collection["variable"]} | own
    for folder in collection["item"]:
        for item in folder["item"]:
            request = item["request"]
            assert request["body"]["mode"] == "urlencoded"
            form = {each["key"]: fill(each["value"], variables) for each in request["body"]["urlencoded"]}
            title = f"{folder['name']}: {item['name']}"
            yield Sent(title, request["method"], fill(request["url"], variables), {}, form)


def read_http_file(text, own):
    """Return the requests of an .http file: a line, headers, a blank line, a body. ### separates requests."""
    head, *blocks = re.split(r"^### ?", text, flags=re.MULTILINE)
    variables = dict(re.findall(r"^@(\w+) = (.+)$", head, flags=re.MULTILINE)) | own
    for block in blocks:
        title, line, rest = fill(block, variables).split("\n", 2)
        headers, _, body = rest.partition("\n\n")
        method, url = line.split(" ")
        yield Sent(title, method, url, dict(each.split(": ", 1) for each in headers.split("\n")), body.encode())


def same_shape(shown, got):
    """Return whether an answer has the members and the types of the one shown. A null may be anything."""
    if shown is None or got is None:
        return True
    if isinstance(shown, dict) and isinstance(got, dict):
        return shown.keys() == got.keys() and all(same_shape(shown[name], got[name]) for name in shown)
    if isinstance(shown, list) and isinstance(got, list):
        return bool(shown) == bool(got) and all(any(same_shape(one, other) for one in shown) for other in got)
    return type(shown) is type(got)


@pytest.fixture
def own(transactional_db):
    """Return the variables of a customer for whom every example gets the answer that it shows."""
    customer = new_customer(balance="47.32", currency="USD")
    service = factories.Service(refill_days=30)
    orders = factories.Order.create_batch(4, account=customer.account, service=service)
    pending = factories.Refill(order=orders[0])
    factories.Refill(
        order=orders[1],
        status=RefillStatus.COMPLETED,
        delivered=650,
        created_at=orders[1].completed_at + timedelta(days=1),
    )
    return {
        "api_key": customer.raw_key,
        "order": orders[0].pk,
        "refill": pending.pk,
        "refillable_order": orders[2].pk,
        "another_refillable_order": orders[3].pk,
        "webhook": factories.WebhookEndpoint(account=customer.account).pk,
    }


@pytest.mark.parametrize(
    ("path", "read"),
    [("/developers/postman.json", read_postman), ("/developers/notpanel.http", read_http_file)],
    ids=["postman", "http"],
)
def test_every_example_is_sent_and_answered_as_shown(server, own, path, read):
    sent = list(read(requests.get(server + path, timeout=30).text, own))

    assert [each.title for each in sent] == [f"{action.title}: {example.title}" for action, example in EXAMPLES]
    await_others()  # transactions of other tests: a page of the list ends before their changes
    # A request for a refill leaves its order with one in flight, so what asks whether one may be requested comes first.
    for each, (_, example) in sorted(zip(sent, EXAMPLES, strict=True), key=lambda pair: pair[1][0].name == "refill"):
        assert (each.method, each.url) == ("POST", f"{server}/api/v2")
        answer = requests.post(each.url, each.body, headers=each.headers, timeout=30)
        assert answer.status_code == 200, (each, answer.text)
        shown = json.dumps(example.response)
        for name, value in VARIABLES.items():
            shown = shown.replace(value, own[name])
        assert same_shape(json.loads(shown), answer.json()), (each, answer.text)


def test_the_collection_shows_the_answers(db):
    collection = Client().get("/developers/postman.json").json()

    assert collection["info"]["schema"].endswith("/v2.1.0/collection.json")
    items = [item for folder in collection["item"] for item in folder["item"]]
    shown = [json.loads(answer["body"]) for item in items for answer in item["response"]]
    assert shown == [example.response for _, example in EXAMPLES]


@pytest.mark.parametrize("path", ["/developers/postman.json", "/developers/notpanel.http"])
def test_the_files_are_for_everybody_and_hold_no_key(db, path):
    response = Client().get(path)

    assert response.status_code == 200
    assert "YOUR_API_KEY" in response.text
    assert Client().post(path).status_code == 405
    assert f'href="{path}"' in Client().get("/developers/reference/").text


def test_postman_in_a_browser_may_read_the_collection(db):
    assert Client().get("/developers/postman.json")["Access-Control-Allow-Origin"] == "*"
