"""What the desk shows of a refill: how late it is, how the rules judge it now, and what else helps to decide."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from apikeys.models import Account
from orders.models import UNDER_WAY, Order
from refills.models import Refill, Transition
from refills.querysets import RefillQuerySet, due_soon_before, late_before
from refills.rules import RULES, Case, Tally, cap_of
from refills.settlement import claimed_by_another, release, update
from refills.statuses import IN_FLIGHT, RefillStatus

LONGEST_LIST = 20  # of earlier refills, or of other orders


@dataclass(frozen=True)
class Verdict:
    """A rule, judged again now for a refill that was accepted earlier."""

    rule: str
    figures: str
    refusal: str | None  # how a request would be refused now; None: the rule is kept


@dataclass(frozen=True)
class Step:
    """A line of a refill's history."""

    at: datetime
    what: str
    by: str
    via: str
    note: str = ""
    reason: str = ""  # the words for the customer, of the settlement that the step made or took back
    delivered: int | None = None  # units, of the same


@dataclass(frozen=True)
class Look:
    """Everything that a refill's page shows."""

    refill: Refill
    verdicts: list[Verdict]
    history: list[Step]
    earlier: list[Refill]
    overlapping: list[Order]
    same_link: list[Order]  # other orders on the link, by anybody
    attempts: str
    days_left: int | None  # until the refill period ends; None: it has no end
    taken_by_another: bool
    snoozed: bool
    may_undo: bool

    @property
    def expected_count(self) -> int | None:
        """Return the count that the order should have reached; None: its start is not known."""
        start = self.refill.order.start_count
        return None if start is None else start + self.refill.order.quantity

    @property
    def link_is_web(self) -> bool:
        """Return whether the order's link, which a customer wrote, is safe to show as a link."""
        return self.refill.order.link.startswith(("https://", "http://"))


def timeliness(refill: Refill, now: datetime) -> str:
    """Return how the age of a refill in flight compares with SLA_HOURS: "on time", "due soon" or "late"."""
    if refill.created_at < late_before(now):
        return "late"
    return "due soon" if refill.created_at < due_soon_before(now) else "on time"


def look_at(refill: Refill, by: Account, now: datetime) -> Look:
    """Return what ``by`` sees of a refill. Seven statements, besides those that loaded it with its order."""
    others = list(
        Refill.objects.filter(order=refill.order_id)
        .exclude(pk=refill.pk)
        .select_related("settled_by")
        .order_by("-created_at")
    )
    tally = Tally(
        in_flight=sum(other.status in IN_FLIGHT for other in others),
        used=sum(other.status != RefillStatus.REJECTED for other in others),
    )
    order = refill.order
    same_time = list(overlapping(order, now)[:LONGEST_LIST])
    return Look(
        refill=refill,
        verdicts=verdicts(order, tally, now),
        history=history(refill),
        earlier=[other for other in others if other.created_at <= refill.created_at][:LONGEST_LIST],
        overlapping=same_time,
        same_link=[other for other in same_link(order)[:LONGEST_LIST] if other not in same_time],
        attempts=f"{tally.used + (refill.status != RefillStatus.REJECTED)} of {cap_of(order.service)}",
        days_left=days_left(order, now),
        taken_by_another=claimed_by_another(refill, by, now),
        snoozed=refill.snoozed_until is not None and refill.snoozed_until > now,
        may_undo=may_undo(refill, by, now),
    )


def verdicts(order: Order, tally: Tally, now: datetime) -> list[Verdict]:
    """Judge the order by each rule, in their order."""
    case = Case(order, tally, now)
    return [
        Verdict(rule.label, rule.shown(case), rule.refuse(case).text if rule.is_violated(case) else None)
        for rule in RULES
    ]


def history(refill: Refill) -> list[Step]:
    """Return every step in the life of a refill and every note on it, oldest first; the first one is its request."""
    if refill.requested_by:
        agent = str(refill.requested_by)
        requested = Step(refill.created_at, f"Requested by {agent} for {refill.account}", agent, "admin")
    else:
        by_way_of = f"API key {refill.api_key}" if refill.api_key else "dashboard"
        requested = Step(refill.created_at, "Requested", str(refill.account), by_way_of)
    steps = [
        Step(step.at, _what(step), str(step.by), step.via, step.note, step.reason_text, step.delivered)
        for step in refill.transitions.select_related("by")
    ]
    notes = [Step(note.at, "Note", str(note.by), "admin", note.text) for note in refill.notes.select_related("by")]
    return [requested, *sorted(steps + notes, key=lambda step: step.at)]


