"""How staff settle refills. ``change_status`` is the only way in which the status of a refill changes."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import prefetch_related_objects
from django.utils import timezone

from apikeys.models import Account
from refills.models import IN_FLIGHT, SETTLED, Refill, RefillStatus, RejectionReason, Transition

# From where a refill may go to each status (contract.md, "The life of a refill").
TRANSITIONS: dict[RefillStatus, tuple[RefillStatus, ...]] = {
    RefillStatus.APPROVED: (RefillStatus.PENDING,),
    RefillStatus.COMPLETED: IN_FLIGHT,
    RefillStatus.REJECTED: IN_FLIGHT,
}


@dataclass
class Outcome:
    """What became of the refills that ``change_status`` or ``claim`` was given."""

    done: list[Refill]
    refused: dict[str, str]  # why, by the refill's id


def change_status(
    refills: Iterable[str],
    to: RefillStatus,
    by: Account,
    note: str = "",
    *,
    reason: RejectionReason | None = None,
    delivered: int | None = None,
    take_over: bool = False,
    via: Transition.Via = Transition.Via.ADMIN,
) -> Outcome:
    """Give each of ``refills`` (ids) the status ``to``, where its status allows that.

    A refill that a colleague has claimed is refused, unless ``take_over`` says that this is known. ``reason`` goes
    with a rejection and is what the customer is told, ``delivered`` with a completion (units); a note replaces an
    earlier one. Who did it, when and how is kept on the refill, in its history and in the admin's.

    Raises ValidationError if ``to`` is no status to settle with, if a rejection has neither reason nor note, or if
    reason or delivered do not go with ``to``.
    """
    if to not in TRANSITIONS:
        raise ValidationError(f"A refill cannot be made {to}.")
    note = note.strip()
    if to == RefillStatus.REJECTED and not (note or reason):
        raise ValidationError("Say why the refill is rejected: choose a reason, or write a note.")
    if reason and to != RefillStatus.REJECTED:
        raise ValidationError("Only a rejection has a reason.")
    if delivered is not None and (to != RefillStatus.COMPLETED or delivered < 0):
        raise ValidationError("Only a completed refill has delivered units.")
    with transaction.atomic():
        now = timezone.now()
        found, refused = _lock(refills, by, now, take_over=take_over)
        settled = []
        for refill in found:
            if refill.status in TRANSITIONS[to]:
                settled.append(refill)
            else:
                refused[refill.pk] = f"it is {refill.status} already"
        changes: dict[str, Any] = {"status": to}
        if to == RefillStatus.APPROVED:
            changes |= {"approved_at": now, "approved_by": by}
        else:
            changes |= {"settled_at": now, "settled_by": by, "claimed_at": None, "claimed_by": None}
        changes |= {"reason": reason, "delivered": delivered} | ({"note": note} if note else {})
        Refill.objects.filter(pk__in=[refill.pk for refill in settled]).update(**changes)
        Transition.objects.bulk_create(
            Transition(refill=refill, at=now, by=by, via=via, from_status=refill.status, to_status=to, note=note)
            for refill in settled
        )
        words = ". ".join(filter(None, [str(to.label), str(reason or "").rstrip("."), note]))
        LogEntry.objects.log_actions(by.pk, settled, CHANGE, change_message=words)
    for refill in settled:
        for name, value in changes.items():
            setattr(refill, name, value)
    return Outcome(settled, refused)


def claim(refills: Iterable[str], by: Account, *, take_over: bool = False) -> Outcome:
    """Take refills (ids) in flight for ``by``, so that no colleague settles them, for CLAIM_MINUTES.

    One that a colleague has taken is refused, unless ``take_over`` says that this is known.
    """
    with transaction.atomic():
        now = timezone.now()
        claimed, refused = _lock(refills, by, now, take_over=take_over)
        Refill.objects.filter(pk__in=[refill.pk for refill in claimed]).update(claimed_at=now, claimed_by=by)
    for refill in claimed:
        refill.claimed_at, refill.claimed_by = now, by
    return Outcome(claimed, refused)


def release(refills: Iterable[str], by: Account) -> None:
    """Give back what ``by`` has taken of ``refills`` (ids)."""
    Refill.objects.filter(pk__in=list(refills), claimed_by=by).update(claimed_at=None, claimed_by=None)


def claimed_by_another(refill: Refill, by: Account, now: datetime) -> bool:
    """Whether a colleague of ``by`` has taken the refill, and not longer than CLAIM_MINUTES ago."""
    if refill.claimed_at is None or refill.claimed_by_id == by.pk:
        return False
    return now - refill.claimed_at < timedelta(minutes=settings.CLAIM_MINUTES)


def _lock(
    refills: Iterable[str], by: Account, now: datetime, *, take_over: bool
) -> tuple[list[Refill], dict[str, str]]:
    """Lock ``refills`` (ids) in the order of their ids. Returns those that ``by`` may work on, and why not the others.

    Two of the staff who work on the same refills wait for each other here; the second sees what the first has done.
    Nothing is joined: after that wait a join would still show what it read before.
    """
    ids = list(dict.fromkeys(refills))
    found = Refill.objects.filter(pk__in=ids).select_for_update().order_by("id").in_bulk()
    refused = {refill_id: "there is no such refill" for refill_id in ids if refill_id not in found}
    settled = [refill for refill in found.values() if refill.status in SETTLED]
    taken = [
        refill
        for refill in found.values()
        if refill.status in IN_FLIGHT and not take_over and claimed_by_another(refill, by, now)
    ]
    prefetch_related_objects(settled, "settled_by")
    prefetch_related_objects(taken, "claimed_by")
    for refill in settled:
        refused[refill.pk] = f"{refill.status} by {refill.settled_by} at {refill.settled_at:%Y-%m-%d %H:%M} UTC"
    for refill in taken:
        refused[refill.pk] = f"taken by {refill.claimed_by} at {refill.claimed_at:%H:%M} UTC"
    return [refill for refill in found.values() if refill.pk not in refused], refused
