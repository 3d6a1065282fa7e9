"""A circuit breaker: after a failure, leave what failed alone for a while, then let one caller try it again."""

import time

from notpanel.kit import metrics

_NAMES = ("redis", "replica")
OPEN = metrics.gauge("notpanel_breaker_open", "1 if a process leaves it alone because it failed.", "livemax", of=_NAMES)
OPENED = metrics.counter("notpanel_breaker_openings", "How often a process found that it failed.", of=_NAMES)


class CircuitBreaker:
    """Guards one thing that may fail, for all threads of this process. The metrics call it ``name``.

    While closed, it lets every caller through. ``trip`` opens it: for ``rest`` seconds it lets nobody through. Then
    it lets one caller through as a probe. The others stay out until the probe calls ``reset``; if that does not happen
    within another ``rest`` seconds, the next caller is the probe.
    """

    def __init__(self, rest: float, name: str) -> None:
        self.rest, self._name = rest, name
        self._open_until = 0.0  # of time.monotonic(); 0: closed

    def lets_through(self) -> bool:
        """Return whether the caller may try. If the breaker is open, that caller is the probe."""
        if not self._open_until:
            return True
        now = time.monotonic()
        if now < self._open_until:
            return False
        self._open_until = now + self.rest  # so that nobody else waits while the probe does
        return True

    @property
    def is_open(self) -> bool:
        """Return whether there was a failure, and no success since."""
        return bool(self._open_until)

    def trip(self) -> None:
        """Open the breaker, after a failure."""
        if not self.is_open:
            OPENED.labels(self._name).inc()
            OPEN.labels(self._name).set(1)
        self._open_until = time.monotonic() + self.rest

    def reset(self) -> None:
        """Close the breaker, after a success."""
        if self.is_open:
            OPEN.labels(self._name).set(0)
        self._open_until = 0.0
