"""What Sentry would be sent about an error, caught in the transport of its client (tests/error_report.py)."""

import json
import subprocess
import sys
from pathlib import Path

from tests.error_report import KEY, SECRETS

ROOT = Path(__file__).resolve().parent.parent.parent


def report(failing):
    """Return the envelope, "" if none would be sent, and what is in the log."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.error_report", failing], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout, done.stderr


def test_a_bug_is_reported_without_anything_that_the_client_sent():
    envelope, log = report("bug")

    *_, event = (json.loads(line) for line in envelope.splitlines() if line)
    [exception] = event["exception"]["values"]
    assert (exception["type"], exception["value"]) == ("ValueError", "of np_…, …")
    assert "identify_caller" in [frame["function"] for frame in exception["stacktrace"]["frames"]]
    assert event["tags"] == {"request_id": "shop-42"}
    assert not {"request", "user", "extra"} & event.keys()
    for secret in (KEY[3:], KEY[:11], *SECRETS.values()):
        assert secret not in envelope
        assert secret not in log


def test_an_outage_is_not_reported():
    assert report("outage")[0] == ""


def test_nothing_of_sentry_is_loaded_without_a_dsn():
    program = "import django, sys; django.setup(); import notpanel.urls; sys.exit('sentry_sdk' in sys.modules)"
    environment = {"DJANGO_SETTINGS_MODULE": "notpanel.settings", "SECRET_KEY": "x", "SENTRY_DSN": ""}

    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment).returncode == 0
