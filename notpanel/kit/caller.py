"""The caller of the API. ``apikeys`` finds the caller behind a key or refuses; the API counts and serves callers."""

from dataclasses import dataclass

from notpanel.kit.refusals import Refusal


@dataclass(frozen=True)
class Caller:
    """The account and the key that a request came with."""

    account_id: int
    tier: str
    api_key_id: int
    api_key_prefix: str
    limit_per_minute: int | None  # the key's own limit; None: the setting RATE_LIMIT_KEY


class InvalidApiKey(Refusal):
    message = "Invalid API key"
    cause = "The key is missing, unknown, revoked or expired, or may not be used from your address."


class AccountSuspended(Refusal):
    message = "Account suspended"
    cause = "The account that the key belongs to is not active."
