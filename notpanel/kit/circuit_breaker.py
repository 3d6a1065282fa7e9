"""A circuit breaker: after a failure, leave what failed alone for a while, then let one caller try it again."""

import time


class CircuitBreaker:
    """Guards one thing that may fail, for all threads of this process.

    Closed, it lets everybody through. ``trip`` opens it: for ``rest`` seconds nobody gets through. After that one
    caller does, as a probe; the others stay out until the probe calls ``reset``, or for another ``rest`` seconds.
    """

    def __init__(self, rest: float) -> None:
        self.rest = rest
        self._open_until = 0.0  # of time.monotonic(); 0: closed

    def lets_through(self) -> bool:
        """Return whether the caller may try. If the breaker was open, the caller is the probe."""
        if not self._open_until:
            return True
        now = time.monotonic()
        if now < self._open_until:
            return False
        self._open_until = now + self.rest  # the others do not wait with the probe
        return True

    @property
    def is_open(self) -> bool:
        """Return whether a failure was seen and no success since."""
        return bool(self._open_until)

    def trip(self) -> None:
        """Open: it failed."""
        self._open_until = time.monotonic() + self.rest

    def reset(self) -> None:
        """Close: it works."""
        self._open_until = 0.0
