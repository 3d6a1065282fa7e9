"""Count each request on three layers of rate limits, with django-ratelimit (docs/contract.md, "Rate limits").

Each layer counts in fixed windows of a minute. The first layer that is spent refuses the request.
"""

import math
import time
from dataclasses import dataclass, field

from django.conf import settings
from django.http import HttpRequest
from django_ratelimit.core import get_usage

from notpanel.api.errors import RateLimitExceeded
from notpanel.kit.addresses import Address, counted
from notpanel.kit.caller import Caller, PanelCaller
from notpanel.kit.refusals import ServiceUnavailable


@dataclass(frozen=True)
class Usage:
    """The state of one layer after a request was counted on it."""

    layer: str
    limit: int  # requests per minute
    remaining: int  # requests
    reset: int  # the first second of the next window, in Unix seconds
    spent: bool  # this request was one too many


def key_limit(tier: str, own: int | None = None) -> int:
    """Return the requests per minute of a key: its own limit if it has one, or that of its account's tier."""
    return own or settings.RATE_LIMIT_KEYS[tier]


def met_first(tier: str) -> str:
    """Return the layer that first refuses a program with one key and one address. Of equal limits, it is the first."""
    limits = {"ip": settings.RATE_LIMIT_IP, "key": key_limit(tier), "tier": settings.RATE_LIMIT_TIERS[tier]}
    return min(limits, key=lambda layer: limits[layer])


def reached_with(tier: str) -> tuple[int, int]:
    """Return the fewest keys and the fewest addresses with which an account can spend the limit of its tier."""
    limit = settings.RATE_LIMIT_TIERS[tier]
    return math.ceil(limit / key_limit(tier)), math.ceil(limit / settings.RATE_LIMIT_IP)


@dataclass
class RateLimits:
    """The layers on which one request was counted so far."""

    request: HttpRequest
    usages: list[Usage] = field(default_factory=list)
    tier: Usage | None = None

    def count_address(self, address: Address | None) -> None:
        """Count the request on its address. Raises RateLimitExceeded."""
        self._deny_if_spent(self._usage("ip", counted(address), settings.RATE_LIMIT_IP))

    def count_caller(self, caller: Caller, *, count: bool = True) -> None:
        """Count the request on its key, then on the tier of its account. Raises RateLimitExceeded.

        If ``count`` is false, only read what the tier has left.
        """
        if not count:
            self.tier = self._tier_usage(caller.account_id, caller.tier, count=False)
            return
        key = self._usage("key", str(caller.api_key_id), key_limit(caller.tier, caller.limit_per_minute))
        if key.spent:  # then it does not count on the tier, but a header still says what is left there
            self.tier = self._tier_usage(caller.account_id, caller.tier, count=False)
        self._deny_if_spent(key)
        self.count_account(caller.account_id, caller.tier)

    def count_panel(self, caller: PanelCaller) -> None:
        """Count the request on the panel's key, which has a layer of its own. Raises RateLimitExceeded."""
        limit = caller.limit_per_minute or settings.PANEL_RATE_LIMIT
        self._deny_if_spent(self._usage("panel", str(caller.panel_key_id), limit))

    def count_account(self, account_id: int, tier: str) -> None:
        """Count the request on the tier of its account. Raises RateLimitExceeded."""
        self.tier = self._tier_usage(account_id, tier)
        self._deny_if_spent(self.tier)

    def headers(self) -> dict[str, str]:
        """Return the X-RateLimit headers: they tell of the layer that has the least left, and of the tier."""
        if not self.usages:
            return {}
        least = min(self.usages, key=lambda usage: usage.remaining)
        headers = {
            "X-RateLimit-Limit": str(least.limit),
            "X-RateLimit-Remaining": str(least.remaining),
            "X-RateLimit-Reset": str(least.reset),
        }
        if self.tier:
            headers["X-RateLimit-Tier-Remaining"] = str(self.tier.remaining)
        return headers

    def _tier_usage(self, account_id: int, tier: str, *, count: bool = True) -> Usage:
        return self._usage("tier", str(account_id), settings.RATE_LIMIT_TIERS[tier], count=count)

    def _usage(self, layer: str, value: str, limit: int, *, count: bool = True) -> Usage:
        """Return the state of a layer for ``value``. Counts the request on it unless ``count`` is False."""
        found = get_usage(
            self.request, group=f"api:{layer}", key=lambda group, request: value, rate=(limit, 60), increment=count
        )
        if found is None or (found["time_left"] < 0 and not found["count"]):
            raise ServiceUnavailable  # django-ratelimit could not count, and no request passes uncounted
        # To django-ratelimit a window includes the second in which it ends, so the next window begins a second later.
        # If the window ended while the request was being counted, time_left is negative.
        seconds = max(found["time_left"], 0) + 1
        usage = Usage(
            layer=layer,
            limit=limit,
            remaining=max(limit - found["count"], 0),
            reset=int(time.time()) + seconds,
            spent=found["should_limit"],
        )
        if count:
            self.usages.append(usage)
        return usage

    def _deny_if_spent(self, usage: Usage) -> None:
        if usage.spent:
            wait = max(usage.reset - int(time.time()), 1)
            raise RateLimitExceeded(denied_by=usage.layer, retry_after=wait)
