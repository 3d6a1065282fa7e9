"""Call the WSGI application with an environ that Django's test client would not make, or would tidy up."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.test import RequestFactory

from notpanel.wsgi import application
from tests.conftest import FORM


def wsgi_environ(body: bytes = b"", **environ: str) -> dict[str, Any]:
    """Return the environ of a form. It may end before its Content-Length: nothing stops a reader at its end."""
    made = RequestFactory().post("/api/v2", body, content_type=FORM).environ | environ
    return made | {"wsgi.input": io.BytesIO(body)}


@contextmanager
def connections_kept() -> Iterator[None]:
    """Keep the connection of the test's transaction, which a request would close."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    try:
        yield
    finally:
        for signal in (request_started, request_finished):
            signal.connect(close_old_connections)


def call(
    body: bytes = b"", path: str = "/api/v2", query: str = "", **environ: str
) -> tuple[int, dict[str, str], bytes]:
    """Return the status, the headers and the content of the answer. ``path`` is as a server passes it: latin-1."""
    started: list[tuple[str, dict[str, str]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        started.append((status, dict(headers)))

    with connections_kept():
        answer: Any = application(
            wsgi_environ(body, **environ) | {"PATH_INFO": path, "QUERY_STRING": query}, start_response
        )
        content = b"".join(answer)
        answer.close()
    [(status, headers)] = started
    return int(status[:3]), headers, content
