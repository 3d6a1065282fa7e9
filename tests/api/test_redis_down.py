"""While Redis is down, no request waits for it, and REDIS_DOWN says whether requests are counted in memory."""

import contextlib
import shutil
import signal
import subprocess
import threading
import time
from datetime import UTC, datetime

import pytest
import redis
from django.core.cache import caches
from django.test import Client

from notpanel.api import redis_counters
from notpanel.kit import redis_outages
from notpanel.kit.redis_cache import ForgetfulCache
from tests import factories
from tests.redis_server import count_in, wait_until_it_answers
from tests.work import counted

TIMEOUT = 0.3  # seconds
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Return a Redis of its own for this test, which may freeze and wake it."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not on the PATH")
    monkeypatch.setattr(redis_outages, "PAUSE", 0.1)

    class Server:
        url = f"unix://{tmp_path}/redis.sock"
        process = None

        def start(self):
            self.process = subprocess.Popen(
                [program, "--port", "0", "--unixsocket", f"{tmp_path}/redis.sock", "--save", "", "--dir", tmp_path],
                stdout=subprocess.DEVNULL,
            )
            redis.Redis.from_url(self.url, retry=redis.retry.Retry(redis.backoff.ConstantBackoff(0.05), 100)).ping()

        def freeze(self):
            self.process.send_signal(signal.SIGSTOP)

        def wake(self):
            self.process.send_signal(signal.SIGCONT)

        def kill(self):
            self.process.kill()
            self.process.wait()

    server = Server()
    server.start()
    yield server
    server.kill()


@pytest.fixture(autouse=True)
def _counters(settings, server):
    count_in(settings, server.url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT)
    redis_counters._memory().clear()


def ask(customer):
    return customer.post("services").status_code


def test_the_first_request_asks_it_once_and_the_next_ones_do_not(customer, server, monkeypatch):
    monkeypatch.setattr(redis_outages, "PAUSE", 60)  # no probe is counted
    assert ask(customer) == 200
    server.freeze()

    with counted() as first:
        assert ask(customer) == 503
    with counted() as others:
        assert [ask(customer) for _ in range(10)] == [503] * 10

    assert (first.round_trips, others.round_trips) == (1, 0)


@pytest.mark.parametrize("how", ["freeze", "kill"])
def test_redis_is_used_again_once_it_answers(customer, server, how):
    ask(customer)
    getattr(server, how)()
    assert ask(customer) == 503
    time.sleep(0.5)  # some probes fail
    assert ask(customer) == 503

    server.wake() if how == "freeze" else server.start()
    wait_until_it_answers(server.url)

    assert ask(customer) == 200


def test_an_outage_is_two_lines_and_one_thread(customer, server, caplog, settings):
    settings.REDIS_DOWN = "open"
    before = set(threading.enumerate())  # with the probes of other tests, whose servers are gone
    server.freeze()
    for _ in range(5):
        ask(customer)
    [probe] = [thread for thread in set(threading.enumerate()) - before if thread.name == "redis-probe"]
    server.wake()
    probe.join(10)

    first, last = [record.getMessage() for record in caplog.records if record.name == "notpanel.kit.redis_outages"]
    assert first.startswith("Redis does not answer, so each process counts by itself until it does: ")
    assert last == "Redis answers again."


def test_open_counts_in_memory_up_to_the_limit(customer, server, settings, time_machine):
    time_machine.move_to(NOON, tick=False)  # no window ends between two requests
    settings.REDIS_DOWN, settings.RATE_LIMIT_KEYS = "open", {"standard": 3}
    server.freeze()

    answers = [customer.post("services") for _ in range(5)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert [answer["X-RateLimit-Remaining"] for answer in answers] == ["2", "1", "0", "0", "0"]
    assert answers[-1]["X-RateLimit-Tier-Remaining"] == "197"
    assert customer.post("balance").status_code == 200  # reads the tier without counting on it


def test_threads_count_together_in_memory(server, settings):
    settings.REDIS_DOWN = "open"
    server.kill()
    counts = []

    def count():
        counters = caches["counters"]
        for _ in range(100):
            counters.add("key", 1, 60)
            counts.append(counters.incr("key"))

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(counts) == list(range(1, 801))


def test_a_refusal_by_redis_is_not_an_outage(customer, server, settings):
    settings.REDIS_DOWN = "open"
    with contextlib.closing(redis.Redis.from_url(server.url)) as client:
        client.config_set("maxmemory", 1)

    assert ask(customer) == 503
    assert not redis_outages.outages_of(server.url, {}).is_under_way


@pytest.fixture
def cache(server):
    return ForgetfulCache(server.url, {"OPTIONS": {"socket_timeout": TIMEOUT}})


def test_the_cache_works(cache):
    assert cache.add("key", 1)
    assert not cache.add("key", 2)
    assert cache.get("key") == 1
    assert cache.delete("key")
    cache.set("key", 3)
    assert cache.get("key") == 3


def test_the_cache_is_empty_while_redis_is_down(cache, server):
    cache.set("key", 1)
    server.kill()

    assert cache.get("key", "none") == "none"
    cache.set("key", 2)
    assert cache.add("key", 1)
    assert not cache.delete("key")


def test_the_desk_is_shown_while_redis_is_down(staff, server, settings):
    settings.CACHES = settings.CACHES | {
        "default": {"BACKEND": "notpanel.kit.redis_cache.ForgetfulCache", "LOCATION": server.url}
    }
    server.kill()
    client = Client()
    client.force_login(staff)

    for page in ("/admin/", f"/admin/refills/refill/{factories.Refill().pk}/change/"):
        assert client.get(page).status_code == 200
