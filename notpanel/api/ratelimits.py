"""The three layers of rate limits, counted by django-ratelimit (docs/contract.md, "Rate limits").

A layer is a fixed window of a minute; the first one spent answers. Figures are requests per minute.
"""

import time
from dataclasses import dataclass, field

from django.conf import settings
from django.http import HttpRequest
from django_ratelimit.core import get_usage

from notpanel.api.errors import RateLimitExceeded
from notpanel.kit.addresses import Address, counted
from notpanel.kit.caller import Caller
from notpanel.kit.refusals import ServiceUnavailable


@dataclass(frozen=True)
class Usage:
    """One layer after a request was counted on it."""

    layer: str
    limit: int
    remaining: int
    reset: int  # Unix seconds: the first second of the next window
    spent: bool


@dataclass
class RateLimits:
    """The limits that one request has met so far."""

    request: HttpRequest
    usages: list[Usage] = field(default_factory=list)
    tier: Usage | None = None

    def count_address(self, address: Address | None) -> None:
        """Count the request on its address. Raises RateLimitExceeded."""
        self._deny_if_spent(self._usage("ip", counted(address), settings.RATE_LIMIT_IP))

    def count_caller(self, caller: Caller) -> None:
        """Count the request on its key, then on the account of the key. Raises RateLimitExceeded."""
        account, tier_limit = str(caller.account_id), settings.RATE_LIMIT_TIERS[caller.tier]
        key = self._usage("key", str(caller.api_key_id), caller.limit_per_minute or settings.RATE_LIMIT_KEY)
        if key.spent:  # the tier is only looked at, for its header
            self.tier = self._usage("tier", account, tier_limit, count=False)
        self._deny_if_spent(key)
        self.tier = self._usage("tier", account, tier_limit)
        self._deny_if_spent(self.tier)

    def headers(self) -> dict[str, str]:
        """Return the X-RateLimit headers: the layer with the least left, and what is left of the tier."""
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

    def _usage(self, layer: str, value: str, limit: int, *, count: bool = True) -> Usage:
        counted = get_usage(
            self.request, group=f"api:{layer}", key=lambda group, request: value, rate=(limit, 60), increment=count
        )
        if counted is None or (counted["time_left"] < 0 and not counted["count"]):
            raise ServiceUnavailable  # the counter could not be kept: no answer is better than no limit
        # A window of django-ratelimit includes the second in which it ends, so the next begins one later.
        # It may end while it is being counted: then no time is left.
        seconds = max(counted["time_left"], 0) + 1
        usage = Usage(
            layer=layer,
            limit=limit,
            remaining=max(limit - counted["count"], 0),
            reset=int(time.time()) + seconds,
            spent=counted["should_limit"],
        )
        if count:
            self.usages.append(usage)
        return usage

    def _deny_if_spent(self, usage: Usage) -> None:
        if usage.spent:
            wait = max(usage.reset - int(time.time()), 1)
            raise RateLimitExceeded(denied_by=usage.layer, retry_after=wait)