def _what(step: Transition) -> str:
    change = f"{step.get_from_status_display()} → {step.get_to_status_display()}"
    return {Transition.Kind.UNDO: f"Undone: {change}", Transition.Kind.REOPEN: f"Reopened: {change}"}.get(
        Transition.Kind(step.kind), change
    )


def overlapping(order: Order, now: datetime) -> QuerySet[Order]:
    """Return the customer's other orders on the same link that ran while this one did, the latest first."""
    until = order.completed_at or now
    return (
        Order.objects.filter(link=order.link, account=order.account_id, created_at__lte=until)
        .filter(Q(status__in=UNDER_WAY) | Q(completed_at__gte=order.created_at))
        .exclude(pk=order.pk)
        .select_related("account", "service")
        .order_by("-created_at")
    )


def same_link(order: Order) -> QuerySet[Order]:
    """Return all other orders on the order's link, the latest first."""
    return (
        Order.objects.filter(link=order.link)
        .exclude(pk=order.pk)
        .select_related("account", "service")
        .order_by("-created_at")
    )


def days_left(order: Order, now: datetime) -> int | None:
    """Return the whole days until the order's refill period ends, 0 if it has ended; None: it has no end."""
    if order.service.refill_days is None or order.completed_at is None:
        return None
    return max(0, (order.completed_at + timedelta(days=order.service.refill_days) - now).days)


def may_undo(refill: Refill, by: Account, now: datetime) -> bool:
    """Return whether ``by`` made the last change of the refill's status, and may still undo it."""
    changed_by = refill.settled_by_id or refill.approved_by_id
    return changed_by == by.pk and refill.undoable_until is not None and now < refill.undoable_until


def next_in_queue(
    by: Account, now: datetime, after: Refill | None, among: RefillQuerySet | None = None
) -> Refill | None:
    """Return the refill that ``by`` should open after ``after`` (None: first), or None; never ``after`` itself.

    It is the next refill in ``among``, in its order, that waits and that no colleague has claimed. After the last one,
    the search starts over. ``among`` is the list that the agent works through, as it is filtered, ordered by names of
    columns; None is the queue. Two statements, and a third one to start over.
    """
    return _first(_turns(by, now, after, among))


def claim_next(by: Account, after: Refill | None, among: RefillQuerySet | None = None) -> Refill | None:
    """Claim for ``by`` what ``next_in_queue`` returns, and end the claim of ``by`` on ``after``.

    Two agents never get the same refill: each skips what the other is claiming at that moment.
    """
    if after:
        release([after.pk], by)
    with transaction.atomic():
        now = timezone.now()
        turns = _turns(by, now, after, among)
        found = _first(turn.select_for_update(skip_locked=True, of=("self",)) for turn in turns)
        if found:
            update([found], claimed_at=now, claimed_by=by)
    return found


def _first(querysets: Iterable[RefillQuerySet]) -> Refill | None:
    return next((found for queryset in querysets if (found := queryset.first())), None)


def _turns(by: Account, now: datetime, after: Refill | None, among: RefillQuerySet | None) -> list[RefillQuerySet]:
    """Return the refills that ``by`` could open: first those that come after ``after``, then all."""
    among = Refill.objects.oldest_first() if among is None else among.select_related(None)
    names = [str(name) for name in among.query.order_by]
    if not {"pk", "-pk", "id", "-id"} & set(names):
        names.append("id")
    free = among.waiting(now).free_for(by, now).order_by(*names)
    if after is None:
        return [free]
    free = free.exclude(pk=after.pk)
    [place] = Refill.objects.filter(pk=after.pk).values_list(*(name.removeprefix("-") for name in names))
    return [free.filter(_follows(names, place)), free]


def _follows(names: list[str], place: Sequence[Any]) -> Q:
    """Return the condition of the rows that come after ``place``, the values of a row by which rows are ordered.

    ``names`` are those of the columns, with "-" for a descending order. As in PostgreSQL, null comes after any value.
    """
    never = Q(pk__in=[])
    follows, same_so_far = never, Q()
    for name, value in zip(names, place, strict=True):
        column = name.removeprefix("-")
        is_null = Q(**{f"{column}__isnull": True})
        if name.startswith("-"):
            later = ~is_null if value is None else Q(**{f"{column}__lt": value})
        else:
            later = never if value is None else Q(**{f"{column}__gt": value}) | is_null
        follows |= same_so_far & later
        same_so_far &= is_null if value is None else Q(**{column: value})
    return follows
