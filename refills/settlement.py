"""How staff settle refills. Nothing but ``change_status`` changes the status of a refill."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import prefetch_related_objects
from django.utils import timezone

from apikeys.models import Account
from notpanel.kit.refusals import Refusal
from refills.models import Refill, RejectionReason, Transition
from refills.querysets import claims_expire_before
from refills.refusals import (
    DeliveredWithoutCompletion,
    NoSuchRefill,
    NotAChange,
    ReasonWithoutRejection,
    RefillHasStatus,
    RefillSettled,
    RefillTaken,
    RejectionUnexplained,
)
from refills.statuses import IN_FLIGHT, SETTLED, RefillStatus

# The statuses from which a refill may become each status (docs/contract.md, "Refill statuses").
ALLOWED_FROM: dict[RefillStatus, tuple[RefillStatus, ...]] = {
    RefillStatus.APPROVED: (RefillStatus.PENDING,),
    RefillStatus.COMPLETED: IN_FLIGHT,
    RefillStatus.REJECTED: IN_FLIGHT,
}


@dataclass(frozen=True)
class StatusChange:
    """A change of status that staff ask for.

    ``reason`` goes with a rejection, and the customer reads it. ``delivered`` (units) goes with a completion. A note is
    for staff, and replaces an earlier one.
    """

    to: RefillStatus
    note: str = ""
    reason: RejectionReason | None = None
    delivered: int | None = None

    def check(self) -> None:
        """Raise NotAChange, RejectionUnexplained, ReasonWithoutRejection or DeliveredWithoutCompletion."""
        if self.to not in ALLOWED_FROM:
            raise NotAChange(status=self.to)
        if self.to == RefillStatus.REJECTED and not (self.note or self.reason):
            raise RejectionUnexplained
        if self.reason and self.to != RefillStatus.REJECTED:
            raise ReasonWithoutRejection
        if self.delivered is not None and (self.to != RefillStatus.COMPLETED or self.delivered < 0):
            raise DeliveredWithoutCompletion

    def fields(self, by: Account, now: datetime) -> dict[str, Any]:
        """Return the fields of the refills that it changes."""
        fields: dict[str, Any] = {"status": self.to, "reason": self.reason, "delivered": self.delivered}
        if self.note:
            fields["note"] = self.note
        if self.to == RefillStatus.APPROVED:
            return fields | {"approved_at": now, "approved_by": by}
        return fields | {"settled_at": now, "settled_by": by, "claimed_at": None, "claimed_by": None}


@dataclass(frozen=True)
class Outcome:
    """What became of the refills that ``change_status`` or ``claim`` was given."""

    done: list[Refill]
    refused: dict[str, Refusal]  # by the refill's id


def change_status(
    refills: Iterable[str],
    change: StatusChange,
    by: Account,
    *,
    take_over: bool = False,
    via: Transition.Via = Transition.Via.ADMIN,
) -> Outcome:
    """Make the change to each of ``refills`` (ids) whose status allows it, and write it into their history.

    A refill on which a colleague has a claim is refused unless ``take_over`` is true. Raises what
    ``StatusChange.check`` raises; then nothing was changed.
    """
    change = replace(change, note=change.note.strip())
    change.check()
    with transaction.atomic():
        now = timezone.now()
        found, refused = _lock(refills, by, now, take_over=take_over)
        changed = []
        for refill in found:
            if refill.status in ALLOWED_FROM[change.to]:
                changed.append(refill)
            else:
                refused[refill.pk] = RefillHasStatus(status=refill.status)
        fields = change.fields(by, now)
        Refill.objects.filter(pk__in=[refill.pk for refill in changed]).update(**fields)
        Transition.objects.bulk_create(
            Transition(
                refill=refill,
                at=now,
                by=by,
                via=via,
                from_status=refill.status,
                to_status=change.to,
                note=change.note,
            )
            for refill in changed
        )
    for refill in changed:
        for name, value in fields.items():
            setattr(refill, name, value)
    return Outcome(changed, refused)


def claim(refills: Iterable[str], by: Account, *, take_over: bool = False) -> Outcome:
    """Claim refills (ids) in flight for ``by``: for CLAIM_MINUTES no colleague can settle them.

    A refill on which a colleague has a claim is refused unless ``take_over`` is true.
    """
    with transaction.atomic():
        now = timezone.now()
        claimed, refused = _lock(refills, by, now, take_over=take_over)
        Refill.objects.filter(pk__in=[refill.pk for refill in claimed]).update(claimed_at=now, claimed_by=by)
    for refill in claimed:
        refill.claimed_at, refill.claimed_by = now, by
    return Outcome(claimed, refused)


def release(refills: Iterable[str], by: Account) -> None:
    """End the claims that ``by`` has on any of ``refills`` (ids)."""
    Refill.objects.filter(pk__in=list(refills), claimed_by=by).update(claimed_at=None, claimed_by=None)


def claimed_by_another(refill: Refill, by: Account, now: datetime) -> bool:
    """Return whether a colleague of ``by`` has a claim on the refill that has not expired."""
    if refill.claimed_at is None or refill.claimed_by_id == by.pk:
        return False
    return refill.claimed_at > claims_expire_before(now)


def _lock(
    refills: Iterable[str], by: Account, now: datetime, *, take_over: bool
) -> tuple[list[Refill], dict[str, Refusal]]:
    """Lock ``refills`` (ids) in the order of their ids. Returns those that ``by`` may work on, and refusals by id.

    Two agents who work on the same refills wait for each other here; the second sees what the first has done. Nothing
    is joined: after a wait for a lock, PostgreSQL reads the locked rows again, but not the rows joined to them.
    """
    ids = list(dict.fromkeys(refills))
    found = Refill.objects.filter(pk__in=ids).select_for_update().order_by("id").in_bulk()
    refused: dict[str, Refusal] = {refill_id: NoSuchRefill() for refill_id in ids if refill_id not in found}
    settled = [refill for refill in found.values() if refill.status in SETTLED]
    # A settled refill has no claim: the database refuses one.
    taken = [refill for refill in found.values() if not take_over and claimed_by_another(refill, by, now)]
    prefetch_related_objects(settled, "settled_by")
    prefetch_related_objects(taken, "claimed_by")
    for refill in settled:
        refused[refill.pk] = RefillSettled(status=refill.status, by=refill.settled_by, at=refill.settled_at)
    for refill in taken:
        refused[refill.pk] = RefillTaken(by=refill.claimed_by, at=refill.claimed_at)
    return [refill for refill in found.values() if refill.pk not in refused], refused
