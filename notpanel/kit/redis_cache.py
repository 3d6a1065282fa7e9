"""Django's cache in Redis, for hints, which can be done without."""

from collections.abc import Callable
from typing import Any, TypeVar

from django.core.cache.backends.base import DEFAULT_TIMEOUT
from django.core.cache.backends.redis import RedisCache

from notpanel.kit.redis_outages import LOST, RECONNECT, outages_of

T = TypeVar("T")


class ForgetfulCache(RedisCache):
    """While Redis is down it holds nothing and keeps nothing, so that pages which use it are shown all the same."""

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        options = params.get("OPTIONS", {})
        super().__init__(server, params | {"OPTIONS": options | {"retry": RECONNECT}})
        self._outages = outages_of(server, options)

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        return self._unless_down(lambda: super(ForgetfulCache, self).get(key, default, version), default)

    def set(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        self._unless_down(lambda: super(ForgetfulCache, self).set(key, value, timeout, version), None)

    def add(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        return self._unless_down(lambda: super(ForgetfulCache, self).add(key, value, timeout, version), True)

    def delete(self, key: str, version: int | None = None) -> bool:
        return self._unless_down(lambda: super(ForgetfulCache, self).delete(key, version), False)

    def _unless_down(self, ask: Callable[[], T], otherwise: T) -> T:
        if self._outages.is_under_way:
            return otherwise
        try:
            return ask()
        except LOST as error:
            self._outages.begin(error)
            return otherwise
