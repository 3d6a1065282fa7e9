"""What the desk shows of a refill: how late it is, how the rules judge it now, and what else helps to decide."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q, QuerySet

from apikeys.models import Account
from orders.models import UNDER_WAY, Order
from refills.models import Refill
from refills.querysets import due_soon_before, late_before
from refills.rules import RULES, Case, Tally
from refills.settlement import claimed_by_another
from refills.statuses import IN_FLIGHT, RefillStatus

LONGEST_LIST = 20  # of earlier refills, or of other orders


@dataclass(frozen=True)
class Verdict:
    """A rule, judged again now for a refill that was accepted earlier."""

    rule: str
    figures: str
    refusal: str | None  # what a request would be told now; None: the rule is kept


@dataclass(frozen=True)
class Step:
    """A line of a refill's history."""

    at: datetime
    what: str
    by: str
    via: str
    note: str


@dataclass(frozen=True)
class Look:
    """Everything that a refill's page shows."""

    refill: Refill
    verdicts: list[Verdict]
    history: list[Step]
    earlier: list[Refill]
    overlapping: list[Order]
    taken_by_another: bool

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
    """Return what ``by`` sees of a refill. Five statements, besides those that loaded it with its order."""
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
    return Look(
        refill=refill,
        verdicts=verdicts(refill.order, tally, now),
        history=history(refill),
        earlier=[other for other in others if other.created_at <= refill.created_at][:LONGEST_LIST],
        overlapping=list(overlapping(refill.order, now)[:LONGEST_LIST]),
        taken_by_another=claimed_by_another(refill, by, now),
    )


def verdicts(order: Order, tally: Tally, now: datetime) -> list[Verdict]:
    """Judge the order by each rule, in their order."""
    case = Case(order, tally, now)
    return [
        Verdict(rule.label, rule.shown(case), rule.refuse(case).text if rule.is_violated(case) else None)
        for rule in RULES
    ]


def history(refill: Refill) -> list[Step]:
    """Return every step in the life of a refill, oldest first; the first one is its request."""
    by_way_of = f"API key {refill.api_key}" if refill.api_key else "dashboard"
    requested = Step(refill.created_at, "Requested", str(refill.account), by_way_of, "")
    return [
        requested,
        *(
            Step(
                step.at,
                f"{step.get_from_status_display()} → {step.get_to_status_display()}",
                str(step.by),
                step.via,
                step.note,
            )
            for step in refill.transitions.select_related("by")
        ),
    ]


def overlapping(order: Order, now: datetime) -> QuerySet[Order]:
    """Return the customer's other orders on the same link that ran while this one did, the latest first."""
    until = order.completed_at or now
    return (
        Order.objects.filter(link=order.link, account=order.account_id, created_at__lte=until)
        .filter(Q(status__in=UNDER_WAY) | Q(completed_at__gte=order.created_at))
        .exclude(pk=order.pk)
        .select_related("service")
        .order_by("-created_at")
    )


def next_in_queue(by: Account, now: datetime, after: Refill) -> Refill | None:
    """Return the oldest refill in flight that no colleague of ``by`` has claimed, or None; never ``after`` itself."""
    return Refill.objects.in_flight().free_for(by, now).exclude(pk=after.pk).oldest_first().first()
