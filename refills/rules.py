"""The rules by which a request for a refill is judged, one object per rule (docs/contract.md, "action=refill")."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, NamedTuple, Protocol

from notpanel.kit.durations import duration
from notpanel.kit.refusals import Refusal
from orders.models import DELIVERED, refill_cap
from orders.refusals import OrderNotFound
from refills.refusals import (
    OrderNotDelivered,
    RefillAlreadyPending,
    RefillLimitReached,
    RefillPeriodExpired,
    ServiceNotRefillable,
)


class Terms(Protocol):
    """What a service promises. ``orders.models.Service`` has it."""

    @property
    def refill(self) -> bool: ...
    @property
    def refill_days(self) -> int | None: ...
    @property
    def refill_limit(self) -> int | None: ...


class JudgedOrder(Protocol):
    """What the rules read of an order. ``orders.models.Order`` has it."""

    @property
    def status(self) -> str: ...
    @property
    def completed_at(self) -> datetime | None: ...
    @property
    def service(self) -> Terms: ...


@dataclass
class Tally:
    """How many refills of an order count against another one."""

    in_flight: int = 0
    used: int = 0  # of the cap: all but the rejected ones


class Case(NamedTuple):
    """What is judged: an order with its earlier refills, at a moment."""

    order: JudgedOrder
    tally: Tally
    now: datetime


class Rule:
    """A rule that every request for a refill must keep."""

    label: ClassVar[str]  # what the desk calls it: what holds while the rule is kept
    refusal: ClassVar[type[Refusal]]  # how a request that violates it is refused

    def is_violated(self, case: Case) -> bool:
        raise NotImplementedError

    def figures(self, case: Case) -> dict[str, object]:
        """Return the figures in the text of the refusal."""
        return {}

    def shown(self, case: Case) -> str:
        """Return what the desk shows next to the label: the values on which the verdict depends."""
        raise NotImplementedError

    def refuse(self, case: Case) -> Refusal:
        return self.refusal(**self.figures(case))


class OrderIsDelivered(Rule):
    label = "Order is delivered"
    refusal = OrderNotDelivered

    def is_violated(self, case: Case) -> bool:
        return case.order.status not in DELIVERED

    def shown(self, case: Case) -> str:
        return f"the order is {case.order.status}"


class ServiceRefills(Rule):
    label = "Service refills"
    refusal = ServiceNotRefillable

    def is_violated(self, case: Case) -> bool:
        return not case.order.service.refill

    def shown(self, case: Case) -> str:
        return f"refill={str(case.order.service.refill).lower()}"


class PeriodIsOpen(Rule):
    label = "Refill period is open"
    refusal = RefillPeriodExpired

    def is_violated(self, case: Case) -> bool:
        days, completed_at = case.order.service.refill_days, case.order.completed_at
        return days is not None and completed_at is not None and case.now - completed_at > timedelta(days=days)

    def figures(self, case: Case) -> dict[str, object]:
        return {"days": case.order.service.refill_days}

    def shown(self, case: Case) -> str:
        days, completed_at = case.order.service.refill_days, case.order.completed_at
        period = "has no end" if days is None else f"is {days} days"
        completed = "not completed" if completed_at is None else f"completed {duration(case.now - completed_at)} ago"
        return f"{completed}, the period {period}"


class NoneIsInFlight(Rule):
    label = "No other refill is in flight"
    refusal = RefillAlreadyPending

    def is_violated(self, case: Case) -> bool:
        return case.tally.in_flight > 0

    def shown(self, case: Case) -> str:
        return f"{case.tally.in_flight} in flight"


class CapIsNotReached(Rule):
    label = "Cap is not reached"
    refusal = RefillLimitReached

    def is_violated(self, case: Case) -> bool:
        return case.tally.used >= cap_of(case.order.service)

    def figures(self, case: Case) -> dict[str, object]:
        return {"limit": cap_of(case.order.service)}

    def shown(self, case: Case) -> str:
        return f"{case.tally.used} of {cap_of(case.order.service)} used"


RULES = (OrderIsDelivered(), ServiceRefills(), PeriodIsOpen(), NoneIsInFlight(), CapIsNotReached())

# Every refusal of a request, in the order in which a request is judged.
REFUSALS: tuple[type[Refusal], ...] = (OrderNotFound, *(rule.refusal for rule in RULES))


def judge(order: JudgedOrder, tally: Tally, now: datetime) -> Refusal | None:
    """Return the refusal of the first rule, in the order of RULES, that a request would violate.

    None: the order may be refilled.
    """
    case = Case(order, tally, now)
    return next((rule.refuse(case) for rule in RULES if rule.is_violated(case)), None)


def cap_of(service: Terms) -> int:
    """Return how many refills an order of the service may have, rejected ones not counted."""
    return refill_cap(service.refill_limit)


def left_of(service: Terms, tally: Tally) -> int:
    """Return how many more refills the cap allows an order of the service; 0 if the service does not refill."""
    return max(cap_of(service) - tally.used, 0) if service.refill else 0


def period_end(order: JudgedOrder) -> datetime | None:
    """Return the end of the order's refill period. None: it has no end, or has not begun."""
    days = order.service.refill_days
    return order.completed_at + timedelta(days=days) if order.completed_at and days else None
