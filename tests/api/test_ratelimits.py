"""Three layers, fixed windows of a minute (docs/contract.md, "Rate limits")."""

import ipaddress
import itertools
import socket
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import redis
from django.core.cache import caches
from django.test import Client, RequestFactory

from apikeys.keys import create_api_key
from apikeys.models import ApiKey
from notpanel.api.ratelimits import RateLimits, met_first
from notpanel.kit.caller import Caller
from tests.conftest import FORM, Customer, post, post_json
from tests.redis_server import count_in, wait_until_it_answers

NOON = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)


@pytest.fixture(autouse=True, params=["memory", "redis"])
def counters(request, settings):
    """Run every test twice: with counters in memory, and in a real Redis."""
    if request.param == "redis":
        count_in(settings, request.getfixturevalue("redis_url"))


@pytest.fixture(autouse=True)
def _noon(time_machine, counters):
    time_machine.move_to(NOON, tick=False)


def send(customer, **headers):
    return Client().post("/api/v2", f"key={customer.raw_key}&action=services", content_type=FORM, headers=headers)


def test_headers_show_the_layer_with_the_least_left(customer, settings):
    settings.RATE_LIMIT_IP, settings.RATE_LIMIT_KEYS = 10, {"standard": 5}

    response = send(customer)

    assert response["X-RateLimit-Limit"] == "5"
    assert response["X-RateLimit-Remaining"] == "4"
    assert response["X-RateLimit-Tier-Remaining"] == "199"
    assert 0 < int(response["X-RateLimit-Reset"]) - NOON.timestamp() <= 60
    assert "Retry-After" not in response
    assert "X-RateLimit-DeniedBy" not in response

    settings.RATE_LIMIT_IP = 3

    assert send(customer)["X-RateLimit-Limit"] == "3"


def test_the_layer_with_the_least_left_need_not_have_the_lowest_limit(customer, settings):
    settings.RATE_LIMIT_IP, settings.RATE_LIMIT_KEYS = 10, {"standard": 9}
    for _ in range(5):
        send(customer)

    response = send(Customer(customer.account, *create_api_key(customer.account)))

    assert (response["X-RateLimit-Limit"], response["X-RateLimit-Remaining"]) == ("10", "4")


def test_a_request_over_the_key_limit_is_refused(customer, settings):
    settings.RATE_LIMIT_KEYS = {"standard": 3}

    responses = [send(customer) for _ in range(5)]

    assert [response.status_code for response in responses] == [200, 200, 200, 429, 429]
    assert [response["X-RateLimit-Remaining"] for response in responses] == ["2", "1", "0", "0", "0"]
    denied = responses[-1]
    assert denied.json() == {"error": "Rate limit exceeded"}
    assert denied["X-RateLimit-DeniedBy"] == "key"
    # A request that the key layer refuses is not counted on the tier.
    assert denied["X-RateLimit-Tier-Remaining"] == "197"
    assert 1 <= int(denied["Retry-After"]) <= 60
    assert int(denied["X-RateLimit-Reset"]) == NOON.timestamp() + int(denied["Retry-After"])


def test_a_key_may_have_a_limit_of_its_own(customer):
    ApiKey.objects.update(limit_per_minute=1)

    assert [send(customer).status_code for _ in range(2)] == [200, 429]


def test_each_key_is_counted_separately(customer, settings):
    settings.RATE_LIMIT_KEYS = {"standard": 1}
    other = Customer(customer.account, *create_api_key(customer.account))
    send(customer)

    assert send(customer).status_code == 429
    assert send(other).status_code == 200


