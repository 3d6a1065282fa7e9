"""The figures of the start page, counted from the refills and orders: what ``refills.statistics`` has to equal."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.db.models import Count, DurationField, Exists, ExpressionWrapper, F, OuterRef, Q
from django.db.models.functions import TruncDate

from orders.models import DELIVERED, Order, Service
from refills import statistics as fast
from refills.figures import DAYS
from refills.models import Refill
from refills.querysets import RefillQuerySet, is_late
from refills.statistics import (
    LONGEST_SCORECARD,
    WEEK,
    WINDOW,
    WORST_CUSTOMERS,
    AgentScore,
    CustomerScore,
    Day,
    Percentile,
    Rates,
    Score,
    Statistics,
    Week,
)
from refills.statuses import RefillStatus

_OUTCOMES = {
    "completed": Count("id", filter=Q(status=RefillStatus.COMPLETED)),
    "rejected": Count("id", filter=Q(status=RefillStatus.REJECTED)),
}
_TOOK = ExpressionWrapper(F("settled_at") - F("created_at"), output_field=DurationField())


def statistics(now: datetime) -> Statistics:
    """Return the figures as of ``now``, the slow way."""
    in_flight = Refill.objects.in_flight().aggregate(
        all=Count("id"),
        approved=Count("id", filter=Q(status=RefillStatus.APPROVED)),
        late=Count("id", filter=is_late(now)),
    )
    requested, requested_this_week, requested_before = _requested(now)
    this_week, before = Q(settled_at__gte=now - WEEK), Q(settled_at__gte=now - 2 * WEEK, settled_at__lt=now - WEEK)
    rejected = Q(status=RefillStatus.REJECTED)
    settled = _settled_since(now - WINDOW, now).aggregate(
        week=Count("id", filter=this_week),
        rejected=Count("id", filter=this_week & rejected),
        before=Count("id", filter=before),
        rejected_before=Count("id", filter=before & rejected),
        median7=Percentile(_TOOK, 0.5, filter=this_week),
        p90_7=Percentile(_TOOK, 0.9, filter=this_week),
        median_before=Percentile(_TOOK, 0.5, filter=before),
        median30=Percentile(_TOOK, 0.5),
        p90_30=Percentile(_TOOK, 0.9),
    )
    hours = {name: _hours(settled[name]) for name in ("median7", "p90_7", "median_before", "median30", "p90_30")}
    return Statistics(
        waiting=Refill.objects.waiting(now).count(),
        in_flight=in_flight["all"],
        approved=in_flight["approved"],
        late=in_flight["late"],
        hours_to_settle={7: (hours["median7"], hours["p90_7"]), 30: (hours["median30"], hours["p90_30"])},
        week=Week(requested_this_week, settled["week"], settled["rejected"], hours["median7"]),
        week_before=Week(requested_before, settled["before"], settled["rejected_before"], hours["median_before"]),
        days=_days(now, requested, in_flight["all"]),
        agents=_agents(now),
        scorecard=_scorecard(now),
        worst_customers=_worst_customers(now),
    )


def _hours(length: timedelta) -> float | None:
    return None if length is None else length.total_seconds() / 3600


def _settled_since(moment: datetime, now: datetime) -> RefillQuerySet:
    return Refill.objects.settled().filter(settled_at__gte=moment, settled_at__lt=now)


def _midnight(now: datetime, days: int) -> datetime:
    """Return the midnight (UTC) at which the last ``days`` days began; today is one of them."""
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days - 1)


def _requested(now: datetime) -> tuple[dict[date, int], int, int]:
    """Return how many refills were requested: on each of the days, in the last week, and in the week before."""
    rows = (
        # All statuses are named, so that the index that begins with the status is used.
        Refill.objects.filter(status__in=RefillStatus.values, created_at__gte=_midnight(now, DAYS), created_at__lt=now)
        .annotate(day=TruncDate("created_at", tzinfo=UTC))
        .values_list("day")
        .annotate(
            count=Count("id"),
            week=Count("id", filter=Q(created_at__gte=now - WEEK)),
            before=Count("id", filter=Q(created_at__gte=now - 2 * WEEK, created_at__lt=now - WEEK)),
        )
        .order_by()
    )
    by_day: dict[date, int] = {}
    this_week = before = 0
    for day, count, in_week, in_week_before in rows:
        by_day[day] = count
        this_week, before = this_week + in_week, before + in_week_before
    return by_day, this_week, before


def _days(now: datetime, requested: dict[date, int], in_flight: int) -> list[Day]:
    """Return the last 30 days. How many were in flight at the end of each follows from today's, back day by day."""
    first = _midnight(now, DAYS)
    rows = (
        _settled_since(first, now)
        .annotate(day=TruncDate("settled_at", tzinfo=UTC))
        .values_list("day", "status")
        .annotate(count=Count("id"))
        .order_by()
    )
    settled = {(day, status): count for day, status, count in rows}
    days: list[Day] = []
    for back in range(DAYS):
        day = first.date() + timedelta(days=DAYS - 1 - back)
        completed = settled.get((day, RefillStatus.COMPLETED), 0)
        rejected = settled.get((day, RefillStatus.REJECTED), 0)
        days.append(Day(day, requested.get(day, 0), completed, rejected, in_flight))
        in_flight = max(in_flight - days[-1].requested + completed + rejected, 0)
    return days[::-1]


