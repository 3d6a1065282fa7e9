"""The figures of suppliers: a supplier's scorecard, and what the start page must tell agents about suppliers."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, DurationField, Exists, ExpressionWrapper, F, OuterRef, Q

from orders.models import Supplier
from refills.models import Dispatch, DispatchStep, SupplierState
from refills.statistics import WINDOW, Percentile
from refills.statuses import DispatchState

FAILING = 3  # requests in a row without an answer, after which the start page says so

BY_A_PERSON = (DispatchState.UNCLEAR, DispatchState.REFUSED, DispatchState.GIVEN_UP)

_TOOK = ExpressionWrapper(F("ended_at") - F("sent_at"), output_field=DurationField())


@dataclass(frozen=True)
class Score:
    """What became of the refills that were to be sent to a supplier in the last 30 days."""

    accepted: int
    refused: int
    settled: int  # by the supplier
    hours: tuple[float | None, float | None]  # from sending to its settlement: median and p90
    unclear: int  # ever, as far as the history goes
    given_up: int


@dataclass(frozen=True)
class BrokenPromise:
    """Refills that a supplier refused in the last 30 days although the catalogue promises them."""

    supplier: str
    service_id: int
    service: str
    count: int


@dataclass(frozen=True)
class Alerts:
    """What agents have to see about suppliers."""

    to_decide: dict[DispatchState, int]  # refills in flight about which an agent decides, by why
    failing: list[SupplierState]
    broken_promises: list[BrokenPromise]  # the most frequent first


def score_of(supplier: Supplier, now: datetime) -> Score:
    """Return the scorecard of a supplier, in one statement."""
    was_unclear = DispatchStep.objects.filter(dispatch=OuterRef("pk"), state=DispatchState.UNCLEAR)
    by_supplier = Q(state=DispatchState.SETTLED, refill__settled_by=supplier.account_id)
    found: dict[str, Any] = (
        Dispatch.objects.filter(supplier=supplier, asked_at__gte=now - WINDOW)
        .annotate(was_unclear=Exists(was_unclear))
        .aggregate(
            accepted=Count("pk", filter=~Q(supplier_refill="")),
            refused=Count("pk", filter=Q(state=DispatchState.REFUSED)),
            settled=Count("pk", filter=by_supplier),
            median=Percentile(_TOOK, 0.5, filter=by_supplier),
            p90=Percentile(_TOOK, 0.9, filter=by_supplier),
            unclear=Count("pk", filter=Q(was_unclear=True)),
            given_up=Count("pk", filter=Q(state=DispatchState.GIVEN_UP)),
        )
    )
    hours = (_hours(found.pop("median")), _hours(found.pop("p90")))
    return Score(hours=hours, **found)


def alerts(now: datetime) -> Alerts:
    """Return what the start page tells of the suppliers, in three statements."""
    broken = (
        Dispatch.objects.filter(breaks_promise=True, asked_at__gte=now - WINDOW)
        .values_list("supplier__name", "refill__service", "refill__service__name")
        .annotate(count=Count("pk"))
        .order_by("-count", "supplier__name", "refill__service")[:20]
    )
    to_decide = Dispatch.objects.waiting_for_decision().aggregate(
        **{state: Count("pk", filter=Q(state=state)) for state in BY_A_PERSON}
    )
    return Alerts(
        to_decide={state: to_decide[state] for state in BY_A_PERSON},
        failing=list(SupplierState.objects.filter(failures__gte=FAILING).select_related("supplier")),
        broken_promises=[BrokenPromise(*row) for row in broken],
    )


def _hours(length: timedelta | None) -> float | None:
    return None if length is None else length.total_seconds() / 3600
