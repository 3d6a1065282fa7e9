"""A process that is killed comes back, and a server that is told to stop finishes what it has begun."""

import contextlib
import http.client
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from refills.models import Refill
from tests import factories
from tests.conftest import new_customer
from tests.server import MARKS, Server

pytestmark = MARKS

CLIENTS = 12


def children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def start(transactional_db, tmp_path, redis_url):
    """Return a function that starts a server with two processes."""
    with contextlib.ExitStack() as stack:

        def started() -> Server:
            server = Server(tmp_path, REDIS_URL=redis_url, WEB_CONCURRENCY="2")
            stack.callback(lambda: server.process.poll() is None and server.stop())
            wait_for(lambda: len(children(server.process.pid)) == 2)
            return server

        yield started


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="/proc tells which processes a server has")
def test_a_killed_process_comes_back_and_the_others_go_on(start):
    server, customer = start(), new_customer()
    statuses, is_over = [], threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            try:
                answer = requests.post(
                    f"{server.url}/api/v2", data={"key": customer.raw_key, "action": "services"}, timeout=30
                )
                statuses.append(answer.status_code)
            except requests.ConnectionError:  # it was with the process that was killed
                statuses.append(0)

    with ThreadPoolExecutor(4) as clients:
        for _ in range(4):
            clients.submit(ask)
        try:
            for _ in range(3):
                before = children(server.process.pid)
                killed = min(before)
                os.kill(killed, signal.SIGKILL)
                wait_for(lambda: killed not in children(server.process.pid))  # noqa: B023
                wait_for(lambda: len(children(server.process.pid)) == 2)
            answered = len(statuses)
            wait_for(lambda: len(statuses) > answered + 50)
        finally:
            is_over.set()

    assert set(statuses[-40:]) == {200}
    assert set(statuses) <= {200, 0}
    assert statuses.count(0) <= 3 * 4
    assert server.stop() == 0


def test_a_server_that_stops_under_load_answers_every_request_that_it_has_begun(start):
    """A lost answer would be a refill that its customer does not know about."""
    server = start()
    customers = [new_customer() for _ in range(CLIENTS)]
    orders = [factories.Order.create_batch(400, account=customer.account) for customer in customers]
    is_busy = threading.Barrier(CLIENTS + 1)

    def request_refills(customer, orders) -> tuple[list[str], list[str]]:
        """Request refills until the server is gone. Returns those that were made, and what else was answered."""
        made: list[str] = []
        others: list[str] = []
        with requests.Session() as session:
            for number, order in enumerate(orders):
                if number == 3:
                    is_busy.wait(30)
                try:
                    answer = session.post(
                        f"{server.url}/api/v2",
                        data={"key": customer.raw_key, "action": "refill", "order": order.pk},
                        timeout=30,
                    )
                except requests.ConnectionError:
                    return made, others
                if answer.status_code == 200:
                    made.append(answer.json()["refill"])
                else:
                    others.append(answer.text)
        raise AssertionError("The server did not stop.")

    with ThreadPoolExecutor(CLIENTS) as clients:
        running = [clients.submit(request_refills, *each) for each in zip(customers, orders, strict=True)]
        is_busy.wait(30)
        time.sleep(0.2)
        assert server.stop(signal.SIGTERM) == 0
        outcomes = [each.result() for each in running]

    made = [refill for refills, _ in outcomes for refill in refills]
    assert all(len(refills) >= 3 for refills, _ in outcomes)
    assert [other for _, others in outcomes for other in others] == []
    assert sorted(made) == sorted(Refill.objects.values_list("pk", flat=True))


def test_a_server_that_stops_answers_once_more_on_an_idle_connection(transactional_db, tmp_path):
    """A proxy may have sent a request while the connection was being closed."""
    server = Server(tmp_path)
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)

    def ask() -> tuple[int, str | None]:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.getheader("Connection")

    def accepts() -> bool:
        try:
            socket.create_connection(("127.0.0.1", server.port), timeout=5).close()
        except ConnectionError:
            return False
        return True

    assert ask() == (200, None)
    server.process.send_signal(signal.SIGTERM)
    wait_for(lambda: not accepts())
    time.sleep(1)  # longer than a request is on its way

    assert ask() == (200, "close")
    assert server.process.wait(60) == 0


def test_servers_at_a_socket_of_systemd_are_replaced_without_a_lost_request(transactional_db, tmp_path, redis_url):
    """deploy/systemd runs two servers at one socket. Each reports when it serves."""
    customer = new_customer()
    statuses: list[int | str] = []
    is_over = threading.Event()

    def ask(netloc: str) -> None:
        """Send requests on a connection as long as the server keeps it, as a proxy does."""
        connection = http.client.HTTPConnection(netloc, timeout=30)
        while not is_over.is_set():
            try:
                connection.request("POST", "/api/v2", f"key={customer.raw_key}&action=services")
                answer = connection.getresponse()
                answer.read()
                statuses.append(answer.status)
            except (OSError, http.client.HTTPException) as error:
                statuses.append(repr(error))
                connection.close()
        connection.close()

    with (
        socket.create_server(("127.0.0.1", 0), backlog=128) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor,
    ):
        supervisor.bind(str(tmp_path / "notify"))
        supervisor.settimeout(60)
        environment = {"REDIS_URL": redis_url, "WEB_CONCURRENCY": "1", "NOTIFY_SOCKET": str(tmp_path / "notify")}

        def start() -> Server:
            server = Server(tmp_path, listener, **environment)
            assert supervisor.recv(1024) == b"READY=1"  # not before: gunicorn would say so without a process
            return server

        first, second = start(), start()
        with ThreadPoolExecutor(6) as clients:
            running = [clients.submit(ask, urlsplit(first.url).netloc) for _ in range(6)]
            try:
                assert first.stop() == 0
                third = start()
                assert second.stop() == 0
                answered = len(statuses)
                wait_for(lambda: len(statuses) > answered + 50)
            finally:
                is_over.set()
        for each in running:
            each.result()
        assert third.stop() == 0

    assert set(statuses) == {200}