def _agents(now: datetime) -> list[AgentScore]:
    rows = (
        _settled_since(_midnight(now, WEEK.days), now)
        .filter(settled_by__supplier=None)  # otherwise a supplier settled it, in the name of its own account
        .values_list("settled_by", "settled_by__username")
        .annotate(**_OUTCOMES, took=Percentile(_TOOK, 0.5))
        .order_by()
    )
    agents = [
        AgentScore(account, username, completed, rejected, took.total_seconds() / 3600)
        for account, username, completed, rejected, took in rows
    ]
    return sorted(agents, key=lambda agent: (-(agent.completed + agent.rejected), agent.username))


def _scorecard(now: datetime) -> list[Score]:
    """Return the services of which enough orders were completed, or enough refills settled, in the window."""
    orders, settled = _orders_by("service", now), _outcomes(_settled_since(_midnight(now, DAYS), now), "service")
    rates = {
        service: Rates(*orders.get(service, (0, 0)), *settled.get(service, (0, 0)))
        for service in orders.keys() | settled.keys()
    }
    wanted = [service for service, known in rates.items() if known.refill_rate or known.honour_rate is not None]
    scores = [Score(service, rates[service.id]) for service in Service.objects.filter(id__in=wanted)]
    scores.sort(key=lambda score: (-(score.rates.refill_rate or 0), -score.rates.settled, score.service.id))
    return scores[:LONGEST_SCORECARD]


def _worst_customers(now: datetime) -> list[CustomerScore]:
    """Return those of the customers with the most settled refills whose refills were rejected most."""
    rows = (
        _settled_since(_midnight(now, DAYS), now)
        .values_list("account", "account__username")
        .annotate(count=Count("id"), **_OUTCOMES)
        .filter(count__gte=fast.LEAST_SAMPLE)
        .order_by("-count", "account")
        .values_list("account", "account__username", "completed", "rejected")[: fast.CANDIDATES]
    )
    found = [(account, username, Rates(0, 0, *outcomes)) for account, username, *outcomes in rows]
    found.sort(key=lambda row: (-(row[2].rejected_share or 0), -row[2].settled, row[1]))
    worst = found[:WORST_CUSTOMERS]
    orders = _orders_by("account", now, account__in=[account for account, _, _ in worst])
    return [
        CustomerScore(username, Rates(*orders.get(account, (0, 0)), rates.completed, rates.rejected))
        for account, username, rates in worst
    ]


def _outcomes(settled: RefillQuerySet, field: str) -> dict[Any, tuple[int, int]]:
    """Return how many of the refills were completed and rejected, by the value of ``field``."""
    rows = settled.values_list(field).annotate(**_OUTCOMES).order_by()
    return {value: (completed, rejected) for value, completed, rejected in rows}


def _orders_by(field: str, now: datetime, **wanted: Any) -> dict[Any, tuple[int, int]]:
    """Return how many orders were completed in the window, and how many of them have a refill, by ``field``."""
    rows = (
        Order.objects.filter(
            status__in=DELIVERED, completed_at__gte=_midnight(now, DAYS), completed_at__lt=now, **wanted
        )
        .annotate(refilled=Exists(Refill.objects.filter(order=OuterRef("pk"))))
        .values_list(field)
        .annotate(count=Count("id"), refilled_count=Count("id", filter=Q(refilled=True)))
        .values_list(field, "count", "refilled_count")
        .order_by()
    )
    return {value: (count, refilled) for value, count, refilled in rows}
