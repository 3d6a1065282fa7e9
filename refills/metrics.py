"""The metrics of refills for Prometheus: what processes count, and figures of refills and suppliers in the database."""

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import product

from django.db import transaction
from django.db.models import Count, Min, Q
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from notpanel.kit import metrics
from notpanel.kit.refusals import Refusal
from orders.models import Supplier
from orders.refusals import OrderNotFound
from refills.models import Dispatch, Refill, Transition
from refills.querysets import is_late
from refills.rules import REFUSALS
from refills.statuses import IN_FLIGHT, OPEN, DispatchState, RefillStatus
from refills.supplier_answers import NotDone, Refused, Unclear

REQUESTED = "requested"
REFUSED: tuple[type[Refusal], ...] = (OrderNotFound, *REFUSALS)
DESK, BULK = "desk", "bulk"  # one refill, or several at once
WAYS = (DESK, BULK, Transition.Via.COMMAND, Transition.Via.SUPPLIER)
CHANGES = (
    RefillStatus.APPROVED.value,
    RefillStatus.COMPLETED.value,
    RefillStatus.REJECTED.value,
    "undone",
    "reopened",
)
CALLS = ("answered", "refused", "not_done", "unclear")
SUPPLIER_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0)  # seconds; a call ends after 30

ORDERS = metrics.counter(
    "notpanel_refill_orders",
    "Orders in requests for refills: requested, or the code of the rule that refused it.",
    outcome=(REQUESTED, *(refusal.code() for refusal in REFUSED)),
)
CHANGED = metrics.counter(
    "notpanel_refill_changes", "Changes of refills' statuses, by where they came from.", way=WAYS, change=CHANGES
)
SUPPLIER_CALLS = metrics.counter(
    "notpanel_supplier_calls", "Requests to suppliers, by the supplier's id.", supplier=(), outcome=CALLS
)
SUPPLIER_SECONDS = metrics.histogram(
    "notpanel_supplier_call_duration_seconds", "Seconds until a supplier answered.", SUPPLIER_BUCKETS, supplier=()
)
# Looking a series up by its labels takes longer than counting.
_orders = functools.cache(ORDERS.labels)


def count_orders(outcomes: Sequence[tuple[object, ...] | Refusal]) -> None:
    """Count what became of the orders of a request."""
    for code, count in Counter(each.code() if isinstance(each, Refusal) else REQUESTED for each in outcomes).items():
        _orders(code).inc(count)


def count_changes(via: Transition.Via, change: str, changed: int, *, asked: int) -> None:
    """Count ``changed`` refills once their new status is committed. ``asked``: how many the caller wanted to change."""
    way = (DESK if asked == 1 else BULK) if via == Transition.Via.ADMIN else via.value
    if changed:
        transaction.on_commit(lambda: CHANGED.labels(way, change).inc(changed))


def count_call(supplier: int, reply: object, seconds: float) -> None:
    """Count a request to a supplier."""
    outcome = {Refused: "refused", NotDone: "not_done", Unclear: "unclear"}.get(type(reply), "answered")
    SUPPLIER_CALLS.labels(supplier, outcome).inc()
    SUPPLIER_SECONDS.labels(supplier).observe(seconds)


# ---- The figures of the database


def read_refills(now: datetime) -> Iterator[Metric]:
    """Yield what is in flight, by one statement, which an index of the statuses serves."""
    found = dict.fromkeys(IN_FLIGHT, (0, None, 0))
    rows = Refill.objects.in_flight().order_by().values_list("status")
    annotated = rows.annotate(count=Count("pk"), since=Min("created_at"), late=Count("pk", filter=is_late(now)))
    for status, *figures in annotated:
        found[status] = tuple(figures)
    count = GaugeMetricFamily("notpanel_refills_in_flight", "Refills that are not settled.", labels=["status"])
    age = GaugeMetricFamily("notpanel_refills_oldest_seconds", "Age of the oldest of them.", labels=["status"])
    late = GaugeMetricFamily("notpanel_refills_late", "Those requested over SLA_HOURS ago.", labels=["status"])
    for status, (how_many, since, how_many_late) in found.items():
        count.add_metric([status], how_many)
        age.add_metric([status], (now - since).total_seconds() if since else 0)
        late.add_metric([status], how_many_late)
    yield from (count, age, late)


def read_suppliers(now: datetime) -> Iterator[Metric]:
    """Yield the state of suppliers and what is on its way to them, by three statements."""
    suppliers = list(Supplier.objects.values_list("pk", "paused", "traffic__failures", "traffic__rests_until"))
    paused = _of_supplier("notpanel_supplier_paused", "1 if staff have paused it.")
    resting = _of_supplier("notpanel_supplier_resting", "1 if its circuit breaker is open: it is left alone.")
    failures = _of_supplier("notpanel_supplier_failures", "Requests in a row that it did not answer.")
    for supplier, is_paused, failed, rests_until in suppliers:
        paused.add_metric([str(supplier)], is_paused)
        resting.add_metric([str(supplier)], rests_until is not None and rests_until > now)
        failures.add_metric([str(supplier)], failed or 0)
    yield from (paused, resting, failures)

    dispatches = _of_supplier("notpanel_dispatches", "Refills on their way to a supplier, or followed there.", "state")
    overdue = _of_supplier("notpanel_dispatches_overdue_seconds", "Seconds that the next thing to do has been due.")
    found = dict.fromkeys(product((supplier for supplier, *_ in suppliers), OPEN), 0)
    due: dict[int, datetime] = {}
    rows = Dispatch.objects.filter(ended_at=None).order_by().values_list("supplier", "state")
    is_due = Q(next_at__lte=now)
    for supplier, state, count, since in rows.annotate(count=Count("pk"), since=Min("next_at", filter=is_due)):
        found[supplier, state] = count
        if since:
            due[supplier] = min(since, due.get(supplier, since))
    for (supplier, state), count in found.items():
        dispatches.add_metric([str(supplier), state], count)
    for supplier, *_ in suppliers:
        overdue.add_metric([str(supplier)], (now - due.get(supplier, now)).total_seconds())
    yield from (dispatches, overdue)

    by_state = dict.fromkeys((DispatchState.UNCLEAR, DispatchState.REFUSED, DispatchState.GIVEN_UP), 0)
    by_state |= dict(
        Dispatch.objects.waiting_for_decision().order_by().values_list("state").annotate(count=Count("pk"))
    )
    to_decide = GaugeMetricFamily(
        "notpanel_dispatches_to_decide", "Refills at suppliers about which an agent must decide.", labels=["state"]
    )
    for state, count in by_state.items():
        to_decide.add_metric([state], count)
    yield to_decide


def _of_supplier(name: str, documentation: str, *others: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, documentation, labels=["supplier", *others])
