"""Lock dispatches with their refills, and write what becomes of them, in as many statements for one as for many."""

import contextlib
from collections.abc import Iterator
from datetime import datetime

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from refills.models import Dispatch, DispatchStep, Refill
from refills.statuses import ENDED, DispatchState

_WRITTEN = [
    *("state", "words", "next_at", "asked", "ended_at"),
    *("attempts", "sent_at", "supplier_refill", "breaks_promise"),
]


class Locked:
    """Dispatches that this transaction has locked, with their refills, and what is to be written of them."""

    def __init__(self, rows: list[tuple[Refill, Dispatch]], now: datetime) -> None:
        self.rows, self.now = rows, now
        self._changed: dict[str, Dispatch] = {}
        self._steps: list[DispatchStep] = []

    def write(
        self, dispatch: Dispatch, state: DispatchState, words: str, *, next_at: datetime | None = None, asked: int = 0
    ) -> None:
        dispatch.state, dispatch.words, dispatch.next_at, dispatch.asked = state, words, next_at, asked
        dispatch.ended_at = self.now if state in ENDED else None
        self._changed[dispatch.pk] = dispatch

    def record(
        self,
        dispatch: Dispatch,
        kind: DispatchStep.Kind,
        words: str,
        milliseconds: int | None = None,
        *,
        attempt: int | None = None,
        by: int | None = None,
    ) -> None:
        """Add a step to the history of a dispatch, with the state that was written last."""
        step = DispatchStep(dispatch=dispatch, at=self.now, kind=kind, words=words, milliseconds=milliseconds, by_id=by)
        step.attempt = dispatch.attempts if attempt is None else attempt
        step.state = dispatch.state
        self._steps.append(step)

    def save(self) -> None:
        Dispatch.objects.bulk_update(self._changed.values(), _WRITTEN)
        DispatchStep.objects.bulk_create(self._steps)


@contextlib.contextmanager
def lock(dispatches: QuerySet[Dispatch]) -> Iterator[Locked]:
    """Lock the refills of dispatches, then the dispatches, each in the order of their ids, and write what is changed.

    A fixed number of statements, however many there are.
    """
    ids = list(dispatches.values_list("pk", flat=True))
    if not ids:
        yield Locked([], timezone.now())
        return
    with transaction.atomic():
        refills = Refill.objects.filter(pk__in=ids).select_for_update().order_by("id").in_bulk()
        found = Dispatch.objects.filter(pk__in=ids).select_for_update().order_by("refill_id").in_bulk()
        locked = Locked([(refills[pk], dispatch) for pk, dispatch in found.items()], timezone.now())
        yield locked
        locked.save()
