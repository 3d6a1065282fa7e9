"""Keep suppliers that fail or answer slowly from taking all the jobs that a worker does at once."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings

from refills.models import SupplierState

SLOW = 2.0  # seconds that an answer may take

_slow: set[int] = set()  # suppliers whose last answer to this process was slow
_places = threading.BoundedSemaphore(max(1, settings.WORKER_CONCURRENCY // 2))


class Lane:
    """What a job knows about the supplier that it deals with."""

    def __init__(self, supplier_id: int, *, is_open: bool, has_place: bool) -> None:
        self.is_open = is_open  # the job may deal with the supplier
        self._supplier_id, self._has_place = supplier_id, has_place

    def is_blocked(self) -> bool:
        """Return whether the supplier has turned out to be slow, so that the job must not go on without a place."""
        return self._supplier_id in _slow and not self._has_place


@contextmanager
def lane_of(supplier_id: int) -> Iterator[Lane]:
    """Yield the lane in which a job deals with a supplier. A supplier that is slow or fails needs one of the places."""
    is_slow = supplier_id in _slow or SupplierState.objects.filter(supplier=supplier_id, failures__gt=0).exists()
    has_place = is_slow and _places.acquire(blocking=False)
    try:
        yield Lane(supplier_id, is_open=has_place or not is_slow, has_place=has_place)
    finally:
        if has_place:
            _places.release()


def note(supplier_id: int, seconds: float, *, failed: bool) -> None:
    """Remember how long a supplier took to answer."""
    if failed or seconds > SLOW:
        _slow.add(supplier_id)
    else:
        _slow.discard(supplier_id)
