"""The counters of django-ratelimit in Redis, each counted in a single round trip.

REDIS_DOWN says what happens while Redis does not answer (docs/decisions/0007-503-when-redis-is-down.md).
"""

import hashlib
from contextlib import suppress
from functools import cache, cached_property
from typing import Any

import redis
from django.conf import settings
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.core.cache.backends.locmem import LocMemCache
from redis.exceptions import NoScriptError

from notpanel.kit.redis_outages import LOST, RECONNECT, outages_of

# Adds to a counter and returns its new value. A new counter gets the expiry that django-ratelimit asks for: a little
# more than its window.
_ADD_AND_RETURN = """
local count = redis.call("INCRBY", KEYS[1], ARGV[1])
if count == tonumber(ARGV[1]) then redis.call("EXPIRE", KEYS[1], ARGV[2]) end
return count
"""
# The constant part of the command that runs it: EVALSHA with the script's digest and one key, of six parts in all.
_COMMAND = (
    "*6\r\n$7\r\nEVALSHA\r\n"
    f"$40\r\n{hashlib.sha1(_ADD_AND_RETURN.encode(), usedforsecurity=False).hexdigest()}\r\n"
    "$1\r\n1\r\n"
).encode()


@cache
def _memory() -> LocMemCache:
    """Return the counters of this process, for when Redis is down."""
    # Django's default of 300 entries would evict counters in a busy minute.
    return LocMemCache("counters-without-redis", {"OPTIONS": {"MAX_ENTRIES": 100_000}})


class RedisCounters(BaseCache):
    """A cache backend for RATELIMIT_USE_CACHE, and for nothing else: its add() does not only add, it counts.

    django-ratelimit calls add() to create a counter. If the counter exists, it then calls incr(), or get() where it
    only looks. Here add() creates or increments in one round trip and keeps the result; incr() and get() return it
    without asking Redis again. That is safe because Django makes an instance for each thread.
    """

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        super().__init__(params)
        self._server, self._options = server, params.get("OPTIONS", {})
        self._outages = outages_of(server, self._options)
        self._latest = ("", 0)  # the key that add() counted last, and its count

    @cached_property
    def _client(self) -> redis.Redis:
        """Return the client, which connects as it is made."""
        return redis.Redis.from_url(self._server, single_connection_client=True, retry=RECONNECT, **self._options)

    def add(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Add ``value`` to the counter. Returns True if the counter is new. Raises redis.RedisError."""
        count = self._count(self.make_key(key, version), value, timeout)
        self._latest = (key, count)
        return bool(count == value)

    def incr(self, key: str, delta: int = 1, version: int | None = None) -> int:
        """Return the count after the add() just before, which incremented it already."""
        return self._latest_count(key)

    def get(self, key: str, default: Any = None, version: int | None = None) -> int:
        """Return the count after the add() just before."""
        return self._latest_count(key)

    def _count(self, key: str, value: int, timeout: Any) -> int:
        """Return the new value of the counter, in Redis or, while Redis is down and REDIS_DOWN is open, in memory."""
        if not self._outages.is_under_way:
            try:
                return self._count_in_redis(_pack(key, value, timeout))
            except LOST as error:
                self._outages.begin(error)
                if settings.REDIS_DOWN == "closed":
                    raise
        elif settings.REDIS_DOWN == "closed":
            raise redis.ConnectionError("Redis is down: no request asks it until it answers a probe.")
        return _count_in_memory(key, value, timeout)

    def _count_in_redis(self, command: bytes) -> int:
        try:
            return self._ask(command)
        except NoScriptError:  # this is another Redis, or it was restarted
            self._client.script_load(_ADD_AND_RETURN)
            return self._ask(command)

    def _ask(self, command: bytes) -> int:
        """Send a packed command on the client's connection, as the client would, and return the answer."""
        connection: Any = self._client.connection

        def ask() -> int:
            connection.send_packed_command([command])
            return int(connection.read_response())

        answer: int = connection.retry.call_with_retry(ask, lambda error: connection.disconnect())
        return answer

    def _latest_count(self, key: str) -> int:
        latest_key, count = self._latest
        if latest_key != key:
            raise ValueError(f"{key} is not the counter that was added last")  # to django-ratelimit, a failed cache
        return count


def _count_in_memory(key: str, value: int, timeout: Any) -> int:
    while not _memory().add(key, value, timeout):
        with suppress(ValueError):  # the counter has expired meanwhile
            return int(_memory().incr(key, value))
    return value


def _pack(key: str, *arguments: Any) -> bytes:
    """Return the command in Redis's protocol, as redis-py would pack it."""
    parts = [part.encode() for part in (key, *map(str, arguments))]
    return _COMMAND + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