@pytest.mark.parametrize("tier", ["standard", "reseller", "agency"])
def test_the_tier_limit_counts_all_keys_of_the_account(customers, settings, tier):
    settings.RATE_LIMIT_TIERS = {"standard": 100, "reseller": 100, "agency": 100, tier: 3}
    customer = customers(tier=tier)
    other_key = Customer(customer.account, *create_api_key(customer.account))
    customers(tier=tier)

    responses = [send(who) for who in (customer, other_key, customer, other_key)]

    assert [response.status_code for response in responses] == [200, 200, 200, 429]
    assert [response["X-RateLimit-Tier-Remaining"] for response in responses] == ["2", "1", "0", "0"]
    assert responses[-1]["X-RateLimit-DeniedBy"] == "tier"
    assert send(customers(tier=tier)).status_code == 200


def test_a_key_and_an_account_of_the_same_number_and_limit_are_counted_apart(db):
    limits = RateLimits(RequestFactory().post("/api/v2"))

    limits.count_caller(Caller(account_id=7, tier="standard", api_key_id=7, api_key_prefix="", limit_per_minute=200))

    assert [(usage.layer, usage.remaining) for usage in limits.usages] == [("key", 199), ("tier", 199)]


@pytest.mark.parametrize("tier", ["standard", "reseller", "agency"])
def test_a_key_has_the_limit_of_its_tier(customers, settings, tier):
    settings.RATE_LIMIT_KEYS = {"standard": 50, "reseller": 50, "agency": 50, tier: 2}
    customer = customers(tier=tier)

    responses = [send(customer) for _ in range(3)]

    assert [response.status_code for response in responses] == [200, 200, 429]
    assert responses[-1]["X-RateLimit-DeniedBy"] == "key"


@pytest.mark.parametrize(
    ("ip", "key", "tier", "first"), [(3, 2, 2, "key"), (2, 2, 2, "ip"), (3, 3, 2, "tier"), (1, 2, 3, "ip")]
)
def test_the_layer_that_the_pages_name_refuses_first(customer, settings, ip, key, tier, first):
    settings.RATE_LIMIT_IP = ip
    settings.RATE_LIMIT_KEYS, settings.RATE_LIMIT_TIERS = {"standard": key}, {"standard": tier}

    denied = next(answer for answer in iter(lambda: send(customer), None) if answer.status_code == 429)

    assert denied["X-RateLimit-DeniedBy"] == met_first("standard") == first


def test_the_balance_counts_on_the_address_alone(customer, settings):
    settings.RATE_LIMIT_IP, settings.RATE_LIMIT_KEYS = 5, {"standard": 1}
    assert send(customer).status_code == 200
    assert send(customer).status_code == 429

    responses = [customer.post("balance") for _ in range(4)]

    assert [response.status_code for response in responses] == [200, 200, 200, 429]
    assert responses[0]["X-RateLimit-Tier-Remaining"] == "199"
    assert responses[0]["X-RateLimit-Limit"] == "5"
    assert responses[-1]["X-RateLimit-DeniedBy"] == "ip"


@pytest.mark.parametrize("parameters", [{"action": ["balance", "services"]}, {"action": {}}, {"action": "Balance"}])
def test_what_only_looks_like_a_request_for_the_balance_is_counted(customer, parameters):
    answer = post_json({"key": customer.raw_key, **parameters})

    assert (answer.status_code, answer["X-RateLimit-Remaining"]) == (400, "99")


def test_the_default_limits(settings):
    assert settings.RATE_LIMIT_IP == 300
    assert settings.RATE_LIMIT_KEYS == {"standard": 100, "reseller": 300, "agency": 1000}
    assert settings.RATE_LIMIT_TIERS == {"standard": 200, "reseller": 1000, "agency": 5000}


def test_the_address_limit_bounds_the_guessing_of_keys(db, settings):
    settings.RATE_LIMIT_IP = 2

    responses = [post(key=f"np_guess{n}", action="services") for n in range(4)]

    assert [response.status_code for response in responses] == [401, 401, 429, 429]
    assert responses[-1]["X-RateLimit-DeniedBy"] == "ip"
    assert responses[-1]["Retry-After"]


def test_an_answer_without_an_account_shows_the_address_limit(db):
    response = post(key="np_guess", action="services")

    assert response["X-RateLimit-Limit"] == "300"
    assert response["X-RateLimit-Remaining"] == "299"
    assert "X-RateLimit-Tier-Remaining" not in response


