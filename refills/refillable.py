"""The orders that may be refilled now, as a condition of the database: what ``rules.judge`` says order by order."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import (
    Count,
    DateTimeField,
    DurationField,
    Exists,
    ExpressionWrapper,
    F,
    OuterRef,
    Q,
    Subquery,
    Value,
)
from django.db.models.functions import Coalesce

from orders.models import DELIVERED
from orders.querysets import OrderQuerySet
from refills.models import Refill


def refillable(orders: OrderQuerySet, now: datetime) -> OrderQuerySet:
    """Return those of ``orders`` for which a refill would be accepted now. A test compares this with the rules."""
    refills = Refill.objects.filter(order=OuterRef("pk"))
    used = refills.used_of_cap().order_by().values("order").annotate(count=Count("pk")).values("count")
    one_day = Value(timedelta(days=1), output_field=DurationField())
    return orders.alias(
        age=ExpressionWrapper(Value(now, output_field=DateTimeField()) - F("completed_at"), DurationField()),
        period=ExpressionWrapper(F("service__refill_days") * one_day, DurationField()),
        used=Coalesce(Subquery(used), 0),
        cap=Coalesce("service__refill_limit", settings.REFILL_LIMIT),
    ).filter(
        Q(service__refill_days=None) | Q(age__lte=F("period")),
        ~Exists(refills.in_flight()),
        status__in=DELIVERED,
        service__refill=True,
        used__lt=F("cap"),
    )
