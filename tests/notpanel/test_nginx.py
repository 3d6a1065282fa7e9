"""The configuration of nginx in docs/scaling.md, run by nginx, in front of a running server."""

import http.client
import json
import os
import re
import shutil
import subprocess
import time

import pytest
import requests

from notpanel.server.slow_clients import IDLE_DEADLINE
from tests import factories
from tests.conftest import new_customer
from tests.server import BASE_DIR, MARKS, Server, free_port

pytestmark = MARKS
FRAME = """
daemon off;
{user}
error_log stderr;
pid {directory}/pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    {configuration}
}}
"""


@pytest.fixture
def proxy(tmp_path):
    """Return a function that starts nginx in front of a port, and returns its address."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("nginx is not installed")
    started = []

    def start(port):
        [configuration] = re.findall("```nginx\n(.*?)```", (BASE_DIR / "docs" / "scaling.md").read_text(), re.DOTALL)
        listen = free_port()
        configuration = configuration.replace("listen 443 ssl;", f"listen 127.0.0.1:{listen};")
        configuration = re.sub(r"( +server 10\S+\n)+", f"    server 127.0.0.1:{port};\n", configuration)
        user = "user root;" if os.geteuid() == 0 else ""  # others cannot reach the directories of pytest
        file = tmp_path / "nginx.conf"
        file.write_text(FRAME.format(user=user, directory=tmp_path, configuration=configuration))
        started.append(subprocess.Popen([program, "-c", str(file), "-p", str(tmp_path)]))
        for _ in range(100):
            try:
                requests.get(f"http://127.0.0.1:{listen}/", timeout=5, allow_redirects=False)
                return f"127.0.0.1:{listen}"
            except requests.ConnectionError:
                time.sleep(0.05)
        raise AssertionError("nginx does not answer")

    yield start
    for process in started:
        process.terminate()
        process.wait(10)


def test_what_passes_is_as_without_it(transactional_db, tmp_path, proxy):
    server = Server(tmp_path, TRUSTED_PROXIES="127.0.0.1/32")
    customer = new_customer()
    order = factories.Order(account=customer.account, status="pending")
    url = f"http://{proxy(server.port)}/api/v2"

    sent = {"key": customer.raw_key, "action": "refill", "order": order.pk}
    refused = requests.post(url, data=sent, timeout=10)
    too_large = requests.post(url, data={"key": "x" * 100_000}, timeout=10)
    far_too_large = requests.post(url, data={"key": "x" * 4_000_000}, timeout=10)
    unknown = requests.get(f"{url}/nothing", timeout=10)
    server.stop()

    assert refused.status_code == 400
    assert refused.json() == {"error": "Refill only available for completed or partial orders"}
    for answer in (too_large, far_too_large):
        assert (answer.status_code, answer.json()) == (413, {"error": "Request body too large"})
        assert answer.headers["Content-Type"] == "application/json"
    assert unknown.json() == {"error": "Not found"}


def test_a_form_is_accepted_at_a_port_of_its_own(transactional_db, tmp_path, proxy):
    """The Host has the port, and so has the Origin that browsers send."""
    server = Server(tmp_path, TRUSTED_PROXIES="127.0.0.1/32")
    address = proxy(server.port)
    session = requests.Session()
    session.get(f"http://{address}/dashboard/sign-in/", timeout=10)
    form = {"username": "x", "password": "y", "csrfmiddlewaretoken": session.cookies["csrftoken"]}

    answer = session.post(
        f"http://{address}/dashboard/sign-in/", data=form, headers={"Origin": f"http://{address}"}, timeout=10
    )
    server.stop()

    assert answer.status_code == 200


def test_a_server_that_is_down_is_told_in_json(proxy):
    address = proxy(free_port())

    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request("POST", "/api/v2", "key=x")
    answer = connection.getresponse()

    assert (answer.status, json.load(answer)) == (503, {"error": "Service temporarily unavailable"})
    assert answer.getheader("Content-Type") == "application/json"
    assert int(answer.getheader("Retry-After")) > 0


def test_its_connections_end_before_ours():
    text = (BASE_DIR / "docs" / "scaling.md").read_text()

    assert int(re.search(r"keepalive_timeout (\d+)s", text)[1]) < IDLE_DEADLINE
