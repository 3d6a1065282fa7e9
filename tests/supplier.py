"""Suppliers for tests: one that answers what a test says, and the fake one."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from refills.fake_supplier import Behaviour, FakeSupplier

DROP = object()  # as an answer: the connection ends without one


class Stub(ThreadingHTTPServer):
    """Answer a request with what ``answer`` returns for its parameters: a body, or that with a status and headers."""

    daemon_threads = True

    def __init__(self, answer: Callable[[dict[str, str]], Any]) -> None:
        self.answer = answer
        self.asked: list[dict[str, str]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/api/v2"


class _Handler(BaseHTTPRequestHandler):
    server: Stub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        parameters = dict(parse_qsl(body, keep_blank_values=True))
        self.server.asked.append(parameters)
        answer = self.server.answer(parameters)
        if answer is DROP:
            self.close_connection = True
            return
        body, status, headers = answer if isinstance(answer, tuple) else (answer, 200, {})
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def _running(server: ThreadingHTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def stub(answer: Callable[[dict[str, str]], Any]) -> Iterator[Stub]:
    server = Stub(answer)
    with _running(server):
        yield server


@contextmanager
def fake(log: Path, **behaviour: Any) -> Iterator[FakeSupplier]:
    server = FakeSupplier(0, log, Behaviour(**behaviour))
    with _running(server):
        yield server
