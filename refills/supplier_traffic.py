"""How often a supplier is asked: the limit per minute, and the circuit breaker, which leaves a failing one alone."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeGuard, TypeVar

from django.utils import timezone

from orders.models import Supplier
from refills import metrics, supplier_api, supplier_lanes
from refills.models import SupplierState
from refills.supplier_answers import NotDone, Unclear

PATIENCE = 3  # failures in a row after which a supplier rests
SHORTEST_REST, LONGEST_REST = timedelta(seconds=30), timedelta(minutes=30)

Answer = TypeVar("Answer")


def is_failure(reply: object) -> TypeGuard[NotDone | Unclear]:
    """Return whether the supplier did not answer at all."""
    return isinstance(reply, NotDone) or (isinstance(reply, Unclear) and not reply.answered)


class Traffic:
    """The requests to one supplier. Only the worker that holds the supplier's lock may use it."""

    def __init__(self, supplier: Supplier) -> None:
        self._supplier = supplier
        self._state, _ = SupplierState.objects.get_or_create(supplier=supplier)

    def may_ask(self) -> bool:
        """Return whether the supplier may be asked now, and count that."""
        now = timezone.now()
        if self._state.rests_until is not None and self._state.rests_until > now:
            return False
        if not self._count(now):
            return False
        if self._state.failures < PATIENCE:
            return True
        # After a rest: a question that changes nothing shows whether it answers again.
        failure, _ = self.timed(lambda: supplier_api.is_there(self._supplier))
        return failure is None and self._count(timezone.now())

    def timed(self, ask: Callable[[], Answer]) -> tuple[Answer, int]:
        """Ask the supplier. Returns its reply, and the milliseconds that it took. Failures open the circuit breaker."""
        began = time.monotonic()
        reply = ask()
        took = time.monotonic() - began
        metrics.count_call(self._supplier.pk, reply, took)
        supplier_lanes.note(self._supplier.pk, took, failed=is_failure(reply))
        state, now = self._state, timezone.now()
        if is_failure(reply):
            state.failures += 1
            state.failing_since, state.words = state.failing_since or now, reply.words
            if state.failures >= PATIENCE:
                state.rests_until = now + min(SHORTEST_REST * 2 ** min(state.failures - PATIENCE, 10), LONGEST_REST)
            state.save()
        elif state.failures:
            state.failures, state.rests_until, state.failing_since, state.words = 0, None, None, ""
            state.save()
        return reply, round(took * 1000)

    def stops_until(self) -> datetime | None:
        """Return until when the supplier is not asked, because it rests or the limit of this minute is spent."""
        limit_ends = None
        if self._state.minute is not None and self._state.requests >= self._supplier.per_minute:
            limit_ends = self._state.minute + timedelta(minutes=1)
        return max(filter(None, [self._state.rests_until, limit_ends]), default=None)

    def _count(self, now: datetime) -> bool:
        minute = now.replace(second=0, microsecond=0)
        if self._state.minute != minute:
            self._state.minute, self._state.requests = minute, 0
        if self._state.requests >= self._supplier.per_minute:
            return False
        self._state.requests += 1
        self._state.save()
        return True
