"""deploy/nginx/notpanel.conf, run by nginx with TLS, in front of a running server."""

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from notpanel.server.gunicorn import DRAIN
from notpanel.server.slow_clients import IDLE_DEADLINE
from tests import factories
from tests.conftest import new_customer
from tests.server import BASE_DIR, MARKS, Server, free_port, until

pytestmark = MARKS
CONFIGURATION = BASE_DIR / "deploy" / "nginx" / "notpanel.conf"
NAME = "panel.example"
FRAME = """
daemon off;
{user}
error_log {directory}/nginx.log;
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


class Proxy:
    """A running nginx in front of ``port``."""

    def __init__(self, program, directory, port):
        self.directory, self.port, self.plain_port = directory, free_port(), free_port()
        self.certificate = certify(directory)
        configuration = CONFIGURATION.read_text()
        for old, new in (
            (r"listen \[::\].*", ""),
            (r"listen 443", f"listen 127.0.0.1:{self.port}"),
            (r"listen 80", f"listen 127.0.0.1:{self.plain_port}"),
            (r"server 127\.0\.0\.1:8000", f"server 127.0.0.1:{port}"),
            (r"/etc/letsencrypt/live/panel\.example", str(directory)),
            (r"/var/(log/nginx|www)", str(directory)),
        ):
            configuration, count = re.subn(old, new, configuration)
            assert count, old
        user = "user root;" if os.geteuid() == 0 else ""  # others cannot reach the directories of pytest
        file = directory / "nginx.conf"
        file.write_text(FRAME.format(user=user, directory=directory, configuration=configuration))
        self.process = subprocess.Popen([program, "-c", str(file), "-p", str(directory)])
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.05)
        raise AssertionError("nginx does not answer")

    def request(self, method, path, body=None, *, name=NAME, **headers):
        """Send a request over TLS to the host ``name``. Returns the answer, which has been read."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10, context=context)
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as plain:
            connection.sock = context.wrap_socket(plain, server_hostname=name)
            headers = {"Host": f"{name}:{self.port}"} | headers
            connection.request(method, path, body and urlencode(body), headers)
            answer = connection.getresponse()
            answer.text = answer.read().decode()
            return answer

    def post(self, **fields):
        return self.request("POST", "/api/v2", fields, **{"Content-Type": "application/x-www-form-urlencoded"})

    @property
    def logs(self):
        return "".join(file.read_text() for file in self.directory.glob("*.log") if not file.name.startswith("server-"))


def certify(directory):
    """Write a certificate for NAME and its key, where the configuration looks for them. Returns the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)]), datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = directory / "fullchain.pem"
    file.write_bytes(certificate.public_bytes(Encoding.PEM))
    form = Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    (directory / "privkey.pem").write_bytes(key.private_bytes(*form))
    return file


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    """Return a function that starts nginx in front of a port."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("nginx is not installed")
    with contextlib.ExitStack() as stack:

        def start(port):
            started = Proxy(program, tmp_path_factory.mktemp("nginx"), port)
            stack.callback(started.process.wait, 10)
            stack.callback(started.process.terminate)
            return started

        yield start


@pytest.fixture(scope="module")
def served(django_db_setup, django_db_blocker, tmp_path_factory, proxy):
    """Return nginx in front of a server that has its settings for production."""
    hosts = f"{NAME},127.0.0.1"
    with django_db_blocker.unblock():
        server = Server(
            tmp_path_factory.mktemp("server"), TRUSTED_PROXIES="127.0.0.1/32", HTTPS="on", ALLOWED_HOSTS=hosts
        )
    front = proxy(server.port)
    yield front
    front.process.terminate()  # this also ends the idle connections, for which a stopping server would wait
    server.stop()


@pytest.fixture
def site(served, transactional_db):
    """Return the same, for a test that may write to the database."""
    return served


