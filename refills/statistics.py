"""The figures of the admin's start page. A window of time includes its first moment and excludes ``now``.

``statistics()`` reads the figures by day (``refills.figures``), so its days are days of UTC, whatever time zone an
agent has. Only what lies between a moment and a midnight is counted from the refills. ``today()`` counts the agent's
own day. tests/refills/slow_statistics.py counts all of it from the refills and orders: the tests compare the two.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import Aggregate, Count, Q
from django.utils import timezone

from orders.models import Service
from refills import statistics_sql as sql
from refills.figures import DAYS, first_day
from refills.models import Refill
from refills.querysets import is_awake, is_late
from refills.statuses import SETTLED, RefillStatus

WINDOW = timedelta(days=DAYS)  # for medians; days are counted from a midnight on
WEEK = timedelta(days=7)
LONGEST_SCORECARD = 20  # services
WORST_CUSTOMERS = 10
CANDIDATES = 200  # customers with the most settled refills, among whom the worst are looked for
LEAST_SAMPLE = 10  # orders, or settled refills: of fewer no rate is told

_OUTCOMES = {
    "completed": Count("id", filter=Q(status=RefillStatus.COMPLETED)),
    "rejected": Count("id", filter=Q(status=RefillStatus.REJECTED)),
}


class Percentile(Aggregate):
    """PostgreSQL's percentile_cont: ``Percentile("field", 0.9)``; None if there are no rows."""

    function = "percentile_cont"
    template = "%(function)s(%(fraction)s) WITHIN GROUP (ORDER BY %(expressions)s)"

    def __init__(self, expression: Any, fraction: float, **extra: Any) -> None:
        super().__init__(expression, fraction=float(fraction), **extra)


@dataclass(frozen=True)
class Rates:
    """How the orders and refills of a service or a customer went, today and on the 29 days before.

    A rate is a share from 0 to 1, or None if there are fewer than LEAST_SAMPLE rows to divide by.
    """

    orders: int = 0  # completed in the window
    refilled_orders: int = 0  # orders completed in the window that have a refill, whatever its status
    completed: int = 0  # refills settled in the window
    rejected: int = 0

    @property
    def settled(self) -> int:
        return self.completed + self.rejected

    @property
    def refill_rate(self) -> float | None:
        return _share(self.refilled_orders, self.orders)

    @property
    def honour_rate(self) -> float | None:
        return _share(self.completed, self.settled)

    @property
    def rejected_share(self) -> float | None:
        return _share(self.rejected, self.settled)


@dataclass(frozen=True)
class Score:
    service: Service
    rates: Rates


@dataclass(frozen=True)
class CustomerScore:
    username: str
    rates: Rates


@dataclass(frozen=True)
class AgentScore:
    """What a member of the staff settled today and on the six days before."""

    account_id: int
    username: str
    completed: int
    rejected: int
    hours: float  # from request to settlement, the median


@dataclass(frozen=True)
class Day:
    date: date  # in UTC
    requested: int
    completed: int
    rejected: int
    in_flight: int  # at the end of the day; today: now


@dataclass(frozen=True)
class Week:
    """Seven days that end at a moment."""

    requested: int
    settled: int
    rejected: int
    hours: float | None  # from request to settlement, the median

    @property
    def rejected_share(self) -> float | None:
        return self.rejected / self.settled if self.settled else None


@dataclass(frozen=True)
class Statistics:
    waiting: int  # pending refills that are not snoozed
    in_flight: int
    approved: int
    late: int  # refills in flight that were requested longer than SLA_HOURS ago
    hours_to_settle: dict[int, tuple[float | None, float | None]]  # median and p90, by days looked back: 7 and 30
    week: Week
    week_before: Week
    days: list[Day]  # today and the 29 before, the oldest first
    agents: list[AgentScore]  # those who settled most come first
    scorecard: list[Score]  # the services whose orders drop most come first
    worst_customers: list[CustomerScore]  # those whose refills were rejected most come first


@dataclass(frozen=True)
class Today:
    date: date  # in the current time zone
    requested: int
    completed: int
    rejected: int


def today(now: datetime) -> Today:
    """Return what came and went since midnight of the current time zone, in two statements."""
    local = timezone.localtime(now)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    requested = Refill.objects.filter(status__in=RefillStatus.values, created_at__gte=midnight, created_at__lt=now)
    settled = Refill.objects.settled().filter(settled_at__gte=midnight, settled_at__lt=now).aggregate(**_OUTCOMES)
    return Today(local.date(), requested.count(), **settled)


