"""Secrets of webhooks, and the headers with which a delivery is signed (Standard Webhooks 1.0)."""

import base64
import secrets as random
from collections.abc import Iterable
from datetime import UTC, datetime

from standardwebhooks.webhooks import Webhook

SECRET_BYTES = 32


def new_secret() -> str:
    """Return a new secret, as its owner sees it once."""
    return f"whsec_{base64.b64encode(random.token_bytes(SECRET_BYTES)).decode()}"


def signed_headers(secrets: Iterable[str], message_id: str, now: datetime, body: str) -> dict[str, str]:
    """Return the headers of an attempt that is made now, with a signature by each of the secrets."""
    now = now.astimezone(UTC)  # the library reads the clock time as UTC, whatever its zone
    return {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(Webhook(secret).sign(message_id, now, body) for secret in secrets),
    }
