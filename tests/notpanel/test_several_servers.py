"""Two servers of several processes each share one PostgreSQL and one Redis, and act as one towards a client."""

import itertools
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from refills.models import Refill
from tests import factories
from tests.conftest import new_customer
from tests.server import MARKS, Server

pytestmark = MARKS

LIMIT = 30


@pytest.fixture
def servers(transactional_db, tmp_path, redis_url):
    environment = {
        "REDIS_URL": redis_url,
        "WEB_CONCURRENCY": "2",
        "RATE_LIMIT_IP": str(LIMIT),
        "TRUSTED_PROXIES": "127.0.0.1/32",
    }
    with ThreadPoolExecutor() as executor:
        started = list(executor.map(lambda directory: Server(directory, **environment), [tmp_path, tmp_path]))
    yield started
    for server in started:
        server.stop()


def clients_address():
    return f"2001:db8:{random.getrandbits(16):x}:{random.getrandbits(16):x}::1"


def send(server, address, **parameters):
    return requests.post(f"{server.url}/api/v2", data=parameters, headers={"X-Forwarded-For": address}, timeout=30)


def address_at_the_beginning_of_its_minute(server):
    """Return an address that was counted once, and whose window does not end while the test runs."""
    while True:
        address = clients_address()
        if int(send(server, address).headers["X-RateLimit-Reset"]) - time.time() > 30:
            return address


def test_the_servers_count_an_address_together(servers):
    address = address_at_the_beginning_of_its_minute(servers[0])

    with ThreadPoolExecutor(8) as executor:
        both = itertools.islice(itertools.cycle(servers), 2 * LIMIT)
        codes = list(executor.map(lambda server: send(server, address).status_code, both))

    assert codes.count(401) == LIMIT - 1
    assert codes.count(429) == LIMIT + 1
    assert send(servers[1], clients_address()).status_code == 401


def test_requests_for_one_order_through_both_servers_make_one_refill(servers):
    customer = new_customer()
    order = factories.Order(account=customer.account)
    request = {"key": customer.raw_key, "action": "refill", "order": order.pk}

    with ThreadPoolExecutor(16) as executor:
        both = itertools.islice(itertools.cycle(servers), 40)
        answers = list(executor.map(lambda server: send(server, clients_address(), **request).json(), both))

    assert sum("refill" in answer for answer in answers) == 1
    assert {answer["error"] for answer in answers if "error" in answer} == {
        "A refill request is already pending for this order"
    }
    assert Refill.objects.count() == 1
