"""The judgement of the test: whether all is quiet, and then whether everything is as it must be."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.db import connection
from django.utils import timezone

from orders.models import Supplier
from refills import supplier_api
from refills.models import Dispatch, DispatchStep, Refill
from refills.statuses import IN_FLIGHT, DispatchState, RefillStatus
from refills.supplier_answers import Progress, Status
from refills.supplier_statistics import alerts

Logs = dict[int, list[dict[str, Any]]]  # the events of the fake suppliers, by the ids of the suppliers
OUTCOMES = {Progress.COMPLETED: RefillStatus.COMPLETED, Progress.REJECTED: RefillStatus.REJECTED}


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the events in the log of a fake supplier, without lines that it was killed while writing."""
    events = []
    for line in path.read_text().splitlines():
        try:
            events.append(json.loads(line))
        except ValueError:
            continue
    return events


def unsettled() -> int:
    """Return how many refills are in flight and do not wait for a person: somebody still has to do something."""
    to_decide = Dispatch.objects.waiting_for_decision().values("refill")
    return Refill.objects.filter(status__in=IN_FLIGHT).exclude(pk__in=to_decide).count()


def jobs(status: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM procrastinate_jobs WHERE status = %s::procrastinate_job_status", [status])
        return int(cursor.fetchone()[0])


def problems(logs: Logs, count: int) -> Iterator[str]:
    """Yield what is wrong, in words. Nothing should be."""
    refills = {refill.pk: refill for refill in Refill.objects.select_related("order", "service")}
    dispatches = Dispatch.objects.in_bulk()
    orders = Counter(refill.order_id for refill in refills.values())
    if len(orders) != count:
        yield f"{len(orders)} of {count} orders have a refill"
    yield from _sent_twice(logs, refills)
    yield from _neither_settled_nor_visible(refills, dispatches)
    yield from _not_as_the_supplier_says(logs, refills, dispatches)
    yield from _gaps_in_the_history(refills, dispatches)
    if doing := jobs("doing"):
        yield f"{doing} jobs are left in “doing”"


def _sent_twice(logs: Logs, refills: dict[str, Any]) -> Iterator[str]:
    """Compare what reached each supplier with the refills of the order: a customer may ask again after a rejection."""
    ours = Counter((refill.service.supplier_id, refill.order.supplier_order) for refill in refills.values())
    for event in ("asked", "taken"):
        theirs = Counter(
            (supplier, entry["order"]) for supplier, log in logs.items() for entry in log if entry["event"] == event
        )
        for order, times in theirs.items():
            if times > ours[order]:
                yield f"order {order} was {event} {times} times for {ours[order]} refills"


def _neither_settled_nor_visible(refills: dict[str, Any], dispatches: dict[str, Any]) -> Iterator[str]:
    shown = set(Dispatch.objects.waiting_for_decision().values_list("pk", flat=True))
    for pk, refill in refills.items():
        if refill.status in IN_FLIGHT and pk not in shown:
            yield f"{pk} is {refill.status}, its dispatch {pk in dispatches and dispatches[pk].state}"
        elif pk not in shown and pk in dispatches and dispatches[pk].ended_at is None:
            yield f"{pk} is {refill.status}, but its dispatch is {dispatches[pk].state}"
    if (told := sum(alerts(timezone.now()).to_decide.values())) != len(shown):
        yield f"the start page says {told} instead of {len(shown)}"


def _not_as_the_supplier_says(logs: Logs, refills: dict[str, Any], dispatches: dict[str, Any]) -> Iterator[str]:
    by_supplier: dict[int, dict[str, Any]] = defaultdict(dict)
    for dispatch in dispatches.values():
        if dispatch.supplier_refill:
            if dispatch.supplier_refill in by_supplier[dispatch.supplier_id]:
                yield f"{dispatch.supplier_refill} of supplier {dispatch.supplier_id} belongs to two refills"
            by_supplier[dispatch.supplier_id][dispatch.supplier_refill] = dispatch
    for supplier in Supplier.objects.all():
        known = by_supplier[supplier.pk]
        taken = {event["refill"]: event["order"] for event in logs[supplier.pk] if event["event"] == "taken"}
        open_orders = {
            refills[pk].order.supplier_order
            for pk, dispatch in dispatches.items()
            if dispatch.supplier_id == supplier.pk and dispatch.waits_for_decision
        }
        for theirs, order in taken.items():
            if theirs not in known and order not in open_orders:
                yield f"{theirs} of order {order} at {supplier} is followed by nobody"
        for theirs, dispatch in known.items():
            if taken.get(theirs) != refills[dispatch.pk].order.supplier_order:
                yield f"{dispatch.pk} is followed as {theirs}, which is of order {taken.get(theirs)}"
        ids = sorted(known)
        for begin in range(0, len(ids), supplier_api.LARGEST_BATCH):
            batch = ids[begin : begin + supplier_api.LARGEST_BATCH]
            said = supplier_api.refill_statuses(supplier, batch)
            for theirs in batch:
                answer = said.get(theirs) if isinstance(said, dict) else said
                refill = refills[known[theirs].pk]
                if not isinstance(answer, Status) or OUTCOMES.get(answer.progress) != refill.status:
                    yield f"{refill.pk} is {refill.status}, but {supplier} says {answer}"


def _gaps_in_the_history(refills: dict[str, Any], dispatches: dict[str, Any]) -> Iterator[str]:
    sent: dict[str, set[int]] = defaultdict(set)
    last: dict[str, str] = {}
    for step in DispatchStep.objects.order_by("id"):  # the clock may have been set back meanwhile
        last[step.dispatch_id] = step.state
        if step.kind == DispatchStep.Kind.SEND:
            sent[step.dispatch_id].add(step.attempt)
    for pk, dispatch in dispatches.items():
        if sent[pk] != set(range(1, dispatch.attempts + 1)):
            yield f"{pk} was sent {dispatch.attempts} times, but its history has {sorted(sent[pk])}"
        if last.get(pk, DispatchState.WAITING) != dispatch.state:
            yield f"{pk} is {dispatch.state} at its supplier, but its history ends with {last.get(pk)}"
    for refill in Refill.objects.prefetch_related("transitions"):
        status = RefillStatus.PENDING.value
        for transition in refill.transitions.all():
            if transition.from_status != status:
                yield f"the history of {refill.pk} has {transition} after {status}"
            status = transition.to_status
        if status != refill.status:
            yield f"{refill.pk} is {refill.status}, but its history ends with {status}"


def figures(logs: Logs) -> dict[str, dict[str, int]]:
    """Return the results: how the refills ended, what reached the suppliers, and the history."""
    ends: Counter[str] = Counter()
    for status, state in Refill.objects.values_list("status", "dispatch__state"):
        ends[f"{status}, {f'{state} at the supplier' if state else 'never sent'}"] += 1
    events: Counter[str] = Counter()
    for log in logs.values():
        for event in log:
            events[event["event"]] += 1
            if fault := event.get("fault"):
                events[f"fault: {fault}"] += 1
    steps: Counter[str] = Counter()
    for kind, state in DispatchStep.objects.values_list("kind", "state"):
        steps[f"{kind}, then {state}"] += 1
    left = {status: jobs(status) for status in ("todo", "doing", "failed")}
    return {
        "ends": dict(sorted(ends.items())),
        "events at the suppliers": dict(sorted(events.items())),
        "steps": dict(sorted(steps.items())),
        "jobs": left,
    }
