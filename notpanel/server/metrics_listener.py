"""The metrics of a worker that runs by itself, at a port of its own: no server is there to answer for it."""

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client.exposition import ThreadingWSGIServer

from notpanel import metrics

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

PATIENCE = 10.0  # seconds that a client may take to send its request


def start(host: str, port: int) -> None:
    """Answer ``/metrics`` in threads that end with the process."""
    server = make_server(host.strip("[]"), port, _application, ThreadingWSGIServer, _Handler)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()


class _Handler(WSGIRequestHandler):
    timeout = PATIENCE

    def log_message(self, format: str, *args: Any) -> None:
        """Write no line for each scrape."""


def _application(environ: dict[str, Any], start_response: "StartResponse") -> Iterable[bytes]:
    if environ["PATH_INFO"] != metrics.PATH or environ["REQUEST_METHOD"] != "GET":
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"The metrics are at /metrics.\n"]
    response = metrics.answer(environ.get("HTTP_AUTHORIZATION", ""), "worker")
    start_response(f"{response.status_code} {response.reason_phrase}", list(response.items()))
    return [response.content]
