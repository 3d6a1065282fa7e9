"""Outages of Redis: each is noticed once, waited for by no request, and ended by a probe of its own.

The counters of the rate limits and the cache share what is known.
"""

import logging
import threading
import time
from contextlib import suppress
from typing import Any

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from notpanel.kit.circuit_breaker import CircuitBreaker

logger = logging.getLogger(__name__)

PAUSE = 1.0  # seconds between two probes
LOST = (redis.ConnectionError, redis.TimeoutError)  # the errors of a Redis that does not answer
# Redis may have closed the connection since the last request. One that lets us wait is not asked twice.
RECONNECT = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))


class Outages:
    """Knows, for all threads of this process, whether a Redis answers. A thread of its own probes one that does not.

    So no request is a probe: one that comes while Redis is down does not wait for it.
    """

    def __init__(self, server: str, options: dict[str, Any]) -> None:
        self._breaker = CircuitBreaker(PAUSE, "redis")
        self._client = redis.Redis.from_url(server, retry=Retry(NoBackoff(), 0), **options)
        self._beginning = threading.Lock()

    @property
    def is_under_way(self) -> bool:
        """Return whether Redis has failed to answer, and has not answered since."""
        return self._breaker.is_open

    def begin(self, error: Exception) -> None:
        """Note that Redis has not answered, with the error, and let a thread wait until it does."""
        with self._beginning:
            if self._breaker.is_open:
                return
            self._breaker.trip()
        what = "each process counts by itself" if settings.REDIS_DOWN == "open" else "requests are refused"
        logger.error("Redis does not answer, so %s until it does: %s", what, error)
        threading.Thread(target=self._wait_for_end, name="redis-probe", daemon=True).start()

    def _wait_for_end(self) -> None:
        while self._breaker.is_open:
            time.sleep(PAUSE)
            with suppress(redis.RedisError):
                self._client.ping()
                self._breaker.reset()
        self._client.close()
        logger.warning("Redis answers again.")


_outages: dict[str, Outages] = {}  # by server


def outages_of(server: str, options: dict[str, Any]) -> Outages:
    """Return what is known of the Redis at ``server``, a URL. ``options`` are those of its clients."""
    return _outages.setdefault(server, Outages(server, options))
