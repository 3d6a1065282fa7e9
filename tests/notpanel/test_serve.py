"""manage.py serve: what can only be tested over a real connection."""

import http.client
import itertools
import json
import re
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
import requests
from django.core.management import call_command

from notpanel.server.checks import Unready
from refills.models import Refill
from tests import factories
from tests.conftest import new_customer
from tests.server import MARKS, Server

pytestmark = MARKS


@pytest.fixture
def customer(transactional_db):
    return new_customer()


def test_a_refill_is_requested(server, customer):
    order = factories.Order(account=customer.account)

    response = requests.post(
        f"{server}/api/v2", data={"key": customer.raw_key, "action": "refill", "order": order.pk}, timeout=10
    )

    assert response.json() == {"refill": Refill.objects.get(order=order).pk}
    assert response.headers["Content-Type"] == "application/json"


def test_a_chunked_body_is_read(server, customer):
    """axios sends its multipart forms without a Content-Length."""
    body = (part.encode() for part in ("key=", customer.raw_key, "&action=", "services"))

    response = requests.post(
        f"{server}/api/v2", data=body, headers={"Content-Type": "application/x-www-form-urlencoded"}, timeout=10
    )

    assert response.status_code == 200


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [64 * 1024 + 1, 3 * 1024 * 1024])
def test_a_large_body_is_refused_in_json(server, db, chunked, size):
    body = b"x" * size

    response = requests.post(
        f"{server}/api/v2",
        data=iter([body]) if chunked else body,
        headers={"Content-Type": "application/x-www-form-urlencoded"},
        timeout=10,
    )

    assert (response.status_code, response.json()) == (413, {"error": "Request body too large"})


def test_a_body_that_is_cut_off_requests_nothing(server, customer):
    """The part of the last id that arrived may be the number of another order."""
    order = factories.Order(account=customer.account)
    body = f"key={customer.raw_key}&action=refill&orders={order.number}"
    connection = http.client.HTTPConnection(urlsplit(server).netloc, timeout=10)
    connection.putrequest("POST", "/api/v2")
    connection.putheader("Content-Type", "application/x-www-form-urlencoded")
    connection.putheader("Content-Length", str(len(body) + 3))
    connection.endheaders(body.encode())
    connection.sock.shutdown(socket.SHUT_WR)

    response = connection.getresponse()

    assert (response.status, response.read()) == (400, b'{"error":"Malformed request body"}')
    assert not Refill.objects.exists()


def test_a_connection_is_reused(server, customer):
    connection = http.client.HTTPConnection(urlsplit(server).netloc, timeout=10)
    for _ in range(3):
        connection.request("POST", "/api/v2", f"key={customer.raw_key}&action=services")
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"[]")
        assert connection.sock is not None


@pytest.mark.parametrize(("processes", "sends_some_away"), [("1", False), ("2", True)])
def test_a_process_with_too_many_clients_closes_some_connections(
    transactional_db,
    tmp_path,
    redis_url,
    processes,
    sends_some_away,
):
    crowded = Server(tmp_path, REDIS_URL=redis_url, WEB_CONCURRENCY=processes, WEB_THREADS="1")

    def connections_after(requests_made):
        with requests.Session() as session:
            return [session.get(f"{crowded.url}/api", timeout=30).headers.get("Connection") for _ in requests_made]

    with ThreadPoolExecutor(8) as clients:
        answers = clients.map(connections_after, [range(100)] * 8)
        connections = list(itertools.chain.from_iterable(answers))
    crowded.stop()

    assert ("close" in connections) is sends_some_away
    assert connections.count("close") < len(connections) / 10


def test_the_servers_log_has_no_key(customer, tmp_path):
    alone = Server(tmp_path)

    requests.post(f"{alone.url}/api/v2?key={customer.raw_key}", data={"key": customer.raw_key}, timeout=10)
    alone.stop()

    records = [json.loads(line) for line in alone.log.splitlines()]  # gunicorn's are among them
    assert {"gunicorn.error", "notpanel.request_log"} <= {record["logger"] for record in records}
    assert 400 in [record.get("status") for record in records]
    assert customer.raw_key not in alone.log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_server_stops_on_a_signal(transactional_db, tmp_path, number):
    assert Server(tmp_path).stop(number) == 0


def test_processes_that_share_no_redis_are_refused(settings):
    settings.WEB_CONCURRENCY = 2

    with pytest.raises(Unready, match="REDIS_URL"):
        call_command("serve")


def test_pages_have_their_styles(server, db):
    page = requests.get(f"{server}/admin/login/", timeout=10)

    assert page.status_code == 200
    [style, *_] = re.findall(r'href="([^"]+\.css)"', page.text)
    assert requests.get(server + style, timeout=10).headers["Content-Type"].startswith("text/css")
