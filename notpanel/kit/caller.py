"""The caller of the API. ``apikeys`` finds the caller behind a key or refuses; the API counts and serves callers."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Caller:
    """The account and the key that a request came with."""

    account_id: int
    tier: str
    api_key_id: int
    api_key_prefix: str
    limit_per_minute: int | None  # the key's own limit; None: that of its tier
    read_only: bool = False  # it may read everything, and change nothing
    answers: str = "notpanel"  # the name of the dialect in which it is answered


@dataclass(frozen=True)
class PanelCaller:
    """The panel, by the key with which it sends a file."""

    panel_key_id: int
    prefix: str
    limit_per_minute: int | None  # the key's own limit; None: the setting PANEL_RATE_LIMIT
