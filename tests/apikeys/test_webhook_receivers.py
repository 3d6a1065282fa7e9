"""The programs that the developers' pages print receive real deliveries, and refuse what we did not sign."""

import os
import shutil
import subprocess
import time
from datetime import timedelta

import pytest
import requests
from django.utils import timezone

from apikeys.models import WebhookDelivery
from apikeys.webhooks import delivering
from apikeys.webhooks.endpoints import rotate_secret
from apikeys.webhooks.signing import new_secret, signed_headers
from notpanel.api.examples import EXTENSIONS, RECEIVERS, printed
from tests import factories
from tests.coroutines import run
from tests.server import free_port

pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "whsec_" + "c2VjcmV0" * 4
# The command that runs each file on a port. PHP's server gets the port as an argument, the others read it.
RUN = {
    "JavaScript": ["node", "{file}"],
    "Python": ["python3", "{file}"],
    "PHP": ["php", "-S", "127.0.0.1:{port}", "{file}"],
    "Ruby": ["ruby", "{file}"],
}


@pytest.fixture(params=RUN)
def receiver(request, tmp_path, monkeypatch):
    """Run the program of a language as it is printed. Returns its URL."""
    program = RUN[request.param]
    if shutil.which(program[0]) is None:
        pytest.skip(f"{program[0]} is not installed")
    monkeypatch.setattr(delivering, "LINGER", 0.0)
    file, port = tmp_path / f"receiver.{EXTENSIONS[request.param]}", free_port()
    file.write_text(printed(RECEIVERS)[request.param])
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [part.format(file=file, port=port) for part in program],
            env=os.environ | {"WEBHOOK_SECRET": SECRET, "PORT": str(port)},
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}/hook"
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                requests.post(url, data=b"{}", timeout=5)
                break
            except requests.ConnectionError:
                assert process.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def status_of(url, headers, body):
    return requests.post(url, data=body.encode(), headers=headers, timeout=5).status_code


def test_a_receiver_accepts_what_is_delivered_and_nothing_else(receiver, settings):
    settings.WEBHOOK_LOOPBACK = True
    endpoint = factories.WebhookEndpoint(url=receiver)
    now = timezone.now()
    body = '{"type":"refill.rejected","timestamp":"2026-05-01T12:00:00.000Z","data":{"reason":"Nothing – dropped."}}'
    for is_rotated in (False, True):
        if is_rotated:  # both secrets sign; the program knows the old one
            rotate_secret(endpoint.account_id, endpoint.pk, "first")
        WebhookDelivery.objects.create(
            endpoint=endpoint, type="refill.rejected", body=body, created_at=now, state="waiting", next_at=now
        )
        run(delivering.deliver())

    assert list(WebhookDelivery.objects.values_list("status", "state")) == [(204, "delivered")] * 2
    good = signed_headers([SECRET], "msg_1", now, body)
    assert status_of(receiver, good, body) == 204
    assert status_of(receiver, signed_headers([new_secret(), SECRET], "msg_1", now, body), body) == 204
    for headers, sent in (
        (good, body.replace("rejected", "approved")),
        (good | {"webhook-id": "msg_2"}, body),
        (good | {"webhook-timestamp": str(int(good["webhook-timestamp"]) + 1)}, body),
        (good | {"webhook-signature": good["webhook-signature"].replace("v1,", "v2,")}, body),
        (good | {"webhook-signature": "v1,"}, body),
        (good | {"webhook-signature": ""}, body),
        (signed_headers([new_secret()], "msg_1", now, body), body),
        (signed_headers([SECRET], "msg_1", now - timedelta(minutes=6), body), body),
        (signed_headers([SECRET], "msg_1", now + timedelta(minutes=6), body), body),
        ({}, body),
    ):
        assert status_of(receiver, headers, sent) == 400
