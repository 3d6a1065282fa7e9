"""Pin the work of each action: its SQL statements and its round trips to Redis.

docs/performance.md shows the same figures. A commit that raises a figure must say why.
"""

from datetime import UTC, datetime

import pytest

from apikeys.models import ApiKey
from tests import factories
from tests.conftest import new_customer, post
from tests.redis_server import count_in
from tests.work import Work, counted, round_trips_to_postgresql

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _redis_at_noon(settings, redis_url, time_machine):
    count_in(settings, redis_url)
    time_machine.move_to(datetime(2026, 5, 1, 12, tzinfo=UTC), tick=False)  # no window ends while a test runs


@pytest.fixture
def customer():
    customer = new_customer()
    customer.post("nonsense")  # records the use of the key, connects, and loads the script of the counters
    return customer


@pytest.fixture
def orders(customer):
    service = factories.Service()
    return factories.Order.create_batch(101, account=customer.account, service=service)


def work(call):
    """Return the result of ``call``, and the work that it took."""
    with counted() as found:
        response = call()
    return response, found


@pytest.mark.parametrize("count", [1, 2, 100])
@pytest.mark.parametrize("earlier", [0, 1])
def test_refill(customer, orders, count, earlier):
    for order in orders[:count] * earlier:
        factories.Refill(order=order, status="rejected", staff=customer.account)

    response, found = work(lambda: customer.post("refill", orders=",".join(order.pk for order in orders[:count])))

    assert [list(row) for row in response.json()] == [["order", "refill"]] * count
    # Statements: the key; BEGIN, the orders with their services, their refills, the insert, COMMIT.
    # Round trips: the address, the key, the tier.
    assert found == Work(statements=6, round_trips=3)


def test_refill_of_one_order(customer, orders):
    response, found = work(lambda: customer.post("refill", order=orders[0].number))

    assert response.status_code == 200
    assert found == Work(statements=6, round_trips=3)


@pytest.mark.parametrize("count", [1, 100])
def test_each_statement_of_a_refill_is_one_round_trip(customer, orders, count):
    customer.post("refill", order=orders.pop().pk)  # prepares the statements

    ids = ",".join(order.pk for order in orders[:count])

    assert round_trips_to_postgresql(lambda: customer.post("refill", orders=ids)) == 6


@pytest.mark.parametrize("count", [1, 100])
def test_refill_with_a_request_id(customer, orders, count):
    ids = ",".join(order.pk for order in orders[:count])

    _, first = work(lambda: customer.post("refill", orders=ids, request_id="1"))
    repeated, again = work(lambda: customer.post("refill", orders=ids, request_id="1"))

    # In addition to those of a refill: the request id, a savepoint and its release, the answer.
    assert first == Work(statements=10, round_trips=3)
    # The key; BEGIN, the request id, the answer, COMMIT.
    assert repeated["X-Idempotent-Replay"] == "true"
    assert again == Work(statements=5, round_trips=3)


def test_refill_that_a_rule_refuses(customer, orders):
    customer.refill(orders[0])

    response, found = work(lambda: customer.post("refill", order=orders[0].pk))

    assert response.status_code == 400
    assert found == Work(statements=5, round_trips=3)


@pytest.mark.parametrize("count", [1, 100])
def test_refill_status(customer, orders, count):
    refills = ",".join(factories.Refill(order=order).pk for order in orders[:count])

    response, found = work(lambda: customer.post("refill_status", refills=refills))

    assert [row["status"] for row in response.json()] == ["pending"] * count
    assert found == Work(statements=2, round_trips=3)


@pytest.mark.parametrize("count", [1, 100])
def test_refill_status_of_orders(customer, orders, count):
    for order in orders[:count]:
        factories.Refill(order=order)

    response, found = work(
        lambda: customer.post("refill_status", orders=",".join(order.pk for order in orders[:count]))
    )

    assert [row["status"] for row in response.json()] == ["pending"] * count
    assert found == Work(statements=2, round_trips=3)


@pytest.mark.parametrize("count", [1, 100])
def test_refill_check(customer, orders, count):
    for order in orders[:count:2]:
        factories.Refill(order=order)

    response, found = work(lambda: customer.post("refill_check", orders=",".join(order.pk for order in orders[:count])))

    assert len(response.json()) == count
    assert found == Work(statements=2, round_trips=3)


@pytest.mark.parametrize("count", [0, 101])
def test_refill_list(customer, orders, count):
    for order in orders[:count]:
        factories.Refill(order=order)

    response, found = work(lambda: customer.post("refill_list"))

    assert response.status_code == 200
    assert found == Work(statements=2, round_trips=3)


def test_balance(customer):
    response, found = work(lambda: customer.post("balance"))

    assert response.status_code == 200
    # Round trips: the address; the tier, which is read for its header and not counted.
    assert found == Work(statements=2, round_trips=2)


@pytest.mark.parametrize("count", [1, 100])
def test_status(customer, orders, count):
    response, found = work(lambda: customer.post("status", orders=",".join(order.pk for order in orders[:count])))

    assert len(response.json()) == count
    assert found == Work(statements=2, round_trips=3)


def test_services(customer):
    factories.Service.create_batch(50)

    first, work_of_first = work(lambda: customer.post("services"))
    second, work_of_second = work(lambda: customer.post("services"))

    assert len(first.json()) == len(second.json()) == 50
    assert work_of_first == Work(statements=3, round_trips=3)
    assert work_of_second == Work(statements=2, round_trips=3)


def test_an_unknown_action(customer):
    response, found = work(lambda: customer.post("nonsense"))

    assert response.status_code == 400
    assert found == Work(statements=1, round_trips=3)


@pytest.mark.parametrize(("key", "statements"), [("np_" + "x" * 43, 1), ("np_too_short", 0), ("", 0)])
def test_an_unknown_key(customer, key, statements):
    response, found = work(lambda: post(key=key, action="services"))

    assert response.status_code == 401
    assert found == Work(statements=statements, round_trips=1)


def test_the_first_use_of_a_key_in_a_minute_is_one_statement_more(customer):
    ApiKey.objects.update(last_used_at=None)

    assert work(lambda: customer.post("nonsense"))[1] == Work(statements=2, round_trips=3)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("RATE_LIMIT_IP", Work(statements=0, round_trips=1)),
        ("RATE_LIMIT_KEYS", Work(statements=1, round_trips=3)),  # the tier is read for its header
        ("RATE_LIMIT_TIERS", Work(statements=1, round_trips=3)),
    ],
)
def test_a_spent_limit(customer, settings, setting, expected):
    setattr(settings, setting, 1 if setting == "RATE_LIMIT_IP" else {customer.account.tier: 1})
    customer.post("services")

    response, found = work(lambda: customer.post("services"))

    assert response.status_code == 429
    assert found == expected
