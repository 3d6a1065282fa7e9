"""The counters of django-ratelimit in Redis, each of its questions in one round trip."""

from typing import Any

import redis
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from redis.backoff import NoBackoff
from redis.retry import Retry

# Adds to a counter, which lives for as long as its window and a little longer. Returns where it stands.
_COUNT = """
local count = redis.call("INCRBY", KEYS[1], ARGV[1])
if count == tonumber(ARGV[1]) then redis.call("EXPIRE", KEYS[1], ARGV[2]) end
return count
"""


class RedisCounters(BaseCache):
    """A cache backend for RATELIMIT_USE_CACHE and for nothing else: its add() counts.

    django-ratelimit asks a cache to add a counter and, if there is one already, to increment it (or, where it only
    looks, to get it). Here the first question does both, and the second tells what it found. Django keeps an object
    of this class for each thread, so that each thread has a connection of its own, and its own answer in mind.
    """

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        super().__init__(params)
        self._client = redis.Redis.from_url(
            server,
            single_connection_client=True,
            retry=Retry(NoBackoff(), 1),  # a connection may have been closed since the last request
            **params.get("OPTIONS", {}),
        )
        self._count = self._client.register_script(_COUNT)
        self._found = ("", 0)

    def add(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Add ``value`` to the counter. Returns False if it was there before; then incr() and get() tell it."""
        count = self._count([self.make_key(key, version)], [value, timeout])
        self._found = (key, int(count))
        return bool(count == value)

    def incr(self, key: str, delta: int = 1, version: int | None = None) -> int:
        """Return the count that add() has just made."""
        return self._just_found(key)

    def get(self, key: str, default: Any = None, version: int | None = None) -> int:
        """Return the count that add() has just seen."""
        return self._just_found(key)

    def _just_found(self, key: str) -> int:
        found, count = self._found
        if found != key:
            raise ValueError(f"{key} was not added just before")  # django-ratelimit takes it for a failed cache
        return count
