"""How staff settle refills. ``settle`` is the only way in which the status of a refill changes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import prefetch_related_objects
from django.utils import timezone

from apikeys.models import Account
from refills.models import IN_FLIGHT, SETTLED, Refill, Status

# From where a refill may go to each status (contract.md, "The life of a refill").
TRANSITIONS: dict[Status, tuple[Status, ...]] = {
    Status.APPROVED: (Status.PENDING,),
    Status.COMPLETED: IN_FLIGHT,
    Status.REJECTED: IN_FLIGHT,
}


@dataclass
class Settlement:
    """What became of the refills that ``settle`` was given."""

    settled: list[Refill]
    refused: dict[str, str]  # why, by the refill's id


def settle(refills: Iterable[str], to: Status, by: Account, note: str = "") -> Settlement:
    """Give each of ``refills`` (ids) the status ``to``, where its status allows that.

    Who did it and when is kept on the refill and in the admin's history. A note replaces an earlier one.
    Raises ValidationError if ``to`` is no status to settle with, or a refill is rejected without a note.
    """
    if to not in TRANSITIONS:
        raise ValidationError(f"A refill cannot be made {to}.")
    note = note.strip()
    if to == Status.REJECTED and not note:
        raise ValidationError("Say in the note why the refill is rejected.")
    ids = list(dict.fromkeys(refills))
    with transaction.atomic():
        # Two of the staff who settle the same refills wait for each other here; the second finds them settled.
        # Nothing is joined: after that wait a join would still show what it read before.
        found = Refill.objects.filter(pk__in=ids).select_for_update().order_by("id").in_bulk()
        now = timezone.now()
        changes: dict[str, Any] = {"status": to}
        changes |= {"approved_at": now, "approved_by": by} if to == Status.APPROVED else {}
        changes |= {"settled_at": now, "settled_by": by} if to in SETTLED else {}
        changes |= {"note": note} if note else {}
        settled = [refill for refill in found.values() if refill.status in TRANSITIONS[to]]
        refused = [refill for refill in found.values() if refill.status not in TRANSITIONS[to]]
        Refill.objects.filter(pk__in=[refill.pk for refill in settled]).update(**changes)
        LogEntry.objects.log_actions(by.pk, settled, CHANGE, change_message=f"{to.label}. {note}".strip())
        prefetch_related_objects(refused, "settled_by")
    for refill in settled:
        for name, value in changes.items():
            setattr(refill, name, value)
    reasons = {refill.pk: _why_not(refill) for refill in refused}
    reasons |= {refill_id: "there is no such refill" for refill_id in ids if refill_id not in found}
    return Settlement(settled, reasons)


def _why_not(refill: Refill) -> str:
    if refill.status in SETTLED:
        return f"{refill.status} by {refill.settled_by} at {refill.settled_at:%Y-%m-%d %H:%M} UTC"
    return f"it is {refill.status} already"
