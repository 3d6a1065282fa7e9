"""Take changes of status back: undo them within moments, or reopen settled refills later.

Either puts a refill in flight again, which could break the rules of requests. So the orders are locked first, as
``refills.requesting`` locks them (docs/locks.md).
"""

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import prefetch_related_objects
from django.utils import timezone

from apikeys.models import Account
from notpanel.kit.refusals import Refusal
from orders.models import Order
from refills import events, metrics, notes
from refills.models import Refill, Transition
from refills.refusals import (
    AnotherInFlight,
    ChangedByColleague,
    NoRefillLeft,
    RefillHasStatus,
    ReopeningUnexplained,
    TooLateToUndo,
)
from refills.rules import cap_of
from refills.settlement import NOT_SNOOZED, Outcome, lock, obstacle, update
from refills.statuses import IN_FLIGHT, RefillStatus

# What a refill is without its approval and its settlement.
PENDING: dict[str, Any] = {
    "status": RefillStatus.PENDING,
    "approved_at": None,
    "approved_by": None,
    "settled_at": None,
    "settled_by": None,
    "reason": None,
    "reason_text": "",
    "delivered": None,
}

COUNTED_AS = {Transition.Kind.UNDO: "undone", Transition.Kind.REOPEN: "reopened"}

# Returns why a refill may not be taken back; None: it may.
Judge = Callable[[Refill, datetime], Refusal | None]


def undo(refills: Iterable[str], by: Account, *, via: Transition.Via = Transition.Via.ADMIN) -> Outcome:
    """Make refills (ids) pending again whose status ``by`` changed last, within UNDO_SECONDS of that change."""

    def judge(refill: Refill, now: datetime) -> Refusal | None:
        changed_by = refill.settled_by or refill.approved_by
        if refill.undoable_until is None:
            return RefillHasStatus(status=refill.status)
        if changed_by != by:
            return ChangedByColleague(status=refill.status, by=changed_by)
        if now >= refill.undoable_until:
            return TooLateToUndo(status=refill.status, seconds=settings.UNDO_SECONDS)
        return obstacle(refill, by, now) if refill.status in IN_FLIGHT else None

    return _take_back(refills, by, judge, Transition.Kind.UNDO, via)


def reopen(refills: Iterable[str], by: Account, note: str, *, via: Transition.Via = Transition.Via.ADMIN) -> Outcome:
    """Make settled refills (ids) pending again, at any later time. Raises ReopeningUnexplained or NotANote.

    The door checks that ``by`` has the permission ``refills.reopen_refill``.
    """
    if not note.strip():
        raise ReopeningUnexplained

    def judge(refill: Refill, now: datetime) -> Refusal | None:
        return RefillHasStatus(status=refill.status) if refill.status in IN_FLIGHT else None

    return _take_back(refills, by, judge, Transition.Kind.REOPEN, via, notes.checked(note))


def _take_back(
    refills: Iterable[str], by: Account, judge: Judge, kind: Transition.Kind, via: Transition.Via, note: str = ""
) -> Outcome:
    ids = list(refills)
    with transaction.atomic():
        orders = _lock_orders(ids)
        found, refused = lock(ids)
        prefetch_related_objects(found, "settled_by", "approved_by", "claimed_by")
        # While the orders are locked, nobody else puts a refill of theirs in flight, or adds to what the cap counts.
        in_flight: dict[str, tuple[str, int]] = {}
        used: Counter[str] = Counter()
        others = Refill.objects.filter(order__in=orders).used_of_cap()
        for order_id, refill_id, number, status in others.values_list("order_id", "id", "number", "status"):
            used[order_id] += 1
            if status in IN_FLIGHT:
                in_flight[order_id] = refill_id, number
        now = timezone.now()
        taken_back = []
        for refill in found:
            refusal = judge(refill, now) or _broken_rule(refill, orders[refill.order_id], in_flight, used)
            if refusal:
                refused[refill.pk] = refusal
                continue
            taken_back.append(refill)
            in_flight[refill.order_id] = refill.pk, refill.number
            used[refill.order_id] += refill.status == RefillStatus.REJECTED
        steps = [
            Transition(
                refill=refill,
                at=now,
                by=by,
                via=via,
                kind=kind,
                from_status=refill.status,
                to_status=RefillStatus.PENDING,
                note=note,
                reason_text=refill.reason_text,
                delivered=refill.delivered,
            )
            for refill in taken_back
        ]
        update(taken_back, **PENDING, **NOT_SNOOZED, **({"note": note} if note else {}))
        Transition.objects.bulk_create(steps)
        if taken_back:
            events.record_taken_back(taken_back, now)
        metrics.count_changes(via, COUNTED_AS[kind], len(taken_back), asked=len(ids))
    return Outcome(taken_back, refused)


def _lock_orders(refills: list[str]) -> dict[str, Order]:
    """Lock the orders of the refills (ids) in the order of their ids. Returns them by id, each with its service."""
    # A refill never changes its order, nor an order its service, so both may be read before the wait for the locks.
    of_refills = Refill.objects.filter(pk__in=refills).values("order_id")
    orders = Order.objects.filter(pk__in=of_refills).select_related("service")
    return orders.select_for_update(of=("self",)).order_by("id").in_bulk()


def _broken_rule(
    refill: Refill, order: Order, in_flight: dict[str, tuple[str, int]], used: Counter[str]
) -> Refusal | None:
    """Return the rule that the refill would break if it were pending."""
    refill_id, number = in_flight.get(order.pk, (refill.pk, refill.number))
    if refill_id != refill.pk:
        return AnotherInFlight(number=number)
    if refill.status == RefillStatus.REJECTED and used[order.pk] >= (cap := cap_of(order.service)):
        return NoRefillLeft(cap=cap)
    return None