def test_requests_that_pass_are_answered_as_without_nginx(site):
    customer = new_customer()
    order = factories.Order(account=customer.account, status="pending")

    refused = site.post(key=customer.raw_key, action="refill", order=order.pk)
    too_large = site.post(key="x" * 100_000)
    far_too_large = site.post(key="x" * 4_000_000)
    unknown = site.request("GET", "/api/v2/nothing")

    assert refused.status == 400
    assert json.loads(refused.text) == {"error": "Refill only available for completed or partial orders"}
    for answer in (too_large, far_too_large):
        assert (answer.status, json.loads(answer.text)) == (413, {"error": "Request body too large"})
        assert answer.getheader("Content-Type") == "application/json"
        assert answer.getheader("X-Error-Code") == "body_too_large"
    assert json.loads(unknown.text) == {"error": "Not found"}


def test_a_form_is_accepted_at_a_port_of_its_own(site):
    """The Host has the port, and so does the Origin that browsers send."""
    page = site.request("GET", "/dashboard/sign-in/")
    cookie = page.getheader("Set-Cookie").split(";")[0]
    form = {"username": "x", "password": "y", "csrfmiddlewaretoken": cookie.partition("=")[2]}
    address = f"https://{NAME}:{site.port}"

    answer = site.request(
        "POST",
        "/dashboard/sign-in/",
        form,
        Cookie=cookie,
        Origin=address,
        Referer=f"{address}/dashboard/sign-in/",
        **{"Content-Type": "application/x-www-form-urlencoded"},
    )

    assert answer.status == 200
    assert page.getheader("Strict-Transport-Security") == "max-age=31536000"
    assert page.getheader("Server") == "nginx"


def test_requests_without_tls_are_redirected_to_it_with_their_method(site):
    answer = requests.post(
        f"http://127.0.0.1:{site.plain_port}/api/v2", headers={"Host": NAME}, timeout=10, allow_redirects=False
    )

    assert (answer.status_code, answer.headers["Location"]) == (308, f"https://{NAME}/api/v2")


def test_another_name_gets_no_answer(site):
    with pytest.raises(ssl.SSLError):
        site.request("GET", "/", name="other.example")
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{site.plain_port}/", timeout=10)


@pytest.mark.parametrize(
    ("path", "status"), [("/readyz", 404), ("/metrics", 404), ("/metrics/", 404), ("/healthz", 200)]
)
def test_what_is_for_operators_is_not_shown_outside(site, path, status):
    assert site.request("GET", path).status == status


def test_its_logs_hold_no_query_key_or_token(site):
    key = new_customer().raw_key
    paths = [f"/api/v2?key={key}", f"/{key}", "/dashboard/password/reset/MQ/t0k3n/", "/dashboard/email/confirm/t0k3n/"]

    for path in paths:
        site.request("GET", path, **{"X-Request-ID": "shop-42"})
    until(lambda: site.logs.count("shop-42") == len(paths))

    assert '"GET /api/v2"' in site.logs
    for secret in (key, "t0k3n", "?"):
        assert secret not in site.logs


def test_a_server_that_is_down_is_reported_in_json_and_logged_without_the_query(proxy):
    without_server = proxy(free_port())

    answer = without_server.request("POST", "/api/v2?key=s3cret", {"key": "s3cret"}, **{"X-Request-ID": "shop-42"})
    until(lambda: "shop-42" in without_server.logs)

    assert (answer.status, json.loads(answer.text)) == (503, {"error": "Service temporarily unavailable"})
    assert answer.getheader("Content-Type") == "application/json"
    assert answer.getheader("X-Error-Code") == "service_unavailable"
    assert answer.getheader("X-Request-ID") == "shop-42"
    assert int(answer.getheader("Retry-After")) > 0
    assert " 502 " in without_server.logs
    assert "s3cret" not in without_server.logs


def test_a_post_that_a_server_has_read_is_not_sent_again(proxy):
    """The server may have committed before it broke off."""
    received = []

    def break_off():
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client:
                    received.append(client.recv(4096))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=break_off)
        thread.start()
        answer = proxy(listener.getsockname()[1]).post(key="x")
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()

    assert answer.status == 503
    assert len(received) == 1


def test_its_connections_end_before_ours():
    seconds = int(re.search(r"keepalive_timeout (\d+)s", CONFIGURATION.read_text())[1])

    assert seconds < DRAIN
    assert seconds < IDLE_DEADLINE
