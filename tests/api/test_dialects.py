"""A key that is answered as most panels answer (docs/contract.md, "Answers for other programs")."""

import json

import pytest
from django.test import Client

from apikeys.models import ApiKey
from notpanel.api.dialects import DIALECTS, PerfectPanel
from orders.models import OrderStatus
from refills.models import Refill
from refills.statuses import RefillStatus
from tests import factories
from tests.conftest import Customer, new_customer, post, post_json


@pytest.fixture
def other(db) -> Customer:
    customer = new_customer()
    ApiKey.objects.update(answers="perfectpanel")
    return customer


@pytest.fixture
def orders(other):
    return factories.Order.create_batch(3, account=other.account)


def errors(response):
    return response.status_code, response.json(), response["X-Error-Code"]


def test_every_dialect_can_be_chosen_for_a_key():
    assert set(DIALECTS) == set(ApiKey.Answers.values)


def test_every_status_has_a_word():
    assert set(PerfectPanel.WORDS) == {*OrderStatus.values, *RefillStatus.values}
    assert set(PerfectPanel.WORDS.values()) == {
        "Pending", "In progress", "Completed", "Partial", "Canceled", "Rejected"
    }  # fmt: skip


def test_a_refill_is_a_number(other, orders):
    response = other.post("refill", order=orders[0].number)

    number = Refill.objects.get().number
    assert (response.status_code, response.json()) == (200, {"refill": str(number)})
    assert other.post("refill_status", refill=number).json() == {"status": "Pending"}
    assert other.post("refill_status", order=orders[0].number).json() == {"refill": str(number), "status": "Pending"}


def test_rows_have_integers_and_nested_errors(other, orders):
    sent = f"{orders[0].number},{orders[1].pk},999999,007"

    rows = other.post("refill", orders=sent).json()

    first, second = (Refill.objects.get(order=order).number for order in orders[:2])
    refused = {"error": "Incorrect order ID"}
    assert rows == [
        {"order": orders[0].number, "refill": first},
        {"order": orders[1].pk, "refill": second},
        {"order": 999999, "refill": refused},
        {"order": "007", "refill": refused},
    ]
    assert other.post("refill_status", refills=f"{first},999999").json() == [
        {"refill": first, "status": "Pending"},
        {"refill": 999999, "status": {"error": "Refill not found"}},
    ]
    assert other.post("refill_status", orders=f"{orders[0].number},{orders[2].number}").json() == [
        {"order": orders[0].number, "refill": first, "status": "Pending"},
        {"order": orders[2].number, "status": {"error": "No refill was requested for this order"}},
    ]


def test_a_nested_error_has_its_code_if_asked(other):
    assert other.post("refill", orders="1", codes="1").json() == [
        {"order": 1, "refill": {"error": "Incorrect order ID", "code": "order_not_found"}}
    ]


@pytest.mark.parametrize(("status", "word"), [(each, PerfectPanel.WORDS[each]) for each in OrderStatus.values])
def test_the_status_of_an_order_is_a_word(other, status, word):
    order = factories.Order(account=other.account, status=status)

    assert other.post("status", order=order.number).json()["status"] == word
    assert other.post("status", orders=f"{order.number},1000000").json() == {
        str(order.number): {
            "status": word, "charge": "0.90", "start_count": "1234", "remains": "0", "currency": "USD"
        },
        "1000000": {"error": "Incorrect order ID"},
    }  # fmt: skip


@pytest.mark.parametrize(("status", "word"), [(each, PerfectPanel.WORDS[each]) for each in RefillStatus.values])
def test_the_status_of_a_refill_is_a_word(other, status, word):
    refill = factories.Refill(order__account=other.account, status=status)

    assert other.post("refill_status", refill=refill.pk).json() == {"status": word}


def test_errors_have_status_200_and_their_code(other):
    assert errors(other.post("refill", order="1")) == (200, {"error": "Incorrect order ID"}, "order_not_found")
    assert errors(other.post("nonsense")) == (200, {"error": "Unknown action"}, "unknown_action")
    assert errors(other.post("refill"))[0] == 200


def test_errors_of_keys_accounts_and_limits_keep_their_status(other, settings, monkeypatch):
    assert post(key="np_", action="services").status_code == 401
    ApiKey.objects.update(read_only=True)
    assert errors(other.post("refill", order="1")) == (403, {"error": "API key is read-only"}, "key_is_read_only")
    monkeypatch.setattr("orders.api.find_orders", lambda *args: 1 / 0)
    client = Client(raise_request_exception=False)
    broken = client.post("/api/v2", {"key": other.raw_key, "action": "status", "order": "1"})
    assert (broken.status_code, broken.json()) == (500, {"error": "Internal server error"})
    settings.RATE_LIMIT_KEYS = {"standard": 1}
    assert [other.post("services").status_code for _ in range(2)] == [200, 429]
    other.account.is_active = False
    other.account.save()
    assert other.post("services").status_code == 403


def test_what_is_refused_before_the_key_is_known_keeps_its_status(other):
    assert Client().get("/api/v2").status_code == 405
    assert Client().post("/api/v2", '{"key":', content_type="application/json").status_code == 400


def test_the_other_actions_answer_with_numbers_and_words(other, orders, staff):
    refill = Refill.objects.get(pk=factories.Refill(order=orders[0], status="approved", staff=staff).pk)

    check = other.post("refill_check", order=orders[0].pk).json()
    assert (check["refillable"], check["refill"]) == (False, str(refill.number))
    rows = other.post("refill_check", orders=f"{orders[0].number},999999").json()
    assert rows[0]["refill"] == refill.number
    assert rows[1] == {"order": 999999, "error": "Incorrect order ID"}
    assert list(other.post("balance").json()) == ["balance", "currency"]


def test_a_request_id_gives_the_first_answer_in_its_words(other, orders):
    answers = [other.post("refill", orders=f"{orders[0].number},1000000", request_id="a") for _ in range(2)]
    refusals = [other.post("refill", order="1000000", request_id="b") for _ in range(2)]

    assert answers[0].content == answers[1].content
    assert refusals[0].content == refusals[1].content
    assert [refusal.status_code for refusal in refusals] == [200, 200]
    assert refusals[1]["X-Error-Code"] == "order_not_found"


@pytest.mark.parametrize("answers", ApiKey.Answers.values)
def test_an_integer_of_json_is_answered_as_an_integer(answers):
    """For programs that look for their row with ``===``."""
    rows = DIALECTS[answers]

    assert rows.sent("123") == ("123" if answers == "notpanel" else 123)


def test_an_integer_is_answered_as_an_integer_in_each_action(customer):
    order = factories.Order(account=customer.account)
    sent = {"key": customer.raw_key, "orders": [order.number, str(order.number), 999999, -5]}

    for action in ("refill", "refill_check", "refill_status"):
        answer = post_json(json.dumps(sent | {"action": action}).encode()).json()
        assert [row["order"] for row in answer] == [order.number, str(order.number), 999999, -5]


@pytest.mark.parametrize("count", [1, 100])
def test_the_dialect_takes_no_more_statements(other, count, django_assert_num_queries):
    service = factories.Service()
    orders = factories.Order.create_batch(count, account=other.account, service=service)
    other.post("services")

    with django_assert_num_queries(6):  # the key; a savepoint of the test, the orders, their refills, the insert
        rows = other.post("refill", orders=",".join(str(order.number) for order in orders)).json()

    assert all(isinstance(row["refill"], int) for row in rows)
