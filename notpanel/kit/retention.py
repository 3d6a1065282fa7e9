"""Delete what has been kept for long enough: a batch in each transaction, beside everything else that goes on.

Each app says which of its rows are kept for how long: it registers a ``Kept`` for each kind when it is ready. Rows that
somebody else has locked are skipped, and deleted by the next run. So nobody waits for anybody, two runs at once share
the work, and a run that is killed leaves the rest to the next.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import DatabaseError, connection, transaction

from notpanel.kit import queue

logger = logging.getLogger(__name__)

AT_ONCE = 1000  # rows in a transaction


@dataclass(frozen=True)
class Kept:
    """Rows that are kept for a while."""

    what: str  # in the plural, as the command prints it
    kept_for: Callable[[], timedelta | None]  # None: for ever
    # SELECT that names the key of each row that is too old ``id``, the oldest first. It may use %(before)s, the moment
    # before which rows are too old, and %(now)s.
    old: str
    delete: str  # DELETE of the rows whose keys are in ``old``; it may begin with other parts of its WITH
    lock: str = "FOR UPDATE SKIP LOCKED"  # what is locked of the rows

    @property
    def batch(self) -> str:
        """Return the statement that deletes a batch."""
        return f"WITH old AS MATERIALIZED ({self.old} LIMIT {AT_ONCE} {self.lock})\n{self.delete}"

    @property
    def count(self) -> str:
        """Return the statement that counts what is too old."""
        return f"SELECT count(*) FROM ({self.old}) AS old"  # noqa: S608  # made of constants


@dataclass(frozen=True)
class Outcome:
    """What was deleted, or would be."""

    kept: Kept
    count: int = 0
    is_forever: bool = False  # the setting says that nothing is deleted
    has_failed: bool = False  # the database refused the last batch; the log says why


_registered: list[Kept] = []


def register(*kept: Kept) -> None:
    """Let ``forget`` delete these rows too. An app calls it when it is ready."""
    _registered.extend(kept)


def forget(now: datetime, *, dry_run: bool = False) -> Iterator[Outcome]:
    """Delete what is too old, and yield the outcome for each kind of rows. ``dry_run`` only counts it.

    If one kind fails, the others are deleted all the same. A worker that is told to stop leaves the rest to the next
    run.
    """
    for kept in _registered:
        kept_for = kept.kept_for()
        if kept_for is None:
            yield Outcome(kept, is_forever=True)
            continue
        yield _count(kept, now - kept_for, now) if dry_run else delete(kept, now - kept_for, now)


def delete(kept: Kept, before: datetime, now: datetime) -> Outcome:
    """Delete the rows that are older than ``before``, batch by batch."""
    count = 0
    while not queue.is_stopping():
        try:
            deleted = _delete_batch(kept, before, now)
        except DatabaseError as error:
            logger.error("Failed to delete old %s: %s", kept.what, error)
            return Outcome(kept, count, has_failed=True)
        count += deleted
        if deleted < AT_ONCE:  # what is left is locked, or none
            break
    return Outcome(kept, count)


def _delete_batch(kept: Kept, before: datetime, now: datetime) -> int:
    with transaction.atomic(), connection.cursor() as cursor:
        # Without this setting, which ends with the transaction, the triggers of the logs refuse every DELETE.
        cursor.execute("SELECT set_config('notpanel.forgets_before', %s, true)", [before.isoformat()])
        cursor.execute(kept.batch, _moments(before, now))
        return int(cursor.rowcount)


def _count(kept: Kept, before: datetime, now: datetime) -> Outcome:
    with connection.cursor() as cursor:
        cursor.execute(kept.count, _moments(before, now))
        return Outcome(kept, cursor.fetchone()[0])


def _moments(before: datetime, now: datetime) -> dict[str, Any]:
    return {"before": before, "now": now}
