"""The counters of django-ratelimit in Redis, each counted in a single round trip."""

import hashlib
from typing import Any

import redis
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError
from redis.retry import Retry

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


class RedisCounters(BaseCache):
    """A cache backend for RATELIMIT_USE_CACHE, and for nothing else: its add() does not only add, it counts.

    django-ratelimit calls add() to create a counter. If the counter exists, it then calls incr(), or get() where it
    only looks. Here add() creates or increments in one round trip and keeps the result; incr() and get() return it
    without asking Redis again. That is safe because Django makes an instance for each thread.
    """

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        super().__init__(params)
        self._client = redis.Redis.from_url(
            server,
            single_connection_client=True,
            retry=Retry(NoBackoff(), 1),  # Redis may have closed the connection since the last request
            **params.get("OPTIONS", {}),
        )
        self._latest = ("", 0)  # the key that add() counted last, and its count

    def add(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Add ``value`` to the counter. Returns True if the counter is new."""
        command = _pack(self.make_key(key, version), value, timeout)
        try:
            count = self._ask(command)
        except NoScriptError:  # Redis is another one, or was started again
            self._client.script_load(_ADD_AND_RETURN)
            count = self._ask(command)
        self._latest = (key, count)
        return bool(count == value)

    def incr(self, key: str, delta: int = 1, version: int | None = None) -> int:
        """Return the count after the add() just before, which incremented it already."""
        return self._latest_count(key)

    def get(self, key: str, default: Any = None, version: int | None = None) -> int:
        """Return the count after the add() just before."""
        return self._latest_count(key)

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


def _pack(key: str, *arguments: Any) -> bytes:
    """Return the command in Redis's protocol, as redis-py would pack it."""
    parts = [part.encode() for part in (key, *map(str, arguments))]
    return _COMMAND + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