def statistics(now: datetime) -> Statistics:
    """Return the figures as of ``now``, in seven statements."""
    parameters = _parameters(now)
    in_flight = Refill.objects.in_flight().aggregate(
        all=Count("id"),
        approved=Count("id", filter=Q(status=RefillStatus.APPROVED)),
        late=Count("id", filter=is_late(now)),
        waiting=Count("id", filter=Q(status=RefillStatus.PENDING) & is_awake(now)),
    )
    by_day, this_week, before = _requested_and_settled(now, parameters)
    counts: dict[str, tuple[int, int]] = {"week": (0, 0), "before": (0, 0)}
    hours: dict[tuple[str, float], float | None] = {}
    for name, completed, rejected, fraction, took in _rows(sql.HOURS, parameters | {"fractions": [0.5, 0.9]}):
        counts[name] = completed + rejected, rejected
        hours[name, fraction] = _hours(took)
    return Statistics(
        waiting=in_flight["waiting"],
        in_flight=in_flight["all"],
        approved=in_flight["approved"],
        late=in_flight["late"],
        hours_to_settle={
            7: (hours.get(("week", 0.5)), hours.get(("week", 0.9))),
            30: (hours.get(("month", 0.5)), hours.get(("month", 0.9))),
        },
        week=Week(this_week, *counts["week"], hours.get(("week", 0.5))),
        week_before=Week(before, *counts["before"], hours.get(("before", 0.5))),
        days=_days(now, by_day, in_flight["all"]),
        agents=_agents(now, parameters),
        scorecard=_scorecard(parameters),
        worst_customers=_worst_customers(parameters),
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole >= LEAST_SAMPLE else None


def _hours(length: timedelta | None) -> float | None:
    return None if length is None else length.total_seconds() / 3600


def _rows(statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    # Not prepared: the plan depends on how far the moments lie apart.
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall()


def _midnight(moment: datetime, days: int = 1) -> datetime:
    """Return the midnight (UTC) at which the last ``days`` days of ``moment`` began; its own day is one of them."""
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days - 1)


def _parameters(now: datetime) -> dict[str, Any]:
    """Return the moments and days of which the statements tell. The day of ``week`` is whole in the week before."""
    week, before, month = now - WEEK, now - 2 * WEEK, now - WINDOW
    after_week, after_before, after_month = (_midnight(moment, 0) for moment in (week, before, month))
    return {
        "now": now,
        "today": now.astimezone(UTC).date(),
        "tomorrow": _midnight(now, 0),
        "first": first_day(now),
        "starts": _midnight(now, DAYS),
        "week": week,
        "after_week": after_week,
        "week_first": after_week.date(),
        "before": before,
        "after_before": after_before,
        "before_first": after_before.date(),
        "before_last": after_week.date() - timedelta(days=1),
        "month": month,
        "after_month": after_month,
        "statuses": RefillStatus.values,  # all, so that the index that begins with the status is used
        "of_refills": ["requested", *SETTLED],
        "settled": list(SETTLED),
        "least": LEAST_SAMPLE,
        "candidates": CANDIDATES,
        "longest": LONGEST_SCORECARD,
    }


def _requested_and_settled(
    now: datetime, parameters: dict[str, Any]
) -> tuple[dict[date, tuple[int, int, int]], int, int]:
    """Return what was requested, completed and rejected on each day, and requested in the last week and before it."""
    by_day: dict[date, tuple[int, int, int]] = {}
    after_week = after_before = 0  # requests between the first moment of a week and the midnight after it
    for day, requested, completed, rejected, after_week, after_before in _rows(sql.BY_DAY, parameters):  # noqa: B007
        by_day[day] = requested, completed, rejected
    requests = {day: counts[0] for day, counts in by_day.items()}
    week_first, before_first = parameters["week_first"], parameters["before_first"]
    this_week = after_week + sum(count for day, count in requests.items() if day >= week_first)
    before = (
        after_before - after_week + sum(count for day, count in requests.items() if before_first <= day < week_first)
    )
    return by_day, this_week, before


def _days(now: datetime, by_day: dict[date, tuple[int, int, int]], in_flight: int) -> list[Day]:
    """Return the last 30 days. How many were in flight at the end of each follows from today's, back day by day."""
    days: list[Day] = []
    for back in range(DAYS):
        day = now.astimezone(UTC).date() - timedelta(days=back)
        requested, completed, rejected = by_day.get(day, (0, 0, 0))
        days.append(Day(day, requested, completed, rejected, in_flight))
        in_flight = max(in_flight - requested + completed + rejected, 0)
    return days[::-1]


def _agents(now: datetime, parameters: dict[str, Any]) -> list[AgentScore]:
    starts = _midnight(now, WEEK.days)
    rows = _rows(
        f"SELECT id, username, found.* FROM ({sql.AGENTS}) AS found JOIN apikeys_account ON id = name",
        parameters | {"starts": starts, "week_of_days": starts.date(), "fractions": [0.5]},
    )
    agents = [
        AgentScore(account, username, completed, rejected, took.total_seconds() / 3600)
        for account, username, _, completed, rejected, _, took in rows
    ]
    return sorted(agents, key=lambda agent: (-(agent.completed + agent.rejected), agent.username))


def _scorecard(parameters: dict[str, Any]) -> list[Score]:
    """Return the services of which enough orders were completed, or enough refills settled, in the window."""
    rates = {service: Rates(*counts) for service, *counts in _rows(sql.SCORECARD, parameters)}
    services = Service.objects.in_bulk(rates)
    return [Score(services[service], rates[service]) for service in rates]


def _worst_customers(parameters: dict[str, Any]) -> list[CustomerScore]:
    """Return those of the customers with the most settled refills whose refills were rejected most."""
    found = [CustomerScore(username, Rates(*counts)) for username, *counts in _rows(sql.CANDIDATES, parameters)]
    found.sort(key=lambda score: (-(score.rates.rejected_share or 0), -score.rates.settled, score.username))
    return found[:WORST_CUSTOMERS]