def test_a_request_over_the_address_limit_does_not_reach_the_database(customer, settings, django_assert_num_queries):
    settings.RATE_LIMIT_IP = 1
    send(customer)

    with django_assert_num_queries(0):
        assert send(customer).status_code == 429


def test_a_batch_counts_as_one_request(customer):
    response = customer.post("refill", orders=",".join(map(str, range(1, 101))))

    assert response["X-RateLimit-Remaining"] == "99"


def test_refused_requests_are_counted_too(customer, settings):
    settings.RATE_LIMIT_KEYS = {"standard": 2}

    assert [customer.post("nonsense").status_code for _ in range(3)] == [400, 400, 429]


def test_a_client_is_let_in_once_retry_after_has_passed_and_no_sooner(customer, settings, time_machine):
    settings.RATE_LIMIT_KEYS = {"standard": 1}
    reset = int(send(customer)["X-RateLimit-Reset"])

    time_machine.move_to(datetime.fromtimestamp(reset, UTC) - timedelta(seconds=1), tick=False)
    denied = send(customer)
    assert denied.status_code == 429
    assert denied["Retry-After"] == "1"

    time_machine.move_to(datetime.fromtimestamp(reset, UTC), tick=False)
    assert send(customer).status_code == 200


def test_retry_after_is_at_least_one_second(customer, settings, monkeypatch):
    """Even if the window ends before the answer is written."""
    settings.RATE_LIMIT_KEYS = {"standard": 1}
    customer.post("services")
    times = itertools.count(NOON.timestamp(), 60)
    monkeypatch.setattr("notpanel.api.ratelimits.time", SimpleNamespace(time=lambda: next(times)))

    assert customer.post("services")["Retry-After"] == "1"


def test_a_window_that_ends_while_a_request_is_counted_has_a_second_left(customer, monkeypatch):
    ended = {"count": 1, "limit": 100, "should_limit": False, "time_left": -1}
    monkeypatch.setattr("notpanel.api.ratelimits.get_usage", lambda *args, **kwargs: ended)

    response = send(customer)

    assert response.status_code == 200
    assert int(response["X-RateLimit-Reset"]) == NOON.timestamp() + 1


def test_in_the_last_second_of_a_window_the_next_one_begins_in_a_second(customer, time_machine):
    reset = int(send(customer)["X-RateLimit-Reset"])
    time_machine.move_to(datetime.fromtimestamp(reset, UTC) - timedelta(seconds=1), tick=False)

    assert int(send(customer)["X-RateLimit-Reset"]) == reset


def test_a_counter_expires_with_its_window(customer, settings, redis_url):
    """django-ratelimit names one key per layer and window, and gives it one expiry."""
    count_in(settings, redis_url)
    prefix = settings.CACHES["counters"]["KEY_PREFIX"]
    send(customer)
    send(customer)

    with redis.Redis.from_url(redis_url) as client:
        keys = client.keys(f"{prefix}:1:rl:*")
        assert [client.get(key) for key in keys] == [b"2"] * 3
        assert all(60 <= client.ttl(key) <= 65 for key in keys)


# ---- The address of the client


def test_the_forwarded_address_is_counted(customer, settings):
    settings.TRUSTED_PROXIES = [ipaddress.ip_network("10.0.0.0/8")]
    settings.RATE_LIMIT_IP = 1
    behind_proxy = {"REMOTE_ADDR": "10.0.0.1"}

    def send_from(forwarded):
        return Client(**behind_proxy).post(
            "/api/v2",
            f"key={customer.raw_key}&action=services",
            content_type=FORM,
            headers={"X-Forwarded-For": forwarded},
        )

    assert send_from("203.0.113.1").status_code == 200
    assert send_from("203.0.113.2").status_code == 200
    assert send_from("203.0.113.1, 203.0.113.2").status_code == 429


