"""Asking a supplier over a real connection."""

import contextlib
import itertools
import socket
import threading
import time

import pytest

from refills import supplier_api
from refills.supplier_answers import Accepted, NotDone, Refused, Unclear
from tests import factories
from tests.server import free_port
from tests.supplier import DROP, stub


def request(answer, **fields):
    with stub(lambda asked: answer) as server:
        supplier = factories.Supplier.build(url=server.url, **fields)
        return supplier_api.request_refill(supplier, "815"), server.asked


def test_the_request_is_that_of_the_v2_api():
    answer, asked = request(b'{"refill": "1"}')

    assert answer == Accepted("1")
    assert asked == [{"key": "their-key", "action": "refill", "order": "815"}]


@pytest.mark.parametrize(
    "answer",
    [
        DROP,
        b"",
        b"<html>",
        (b"", 302, {"Location": "/login"}),
        (b'{"refill": 1}', 301, {"Location": "https://elsewhere.example/"}),
        (b"Internal Server Error", 500, {}),
        (b'{"error": "Refill days are over"}', 500, {}),
        (b"", 204, {}),
        (b'{"refill": "1"', 200, {"Content-Length": "500"}),
        (b" " * (1024 * 1024 + 1) + b'{"refill": 1}', 200, {}),
    ],
)
def test_a_request_without_an_answer_is_unclear_and_made_once(answer):
    got, asked = request(answer)

    assert isinstance(got, Unclear)
    assert not got.answered
    assert len(asked) == 1


def test_an_error_of_the_client_with_words_is_a_refusal():
    assert request((b'{"error": "Refill days are over"}', 400, {}))[0] == Refused("Refill days are over")


def test_a_supplier_that_is_asked_too_often_has_done_nothing():
    assert isinstance(request((b"slow down", 429, {}))[0], NotDone)


def test_where_nobody_listens_nothing_is_done():
    supplier = factories.Supplier.build(url=f"http://127.0.0.1:{free_port()}/api/v2")

    assert supplier_api.request_refill(supplier, "1") == NotDone("no connection could be made")


def test_a_host_without_an_address_gets_nothing():
    supplier = factories.Supplier.build(url="https://supplier.invalid/api/v2")

    assert isinstance(supplier_api.request_refill(supplier, "1"), NotDone)


def test_a_key_that_cannot_be_decrypted_is_told_and_nothing_is_asked(settings):
    supplier = factories.Supplier.build(url="http://127.0.0.1:9/")
    settings.SECRET_KEY = "another one"

    assert supplier_api.request_refill(supplier, "1") == NotDone(
        "The key of the supplier cannot be decrypted: enter it again."
    )


def test_a_supplier_that_does_not_answer_is_waited_for_a_while_only(monkeypatch):
    monkeypatch.setattr(supplier_api, "WAITING", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        supplier = factories.Supplier.build(url=f"http://127.0.0.1:{silent.getsockname()[1]}/")
        began = time.monotonic()

        answer = supplier_api.request_refill(supplier, "1")

    assert isinstance(answer, Unclear)
    assert time.monotonic() - began < 5


@contextlib.contextmanager
def dribbling(*pieces):
    """Run a server that sends each of these pieces a tenth of a second after the one before. Yields its address."""

    def answer():
        client, _ = listening.accept()
        with client, contextlib.suppress(OSError):  # the client may go away at any piece
            for piece in itertools.chain(*pieces):
                client.sendall(piece)
                time.sleep(0.1)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        thread.join()


STATUS = [b"HTTP/1.1 200 OK\r\n"]
HEADERS = [*STATUS, b"Content-Length: 500\r\n\r\n"]
CHUNKED = [*STATUS, b"Transfer-Encoding: chunked\r\n\r\n"]


@pytest.mark.parametrize(
    "pieces",
    [
        ([b"HTTP/1.1 "], [b"2"] * 40),
        (STATUS, [b"X"] * 40),
        (STATUS, [b"X-Name: value\r\n"] * 40),
        (HEADERS, [b" "] * 40),
        (CHUNKED, [b"1\r\n \r\n"] * 40),
        (CHUNKED, [b"0"] * 40),
    ],
    ids=["status line", "one header", "headers", "body", "chunks", "size of a chunk"],
)
def test_an_answer_that_dribbles_in_is_waited_for_a_while_only(monkeypatch, pieces):
    monkeypatch.setattr(supplier_api, "IN_ALL", 1.0)
    with dribbling(*pieces) as url:
        began = time.monotonic()

        answer = supplier_api.request_refill(factories.Supplier.build(url=url), "1")

        took = time.monotonic() - began
    assert isinstance(answer, Unclear)
    assert not answer.answered
    assert 0.9 < took < 2.5


def test_a_proxy_of_this_machine_is_not_used(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")

    assert request(b'{"refill": 1}')[0] == Accepted("1")
