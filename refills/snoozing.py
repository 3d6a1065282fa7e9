"""Snooze refills: put them off to a time, up to which the queue does not show them."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from apikeys.models import Account
from refills import notes
from refills.refusals import SnoozeOutOfRange
from refills.settlement import NOT_CLAIMED, NOT_SNOOZED, Outcome, lock_in_flight, update

LONGEST_DAYS = 30


def snooze(refills: Iterable[str], by: Account, until: datetime, note: str = "") -> Outcome:
    """Put refills (ids) in flight off to ``until``, end the claims of ``by`` on them, and add the note if there is one.

    Raises SnoozeOutOfRange or NotANote.
    """
    note = notes.checked(note) if note.strip() else ""
    with transaction.atomic():
        now = timezone.now()
        if not now < until <= now + timedelta(days=LONGEST_DAYS):
            raise SnoozeOutOfRange(days=LONGEST_DAYS)
        found, refused = lock_in_flight(refills, by, now)
        update(found, snoozed_until=until, snoozed_by=by, **NOT_CLAIMED)
        if note:
            notes.write(found, by, now, note)
    return Outcome(found, refused)


def unsnooze(refills: Iterable[str], by: Account) -> Outcome:
    """Put refills (ids) in flight back into the queue."""
    with transaction.atomic():
        found, refused = lock_in_flight(refills, by, timezone.now())
        update(found, **NOT_SNOOZED)
    return Outcome(found, refused)
