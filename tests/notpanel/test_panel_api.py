"""docs/panel-api.md, as printed, against a running server; and how large a body that server takes."""

import http.client
import json
import re
import shutil
import socket
import subprocess
import time

import pytest
import requests
from django.core.management import call_command

from notpanel.api import errors
from notpanel.api.bodies import LARGEST_FILE
from notpanel.api.panel import BadOption, UnknownOption
from notpanel.kit.refusals import BadFile
from notpanel.server import slow_clients
from orders.models import Order
from tests import factories
from tests.server import BASE_DIR, MARKS

PAGE = (BASE_DIR / "docs" / "panel-api.md").read_text()
ACCOUNTS = b"username,email\nshop,shop@example.com\n"

pytestmark = MARKS


@pytest.fixture
def key(transactional_db, capsys):
    """Return a key that the page's command makes, for this machine."""
    [arguments] = re.findall(r"^manage\.py (createpanelkey .*)$", PAGE, re.MULTILINE)
    call_command(*arguments.replace("203.0.113.0/24", "127.0.0.1").split())
    return capsys.readouterr().out.strip()


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
@pytest.mark.parametrize("file", ["CSV", "JSON"])
def test_the_printed_curl_line_runs_and_so_does_the_printed_row(server, key, tmp_path, file):
    factories.Service(id=1)
    factories.Account(username="shop")
    [row] = re.findall(r'^\{"number.*\}$', PAGE, re.MULTILINE)
    cells = json.loads(row)
    csv = f"{','.join(cells)}\n{','.join(map(str, cells.values()))}\n"
    (tmp_path / "orders.csv").write_text(row if file == "JSON" else csv)
    [line] = re.findall(r"^curl .*$", PAGE, re.MULTILINE)

    run = subprocess.run(
        ["sh", "-c", line.replace("https://desk.example", server).replace("curl", "curl -sS")],
        cwd=tmp_path,
        env={"PANEL_KEY": key, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )

    [answer] = re.findall(r'`(\{"created".*?\})`', PAGE)
    assert json.loads(run.stdout) == dict.fromkeys(json.loads(answer), 0) | {"created": 1, "dry_run": False}
    assert Order.objects.get().status == "in_progress"


def send(server, path, body, key, **headers):
    return requests.post(f"{server}{path}", data=body, headers={"Authorization": f"Bearer {key}"} | headers, timeout=60)


def test_a_file_of_ten_mebibytes_is_taken_and_a_byte_more_is_not(server, key):
    def padded(size):
        return ACCOUNTS + b"\n" * (size - len(ACCOUNTS))

    assert send(server, "/api/panel/accounts", padded(LARGEST_FILE), key).status_code == 200
    too_large = send(server, "/api/panel/accounts", padded(LARGEST_FILE + 1), key)
    assert (too_large.status_code, too_large.json()) == (413, {"error": "Request body too large"})


@pytest.mark.parametrize("path", ["/api/v2", "/api/panel/refills", "/dashboard/", "/api/panel/orders/../../v2"])
def test_no_other_address_takes_more_than_before(server, key, path):
    """The server refuses the body by its length, before it has arrived."""
    connection = http.client.HTTPConnection(server.removeprefix("http://"), timeout=10)
    connection.putrequest("POST", path)
    connection.putheader("Content-Length", str(slow_clients.LARGEST_BODY))
    connection.endheaders()

    response = connection.getresponse()

    assert (response.status, json.load(response)) == (413, {"error": "Request body too large"})


def test_a_file_in_chunks_is_taken_too(server, key):
    chunks = iter([ACCOUNTS[:10], ACCOUNTS[10:], b"\n" * (2 * 1024 * 1024)])

    assert send(server, "/api/panel/accounts", chunks, key).json()["created"] == 1


def test_a_file_must_come_as_quickly_as_any_other_body(monkeypatch):
    """A larger body does not get a longer deadline."""
    parser = slow_clients.Parser(_adjustments())
    parser.received(b"POST /api/panel/orders HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n")
    channel = slow_clients.Channel.__new__(slow_clients.Channel)
    channel.lingering_since, channel.requests, channel.reading = 0.0, [], parser
    channel.total_outbufs_len, channel.waiting_since = 0, time.monotonic()

    assert parser.error is None
    assert not channel.is_overdue(time.monotonic() + slow_clients.BODY_DEADLINE - 1)
    assert channel.is_overdue(time.monotonic() + slow_clients.BODY_DEADLINE + 1)


def _adjustments():
    from waitress.adjustments import Adjustments

    with socket.create_server(("127.0.0.1", 0)) as listener:
        return Adjustments(sockets=[listener], max_request_body_size=slow_clients.LARGEST_BODY)


def test_the_page_has_every_error_and_every_limit(settings):
    table = "".join(re.findall(r"^\| \d.*\n", PAGE, re.MULTILINE))

    for error in (BadFile, UnknownOption, BadOption):
        assert f"`{error.code()}`" in table
    for error in (
        errors.MalformedBody,
        errors.NotFound,
        errors.MethodNotAllowed,
        errors.BodyTooLarge,
        errors.UnsupportedContentEncoding,
        errors.UnsupportedMediaType,
        errors.RateLimitExceeded,
    ):
        assert f"`{error.message}`" in table
    assert f"{LARGEST_FILE // 1024**2} MiB" in PAGE
    assert f"within {slow_clients.BODY_DEADLINE} seconds" in PAGE
    assert f"`PANEL_RATE_LIMIT` ({settings.PANEL_RATE_LIMIT})" in PAGE
