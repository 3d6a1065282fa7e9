"""The figures of the admin's start page. A window of time includes its first moment and excludes ``now``."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Aggregate, Count, DurationField, Exists, ExpressionWrapper, F, OuterRef, Q
from django.db.models.functions import TruncDate

from orders.models import DELIVERED, Order, Service
from refills.models import Refill
from refills.querysets import is_late
from refills.statuses import RefillStatus

WINDOW = timedelta(days=30)
LONGEST_SCORECARD = 20  # services


class Percentile(Aggregate):
    """PostgreSQL's percentile_cont: ``Percentile("field", 0.9)``; None if there are no rows."""

    function = "percentile_cont"
    template = "%(function)s(%(fraction)s) WITHIN GROUP (ORDER BY %(expressions)s)"

    def __init__(self, expression: Any, fraction: float, **extra: Any) -> None:
        super().__init__(expression, fraction=float(fraction), **extra)


@dataclass(frozen=True)
class Score:
    """How a service did in the last 30 days. A rate is a share from 0 to 1, or None without any rows to divide by."""

    service: Service
    orders: int  # completed in the window
    refilled_orders: int  # orders completed in the window that have a refill, whatever its status
    completed: int  # refills settled in the window
    rejected: int

    @property
    def refill_rate(self) -> float | None:
        return self.refilled_orders / self.orders if self.orders else None

    @property
    def honour_rate(self) -> float | None:
        settled = self.completed + self.rejected
        return self.completed / settled if settled else None


@dataclass(frozen=True)
class Statistics:
    waiting: int  # refills in flight
    late: int  # refills in flight that were requested longer than SLA_HOURS ago
    settled_today: int  # since midnight UTC
    hours_to_settle: dict[int, tuple[float | None, float | None]]  # median and p90, by days looked back: 7 and 30
    requests_per_day: list[tuple[str, int]]  # ISO date (UTC) and requests, of 30 days, the oldest first
    scorecard: list[Score]  # the services whose orders drop most come first


def statistics(now: datetime) -> Statistics:
    """Return the figures as of ``now``, in six statements."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    waiting = Refill.objects.in_flight().aggregate(all=Count("id"), late=Count("id", filter=is_late(now)))
    took = ExpressionWrapper(F("settled_at") - F("created_at"), output_field=DurationField())
    last_week = Q(settled_at__gte=now - timedelta(days=7))
    settled = Refill.objects.filter(settled_at__gte=now - WINDOW, settled_at__lt=now).aggregate(
        today=Count("id", filter=Q(settled_at__gte=midnight)),
        median7=Percentile(took, 0.5, filter=last_week),
        p90_7=Percentile(took, 0.9, filter=last_week),
        median30=Percentile(took, 0.5),
        p90_30=Percentile(took, 0.9),
    )
    return Statistics(
        waiting=waiting["all"],
        late=waiting["late"],
        settled_today=settled["today"],
        hours_to_settle={
            7: (_hours(settled["median7"]), _hours(settled["p90_7"])),
            30: (_hours(settled["median30"]), _hours(settled["p90_30"])),
        },
        requests_per_day=_requests_per_day(now, midnight),
        scorecard=_scorecard(now),
    )


def _hours(length: timedelta | None) -> float | None:
    return None if length is None else length.total_seconds() / 3600


def _requests_per_day(now: datetime, midnight: datetime) -> list[tuple[str, int]]:
    first = midnight - timedelta(days=29)
    counts = dict(
        Refill.objects.filter(created_at__gte=first, created_at__lt=now)
        .annotate(day=TruncDate("created_at"))
        .values_list("day")
        .annotate(Count("id"))
        .order_by()
    )
    days = [(first + timedelta(days=ahead)).date() for ahead in range(30)]
    return [(day.isoformat(), counts.get(day, 0)) for day in days]


def _scorecard(now: datetime) -> list[Score]:
    """Return the services of which a refill was settled, or an order with a refill was completed, in the window."""
    window = {"gte": now - WINDOW, "lt": now}
    delivered = Order.objects.filter(
        status__in=DELIVERED, completed_at__gte=window["gte"], completed_at__lt=window["lt"]
    ).annotate(refilled=Exists(Refill.objects.filter(order=OuterRef("pk"))))
    orders = {
        service: (count, refilled)
        for service, count, refilled in delivered.values_list("service")
        .annotate(count=Count("id"), refilled_count=Count("id", filter=Q(refilled=True)))
        .values_list("service", "count", "refilled_count")
        .order_by()
    }
    honoured: Counter[int] = Counter()
    refused: Counter[int] = Counter()
    settled = Refill.objects.filter(settled_at__gte=window["gte"], settled_at__lt=window["lt"])
    rows = settled.values_list("service", "status").annotate(count=Count("id")).order_by()
    for service, status, count in rows:
        (honoured if status == RefillStatus.COMPLETED else refused)[service] += count
    wanted = {service for service, (_, refilled) in orders.items() if refilled} | honoured.keys() | refused.keys()
    scores = [
        Score(service, *orders.get(service.id, (0, 0)), honoured[service.id], refused[service.id])
        for service in Service.objects.filter(id__in=wanted)
    ]
    scores.sort(key=lambda score: (-(score.refill_rate or 0), -(score.completed + score.rejected), score.service.id))
    return scores[:LONGEST_SCORECARD]
