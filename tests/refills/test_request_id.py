"""The parameter request_id of action=refill: nothing is requested twice (docs/contract.md, "request_id")."""

import threading
from datetime import timedelta

import pytest
import requests
from django.utils import timezone

from apikeys.idempotency import KEPT_FOR
from apikeys.keys import create_api_key
from apikeys.models import ApiKey, KeptAnswer
from apikeys.tasks import forget_old_answers
from notpanel.kit.refusals import ServiceUnavailable
from refills.models import Refill
from tests import factories
from tests.conftest import Customer, new_customer, post
from tests.races import race
from tests.server import Server, backends, slow_refills, until


def words(response):
    return response.status_code, response.content, response.get("X-Error-Code"), response["Content-Type"]


def is_replay(response):
    return response.get("X-Idempotent-Replay") == "true"


@pytest.fixture
def order(customer):
    return factories.Order(account=customer.account)


def test_the_same_request_gets_the_first_answer_again(customer, order):
    first = customer.post("refill", order=order.pk, request_id="a")
    again = customer.post("refill", order=order.pk, request_id="a")

    assert (is_replay(first), is_replay(again)) == (False, True)
    assert words(first) == words(again)
    assert Refill.objects.count() == 1


def test_a_batch_with_refused_and_repeated_orders_gets_the_first_answer_again(customer, order):
    sent = f"{order.pk.lower()},x,{order.pk},{order.number}"
    first = customer.post("refill", orders=sent, request_id="a", codes="1")
    Refill.objects.update(status="rejected", settled_at=timezone.now(), settled_by=customer.account)

    again = customer.post("refill", orders=sent, request_id="a", codes="1")

    assert is_replay(again)
    assert words(first) == words(again)
    assert [row.get("code") for row in again.json()] == [None, "order_not_found", *["refill_already_pending"] * 2]


def test_a_refusal_is_kept_too(customer, order):
    order.status = "pending"
    order.completed_at = None
    order.save()
    first = customer.post("refill", order=order.pk, request_id="a")
    order.status, order.completed_at = "completed", timezone.now()
    order.save()

    again = customer.post("refill", order=order.pk, request_id="a")

    assert is_replay(again)
    assert words(first) == words(again)
    assert (again.status_code, again["X-Error-Code"]) == (400, "order_not_delivered")
    assert customer.post("refill", order=order.pk, request_id="b").status_code == 200


@pytest.mark.parametrize("other", [{"order": "1"}, {"orders": "{order}"}, {"orders": "{order},{order}"}])
def test_a_request_id_with_other_orders_is_refused(customer, order, other):
    customer.post("refill", order=order.pk, request_id="a")

    response = customer.post(
        "refill", **{name: ids.format(order=order.pk) for name, ids in other.items()}, request_id="a"
    )

    assert (response.status_code, response.json()) == (400, {"error": "request_id was used with another request"})
    assert response["X-Error-Code"] == "request_id_used"
    assert Refill.objects.count() == 1


def test_a_request_id_belongs_to_the_account_not_to_the_key(customer, customers, order):
    other_key = Customer(customer.account, *create_api_key(customer.account))
    customer.post("refill", order=order.pk, request_id="a")

    assert is_replay(other_key.post("refill", order=order.pk, request_id="a"))
    assert customers().post("refill", order=order.pk, request_id="a").json() == {"error": "Order not found"}


@pytest.mark.parametrize("request_id", ["x" * 128, "!~", "0"])
def test_any_visible_ascii_is_accepted(customer, order, request_id):
    assert customer.post("refill", order=order.pk, request_id=request_id).status_code == 200
    assert KeptAnswer.objects.get().request_id == request_id


@pytest.mark.parametrize("request_id", ["x" * 129, "a b", "é", "a\nb"])
def test_anything_else_is_refused(customer, order, request_id):
    response = customer.post("refill", order=order.pk, request_id=request_id)

    assert response.json() == {"error": "Invalid request_id (1 to 128 visible ASCII characters)"}
    assert not Refill.objects.exists()


def test_an_empty_request_id_counts_as_none(customer, order):
    customer.post("refill", order=order.pk, request_id=" ")

    assert Refill.objects.exists()
    assert not KeptAnswer.objects.exists()


