"""Settle refills. Nothing else changes the status of a refill; only ``refills.reopening`` takes such a change back."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import prefetch_related_objects
from django.utils import timezone

from apikeys.models import Account
from notpanel.kit.refusals import Refusal
from orders.models import Order
from refills import dispatching, events, metrics
from refills.models import LONGEST_REASON, Refill, RejectionReason, Transition
from refills.querysets import claims_expire_before
from refills.refusals import (
    DeliveredAboveQuantity,
    DeliveredWithoutCompletion,
    NoSuchRefill,
    NotAChange,
    ReasonNotOneLine,
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
NOT_CLAIMED: dict[str, None] = {"claimed_at": None, "claimed_by": None}
NOT_SNOOZED: dict[str, None] = {"snoozed_until": None, "snoozed_by": None}


@dataclass(frozen=True)
class StatusChange:
    """A change of status that staff ask for.

    A rejection has words that the customer reads: those of ``reason``, or ``words`` of its own, which replace them.
    ``delivered`` (units) goes with a completion; more than the quantity of the order must be confirmed. A note is for
    staff, and replaces an earlier one.
    """

    to: RefillStatus
    note: str = ""
    reason: RejectionReason | None = None
    delivered: int | None = None
    words: str = ""
    delivered_confirmed: bool = False

    @property
    def reason_text(self) -> str:
        """Return what the customer is told."""
        return self.words or (self.reason.text if self.reason else "")

    def stripped(self) -> "StatusChange":
        """Return the same change without blanks around its texts."""
        return replace(self, note=self.note.strip(), words=self.words.strip())

    def check(self) -> None:
        """Raise the Refusal of a change that no refill can be given: a status, a reason or units that do not fit."""
        if self.to not in ALLOWED_FROM:
            raise NotAChange(status=self.to)
        if self.to == RefillStatus.REJECTED:
            if not any(character.isprintable() and not character.isspace() for character in self.reason_text):
                raise RejectionUnexplained
            if len(self.words) > LONGEST_REASON or len(self.words.splitlines()) > 1 or "\x00" in self.words:
                raise ReasonNotOneLine(longest=LONGEST_REASON)
        elif self.reason or self.words:
            raise ReasonWithoutRejection
        if self.delivered is not None and (self.to != RefillStatus.COMPLETED or self.delivered < 0):
            raise DeliveredWithoutCompletion

    def fields(self, by: Account, now: datetime) -> dict[str, Any]:
        """Return the fields of the refills that it changes."""
        fields: dict[str, Any] = {
            "status": self.to,
            "reason": self.reason,
            "reason_text": self.reason_text,
            "delivered": self.delivered,
        }
        if self.note:
            fields["note"] = self.note
        if self.to == RefillStatus.APPROVED:
            return fields | {"approved_at": now, "approved_by": by}
        return fields | {"settled_at": now, "settled_by": by} | NOT_CLAIMED | NOT_SNOOZED


@dataclass(frozen=True)
class Outcome:
    """What became of the refills on which staff worked. Those done have their new values, ``undoable_until`` too."""

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
    change = change.stripped()
    change.check()
    with transaction.atomic():
        now = timezone.now()
        found, refused = lock_in_flight(refills, by, now, take_over=take_over)
        quantities = _quantities(found, change)
        changed = []
        for refill in found:
            if refill.status not in ALLOWED_FROM[change.to]:
                refused[refill.pk] = RefillHasStatus(status=refill.status)
            elif above := above_quantity(change.delivered, quantities.get(refill.order_id)):
                refused[refill.pk] = above
            else:
                changed.append(refill)
        # A clock that was set back settles nothing before it was requested.
        now = max([now, *(refill.approved_at or refill.created_at for refill in changed)])
        steps = [
            Transition(
                refill=refill,
                at=now,
                by=by,
                via=via,
                from_status=refill.status,
                to_status=change.to,
                note=change.note,
                reason_text=change.reason_text,
                delivered=change.delivered,
            )
            for refill in changed
        ]
        update(changed, **change.fields(by, now))
        Transition.objects.bulk_create(steps)
        if changed:
            # Nobody signs in as a supplier, so what a supplier says is not undone.
            events.record_change(changed, change.to, now, undoable=via != Transition.Via.SUPPLIER)
        metrics.count_changes(via, change.to, len(changed), asked=len(found) + len(refused))
        if changed and change.to == RefillStatus.APPROVED and via != Transition.Via.SUPPLIER:
            dispatching.send_approved([refill.pk for refill in changed], now)
    return Outcome(changed, refused)


def claim(refills: Iterable[str], by: Account, *, take_over: bool = False) -> Outcome:
    """Claim refills (ids) in flight for ``by``: for CLAIM_MINUTES no colleague can settle them.

    A refill on which a colleague has a claim is refused unless ``take_over`` is true.
    """
    with transaction.atomic():
        now = timezone.now()
        claimed, refused = lock_in_flight(refills, by, now, take_over=take_over)
        update(claimed, claimed_at=now, claimed_by=by)
    return Outcome(claimed, refused)


def release(refills: Iterable[str], by: Account) -> None:
    """End the claims that ``by`` has on any of ``refills`` (ids)."""
    Refill.objects.filter(pk__in=list(refills), claimed_by=by).update(**NOT_CLAIMED)


def release_all(by: Account) -> int:
    """End every claim of ``by``, who leaves the staff. Returns how many there were.

    It waits for what ``by`` is settling. The refills are locked in the order of their ids, as everywhere.
    """
    with transaction.atomic():
        claimed = Refill.objects.in_flight().filter(claimed_by=by).order_by("id").select_for_update()
        return Refill.objects.filter(pk__in=list(claimed.values_list("pk", flat=True))).update(**NOT_CLAIMED)


def claimed_by_another(refill: Refill, by: Account, now: datetime) -> bool:
    """Return whether a colleague of ``by`` has a claim on the refill that has not expired."""
    if refill.claimed_at is None or refill.claimed_by_id == by.pk:
        return False
    return refill.claimed_at > claims_expire_before(now)


def obstacle(refill: Refill, by: Account, now: datetime, *, take_over: bool = False) -> Refusal | None:
    """Return why ``by`` may not work on the refill now; None: nothing stands in the way.

    It is settled, or, unless ``take_over`` is true, a colleague has a claim on it.
    """
    if refill.status in SETTLED:
        return RefillSettled(status=refill.status, by=refill.settled_by, at=refill.settled_at)
    if not take_over and claimed_by_another(refill, by, now):
        return RefillTaken(by=refill.claimed_by, at=refill.claimed_at)
    return None


def above_quantity(delivered: int | None, quantity: int | None) -> Refusal | None:
    """Return why units must be confirmed: they are more than the quantity. None: they need not be, or are not known."""
    if delivered is None or quantity is None or delivered <= quantity:
        return None
    return DeliveredAboveQuantity(delivered=delivered, quantity=quantity)


def lock(refills: Iterable[str]) -> tuple[list[Refill], dict[str, Refusal]]:
    """Lock ``refills`` (ids) in the order of their ids. Returns those that exist, and the refusals of the others by id.

    Two agents who work on the same refills wait for each other here; the second sees what the first has done. Nothing
    is joined: after a wait for a lock, PostgreSQL reads the locked rows again, but not the rows joined to them.
    """
    ids = list(dict.fromkeys(refills))
    found = Refill.objects.filter(pk__in=ids).select_for_update().order_by("id").in_bulk()
    return list(found.values()), {refill_id: NoSuchRefill() for refill_id in ids if refill_id not in found}


def lock_in_flight(
    refills: Iterable[str], by: Account, now: datetime, *, take_over: bool = False
) -> tuple[list[Refill], dict[str, Refusal]]:
    """Lock ``refills`` (ids). Returns those in flight that ``by`` may work on, and the refusals of the others by id."""
    found, refused = lock(refills)
    # The names that refusals say; a claim of one's own is not refused. Without others there is nothing to read.
    prefetch_related_objects([refill for refill in found if refill.claimed_by_id != by.pk], "settled_by", "claimed_by")
    free = []
    for refill in found:
        if refusal := obstacle(refill, by, now, take_over=take_over):
            refused[refill.pk] = refusal
        else:
            free.append(refill)
    return free, refused


def update(refills: list[Refill], **fields: Any) -> None:
    """Write ``fields`` to locked refills, in one statement, and to the objects."""
    Refill.objects.filter(pk__in=[refill.pk for refill in refills]).update(**fields)
    for refill in refills:
        for name, value in fields.items():
            setattr(refill, name, value)


def _quantities(refills: list[Refill], change: StatusChange) -> dict[str, int]:
    """Return the quantities of the refills' orders, by the orders' ids; empty if the units need no confirmation."""
    if change.delivered is None or change.delivered_confirmed:
        return {}
    orders = Order.objects.filter(pk__in={refill.order_id for refill in refills})
    return dict(orders.values_list("pk", "quantity"))