def test_each_ipv6_network_is_counted_separately(customer, settings):
    settings.RATE_LIMIT_IP = 1

    def send_from(peer):
        return Client(REMOTE_ADDR=peer).post("/api/v2", "", content_type=FORM).status_code

    assert [send_from(peer) for peer in ("2a00::1", "2a00::2", "2a00:0:0:1::1")] == [401, 429, 401]


def test_a_request_with_the_wrong_method_or_body_is_counted_on_its_address(db, settings):
    settings.RATE_LIMIT_IP = 2

    answers = [Client().get("/api/v2"), Client().post("/api/v2", "{", content_type="application/json")]

    assert [answer.status_code for answer in answers] == [405, 400]
    assert [answer["X-RateLimit-Remaining"] for answer in answers] == ["1", "0"]
    assert Client().get("/api/v2").status_code == 429


# ---- When Redis fails


def test_a_connection_that_redis_closed_is_opened_again(customer, settings, redis_url):
    count_in(settings, redis_url)
    assert send(customer).status_code == 200
    with redis.Redis.from_url(redis_url) as other:
        other.client_kill_filter(_type="normal", skipme=True)

    response = send(customer)

    assert (response.status_code, response["X-RateLimit-Remaining"]) == (200, "98")


def test_a_script_that_redis_has_forgotten_is_loaded_again(customer, settings, redis_url):
    count_in(settings, redis_url)
    assert send(customer).status_code == 200
    with redis.Redis.from_url(redis_url) as other:
        other.script_flush()

    response = send(customer)

    assert (response.status_code, response["X-RateLimit-Remaining"]) == (200, "98")


def test_an_answer_that_came_too_late_is_not_taken_for_the_next_one(settings, redis_url):
    count_in(settings, redis_url, socket_timeout=0.1)
    counters = caches["counters"]
    counters.add("late", 1, 60)
    with redis.Redis.from_url(redis_url) as other:
        other.client_pause(300)
        with pytest.raises(redis.TimeoutError):
            counters.add("late", 1, 60)
        other.client_unpause()
    wait_until_it_answers(redis_url)

    assert counters.add("other", 1, 60) is True
    assert counters.get("other") == 1


def test_a_key_in_any_script_is_counted(settings, redis_url):
    count_in(settings, redis_url)
    counters = caches["counters"]

    assert [counters.add("clé €", 1, 60) for _ in range(2)] == [True, False]
    with redis.Redis.from_url(redis_url) as other:
        assert other.get(counters.make_key("clé €")) == b"2"


def test_counters_return_only_the_counter_added_last(settings, redis_url):
    count_in(settings, redis_url)
    counters = caches["counters"]

    assert counters.add("a", 1, 60) is True
    assert counters.add("a", 1, 60) is False
    assert (counters.incr("a"), counters.get("a")) == (2, 2)
    assert counters.add("b", 0, 60) is True
    assert counters.get("b") == 0
    for question in (counters.incr, counters.get):
        with pytest.raises(ValueError, match="is not the counter that was added last"):
            question("a")


def test_a_request_gets_503_when_redis_is_down(customer, settings):
    count_in(settings, "redis://127.0.0.1:1/0", socket_connect_timeout=1)

    response = send(customer)

    assert (response.status_code, response.json()) == (503, {"error": "Service temporarily unavailable"})
    assert response["Retry-After"]


def test_a_request_gets_503_when_redis_does_not_answer_in_time(customer, settings):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        count_in(settings, f"redis://127.0.0.1:{silent.getsockname()[1]}/0", socket_timeout=0.1)

        assert send(customer).status_code == 503


def test_a_request_gets_503_when_its_counter_is_lost_between_two_steps(customer, monkeypatch):
    monkeypatch.setattr("django_ratelimit.core.caches", {"counters": LostCounter()})

    assert send(customer).status_code == 503


class LostCounter:
    def add(self, *args):
        return False

    def incr(self, key):
        raise ValueError("Key not found")