def test_what_was_not_judged_is_not_kept(customer, order, monkeypatch):
    post(key="np_", action="refill", order=order.pk, request_id="a")
    customer.post("refill", request_id="a")
    customer.post("refill", orders="1," * 101, request_id="a")
    ApiKey.objects.update(limit_per_minute=1)
    assert customer.post("services").status_code == 200
    assert customer.post("refill", order=order.pk, request_id="a").status_code == 429
    ApiKey.objects.update(limit_per_minute=None)
    with monkeypatch.context() as broken:
        broken.setattr("refills.api.request_refills", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            customer.post("refill", order=order.pk, request_id="a")

    assert not KeptAnswer.objects.exists()
    assert not is_replay(customer.post("refill", order=order.pk, request_id="a"))


def test_other_actions_ignore_it(customer, order):
    assert customer.post("status", order=order.pk, request_id="a b").status_code == 200
    assert not KeptAnswer.objects.exists()


def test_a_header_is_not_read(customer, order, client):
    body = {"key": customer.raw_key, "action": "refill", "order": order.pk}

    answers = [client.post("/api/v2", body, headers={"Idempotency-Key": "a"}) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 400]


def test_the_worker_deletes_answers_that_are_older_than_a_day(customer, order):
    for name, age in {"old": KEPT_FOR + timedelta(seconds=1), "young": KEPT_FOR - timedelta(minutes=1)}.items():
        customer.post("refill", order=order.pk, request_id=name)
        KeptAnswer.objects.filter(request_id=name).update(created_at=timezone.now() - age)

    forget_old_answers(0)

    assert KeptAnswer.objects.get().request_id == "young"


@pytest.mark.django_db(transaction=True)
@pytest.mark.xdist_group("races")
class TestAtOnce:
    def test_fifty_requests_with_one_request_id_make_one_refill_and_fifty_equal_answers(self):
        customer = new_customer()
        orders = ",".join(order.pk for order in factories.Order.create_batch(3, account=customer.account))

        answers = race([lambda: customer.post("refill", orders=orders, request_id="a")] * 50)

        assert {answer.content for answer in answers} == {answers[0].content}
        assert {answer.status_code for answer in answers} == {200}
        assert sum(map(is_replay, answers)) == 49
        assert Refill.objects.count() == 3

    def test_if_the_first_fails_the_second_is_judged(self, monkeypatch):
        customer = new_customer()
        order = factories.Order(account=customer.account)
        began, failing = threading.Event(), threading.Event()

        def fail(*args, **kwargs):
            began.set()
            failing.wait(10)
            monkeypatch.undo()
            raise ServiceUnavailable

        monkeypatch.setattr("refills.api.request_refills", fail)

        def first():
            return customer.post("refill", order=order.pk, request_id="a")

        def second():
            began.wait(10)
            failing.set()
            return customer.post("refill", order=order.pk, request_id="a")

        answers = race([first, second])

        assert [answer.status_code for answer in answers] == [503, 200]
        assert Refill.objects.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.xdist_group("server")
def test_a_server_that_is_killed_between_commit_and_answer_gives_the_first_answer_later(tmp_path):
    customer = new_customer()
    order = factories.Order(account=customer.account)
    parameters = {"key": customer.raw_key, "action": "refill", "order": order.pk, "request_id": "a"}
    with slow_refills(commit=True) as slow:
        server = Server(tmp_path)
        lost = []

        def send():
            try:
                lost.append(requests.post(f"{server.url}/api/v2", parameters, timeout=30))
            except requests.RequestException as error:
                lost.append(error)

        sending = threading.Thread(target=send)
        sending.start()
        until(lambda: backends(slow) == 1)
        server.kill()
        sending.join(10)
        assert isinstance(lost[0], requests.ConnectionError)
        until(Refill.objects.exists)
    server = Server(tmp_path)
    try:
        answer = requests.post(f"{server.url}/api/v2", parameters, timeout=30)
    finally:
        server.stop()

    assert answer.headers["X-Idempotent-Replay"] == "true"
    assert (answer.status_code, answer.json()) == (200, {"refill": Refill.objects.get().pk})
