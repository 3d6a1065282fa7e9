"""A circuit breaker: after a failure, leave what failed alone for a while, then let one caller try it again."""

import time


class CircuitBreaker:
    """Guards one thing that may fail, for all threads of this process.

    While closed, it lets every caller through. ``trip`` opens it: for ``rest`` seconds it lets nobody through. Then
    it lets one caller through as a probe. The others stay out until the probe calls ``reset``; if that does not happen
    within another ``rest`` seconds, the next caller is the probe.
    """

    def __init__(self, rest: float) -> None:
        self.rest = rest
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
        self._open_until = time.monotonic() + self.rest

    def reset(self) -> None:
        """Close the breaker, after a success."""
        self._open_until = 0.0
