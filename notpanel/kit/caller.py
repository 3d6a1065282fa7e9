"""Who calls the API. ``apikeys`` finds the caller behind a key or raises a refusal; the API counts and serves them."""

from dataclasses import dataclass

from notpanel.kit.refusals import Refusal


@dataclass(frozen=True)
class Caller:
    """The account behind a valid key, and the key."""

    account_id: int
    tier: str
    api_key_id: int
    api_key_prefix: str
    limit_per_minute: int | None  # the key's own limit; None: the setting's


class InvalidApiKey(Refusal):
    message = "Invalid API key"
    cause = "The key is missing, unknown, revoked or expired, or may not be used from your address."


class AccountSuspended(Refusal):
    message = "Account suspended"
    cause = "The account that the key belongs to is not active."
