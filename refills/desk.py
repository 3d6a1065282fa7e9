"""What the staff's desk shows of a refill: how late it is, why it was accepted, what else there is to know."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Q, QuerySet

from apikeys.models import Account
from orders.models import Order
from refills.models import IN_FLIGHT, Refill, RefillStatus
from refills.requesting import RULES, Tally, cap_of
from refills.settlement import claimed_by_another

LONGEST_LIST = 20  # of earlier refills, or of other orders


@dataclass(frozen=True)
class Verdict:
    """One rule of requests, judged as of now for a refill that was made already."""

    rule: str
    figures: str
    refusal: str | None  # what a request would be told; None: the rule is kept


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
    """All that is shown of a refill at one look."""

    refill: Refill
    verdicts: list[Verdict]
    history: list[Step]
    earlier: list[Refill]
    overlapping: list[Order]
    taken_by_another: bool

    @property
    def link_is_web(self) -> bool:
        """Whether the order's link, which a customer wrote, may be offered to click on."""
        return self.refill.order.link.startswith(("https://", "http://"))


def timeliness(refill: Refill, now: datetime) -> str:
    """Return "on time", "due soon" (past three quarters of SLA_HOURS) or "late" (past all) for one in flight."""
    share = (now - refill.created_at) / timedelta(hours=settings.SLA_HOURS)
    return "late" if share > 1 else "due soon" if share > 0.75 else "on time"


def duration(length: timedelta) -> str:
    """Write how long something took, as staff compare it: ``25 min``, ``7 h``, ``3 d 4 h``."""
    minutes = int(length.total_seconds() // 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def look_at(refill: Refill, by: Account, now: datetime) -> Look:
    """Gather what ``by`` should see of a refill; five statements beside those that loaded it with its order."""
    others = list(
        Refill.objects.filter(order=refill.order_id)
        .exclude(pk=refill.pk)
        .select_related("settled_by", "reason")
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
        taken_by_another=refill.status in IN_FLIGHT and claimed_by_another(refill, by, now),
    )


def verdicts(order: Order, tally: Tally, now: datetime) -> list[Verdict]:
    """Judge each rule of requests for an order, of whose refills ``tally`` counts all but the one that is looked at."""
    days = order.service.refill_days
    ago = duration(now - order.completed_at) if order.completed_at else "not"
    figures = (
        f"the order is {order.status}",
        f"refill={str(order.service.refill).lower()}",
        f"completed {ago} ago, period: {f'{days} days' if days else 'no end'}",
        f"{tally.in_flight} others in flight",
        f"{tally.used} of {cap_of(order)} used beside this one",
    )
    found = []
    for rule, text in zip(RULES, figures, strict=True):
        refusal = rule(order, tally, now)
        found.append(Verdict(rule.__name__.replace("_", " ").capitalize(), text, refusal.text if refusal else None))
    return found


def history(refill: Refill) -> list[Step]:
    """Return every step in the life of a refill, oldest first; the first is its request."""
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
        .filter(Q(completed_at=None) | Q(completed_at__gte=order.created_at))
        .exclude(pk=order.pk)
        .select_related("service")
        .order_by("-created_at")
    )


def next_in_queue(by: Account, now: datetime, after: Refill) -> Refill | None:
    """Return the oldest refill in flight that no colleague of ``by`` has taken, or None; never ``after`` itself."""
    free_since = now - timedelta(minutes=settings.CLAIM_MINUTES)
    return (
        Refill.objects.filter(status__in=IN_FLIGHT)
        .filter(Q(claimed_at=None) | Q(claimed_at__lte=free_since) | Q(claimed_by=by))
        .exclude(pk=after.pk)
        .order_by("created_at", "id")
        .first()
    )
