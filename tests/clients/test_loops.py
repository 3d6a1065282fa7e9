"""The loops that the page “When to try again” prints get their answer despite every fault, and request once."""

import json
import os
import shutil
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from notpanel.api.examples import EXTENSIONS, LOOPS, printed
from refills.models import Refill
from tests import factories
from tests.conftest import new_customer
from tests.server import MARKS

pytestmark = MARKS
RUN = {"JavaScript": "node", "Python": "python3", "PHP": "php", "Ruby": "ruby"}


class Proxy(ThreadingHTTPServer):
    """Passes requests on to a server at ``url``, after one fault for each of ``faults``.

    "lost": the request is passed on, and its answer is cut off. A number: the status of an answer of the proxy's own.
    """

    def __init__(self, url, *faults):
        super().__init__(("127.0.0.1", 0), Passing)
        self.url, self.faults, self.times = f"{url}/api/v2", list(faults), []
        self.own_url = f"http://127.0.0.1:{self.server_port}/api/v2"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return super().__enter__()

    def __exit__(self, *error):
        self.shutdown()
        super().__exit__(*error)


class Passing(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.times.append(time.monotonic())
        body = self.rfile.read(int(self.headers["Content-Length"]))
        fault = self.server.faults.pop(0) if self.server.faults else None
        if isinstance(fault, int):
            self.send_response(fault)
            if fault != 502:
                self.send_header("Retry-After", "3")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        answer = requests.post(
            self.server.url, body, headers={"Content-Type": self.headers["Content-Type"]}, timeout=30
        )
        self.send_response(answer.status_code)
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content[: len(answer.content) // 2] if fault else answer.content)

    def log_message(self, *args):
        pass


@pytest.fixture(params=RUN)
def loop(request, tmp_path):
    """Return a function that runs the program of a language as it is printed. It returns what that printed."""
    if shutil.which(RUN[request.param]) is None:
        pytest.skip(f"{RUN[request.param]} is not installed")
    file = tmp_path / f"again.{EXTENSIONS[request.param]}"
    file.write_text(printed(LOOPS)[request.param])

    def run(proxy, customer, order):
        environment = os.environ | {"API_URL": proxy.own_url, "API_KEY": customer.raw_key}
        command = [RUN[request.param], file, order]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
        return json.loads(done.stdout)

    return run


def test_a_loop_asks_again_until_it_is_answered_and_requests_once(loop, server):
    customer = new_customer()
    order = factories.Order(account=customer.account)
    with Proxy(server, "lost", 429, 503, 502) as proxy:
        answer = loop(proxy, customer, order.pk)

    assert answer == {"refill": Refill.objects.get().pk}  # with another request_id it would be refused: already pending
    lost, limited, unavailable, gateway, last = proxy.times
    assert limited - lost > 0.9
    assert unavailable - limited > 2.9  # Retry-After, not the two seconds of its own
    assert gateway - unavailable > 2.9
    assert last - gateway > 7


def test_a_loop_accepts_a_refusal_as_an_answer(loop, server):
    with Proxy(server) as proxy:
        assert loop(proxy, new_customer(), "nonsense") == {"error": "Order not found"}

    assert len(proxy.times) == 1
