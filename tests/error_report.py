"""Fail in a view of the API, with secrets in everything that a client sends. Print the envelope that Sentry would get.

tests/notpanel/test_error_reports.py runs this in a process of its own: Sentry's client patches Django for good.
"""

import os
import sys
from unittest.mock import patch
from urllib.parse import urlencode

import django
import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

import tests.environment  # noqa: F401  # before the settings are read

os.environ["DJANGO_SETTINGS_MODULE"] = "notpanel.settings"
django.setup()

KEY = "np_" + "Ab9_-" * 8 + "xyz"
SECRETS = {"key": KEY, "email": "anna@mail.example", "password": "correct-horse-battery"}


class Printed(Transport):
    def capture_envelope(self, envelope: Envelope) -> None:
        sys.stdout.write(envelope.serialize().decode() + "\n")


def main(failing: str) -> None:
    from django.db import OperationalError
    from django.test import Client

    from notpanel import error_reports

    def fail(*args: object, **kwargs: object) -> None:
        secret, everything = KEY, dict(SECRETS)  # noqa: F841  # locals, which a report could show
        raise {"bug": ValueError, "outage": OperationalError}[failing](f"of {KEY}, {SECRETS['email']}")

    error_reports.start("https://public@sentry.example/1", transport=Printed)
    with patch("apikeys.keys.fetch", fail):
        Client(raise_request_exception=False).post(
            f"/api/v2?{urlencode(SECRETS)}",
            urlencode(SECRETS | {"action": "refill"}),
            content_type="application/x-www-form-urlencoded",
            headers={
                "Authorization": f"Bearer {KEY}",
                "Cookie": f"sessionid={SECRETS['password']}",
                "User-Agent": SECRETS["email"],
                "Referer": f"https://shop.example/{SECRETS['password']}",
                "X-Request-ID": "shop-42",
                "Host": "localhost",
                "Sentry-Trace": "0123456789abcdef0123456789abcdef-0123456789abcdef-1",
                "Baggage": f"sentry-user_id={KEY},sentry-environment={SECRETS['password']}",
            },
        )
    sentry_sdk.flush()


if __name__ == "__main__":
    main(sys.argv[1])
