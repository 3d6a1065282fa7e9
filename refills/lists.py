"""Settle the refills of a list that staff pasted or uploaded: ids and numbers of refills or of orders."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from django.db import models, transaction
from django.db.models import F
from django.utils import timezone

from apikeys.models import Account
from notpanel.kit.public_id import parse
from orders.models import Order
from refills.models import Refill
from refills.settlement import Outcome, StatusChange, above_quantity, change_status, lock, obstacle

LARGEST_LIST = 1000  # entries


class Numbers(models.TextChoices):
    """What a plain number in a list refers to."""

    EITHER = "either", "refills or orders"
    REFILLS = "refills", "refills"
    ORDERS = "orders", "orders"


class Entry(NamedTuple):
    """An id or a number in a list, and the units delivered if the list has them."""

    line: int
    text: str
    delivered: int | None = None


@dataclass(frozen=True)
class Line:
    """What would become of an entry. An entry with a problem is left out; one with a warning must be confirmed."""

    entry: Entry
    refill: Refill | None = None
    problem: str = ""
    warning: str = ""


def preview(entries: Iterable[Entry], by: Account, numbers: Numbers = Numbers.EITHER) -> list[Line]:
    """Return what would become of each entry if ``by`` settled the list now. Three statements, however long it is.

    An order stands for its refill in flight.
    """
    entries, now = list(entries), timezone.now()
    found = _Found(entries, numbers)
    seen: dict[str, int] = {}
    lines = []
    for entry in entries:
        refill, problem = found.refill(entry.text)
        warning = ""
        if refill and not problem and (refusal := obstacle(refill, by, now)):
            problem = refusal.text
        if refill and not problem and refill.pk in seen:
            problem = f"it is in the list already, in line {seen[refill.pk]}"
        elif refill and not problem:
            seen[refill.pk] = entry.line
            if above := above_quantity(entry.delivered, refill.order.quantity):
                warning = above.text
        lines.append(Line(entry, refill, problem, warning))
    return lines


def settle(refills: Mapping[str, int | None], change: StatusChange, by: Account) -> Outcome:
    """Make the change to ``refills``: ids, with the units delivered where they differ from those of the change.

    All of it is one transaction. Raises what ``change_status`` raises; then nothing was changed.
    """
    groups: dict[int | None, list[str]] = defaultdict(list)
    for refill_id, delivered in refills.items():
        groups[change.delivered if delivered is None else delivered].append(refill_id)
    if len(groups) <= 1:
        units = next(iter(groups), change.delivered)
        return change_status(refills, replace(change, delivered=units), by)
    outcome = Outcome([], {})
    with transaction.atomic():
        lock(refills)  # in the order of their ids; the groups would lock them in another
        for units, ids in groups.items():
            part = change_status(ids, replace(change, delivered=units), by)
            outcome.done.extend(part.done)
            outcome.refused.update(part.refused)
    return outcome


class _Found:
    """The refills and orders that the entries of a list name."""

    def __init__(self, entries: list[Entry], numbers: Numbers) -> None:
        self._as_refill = {entry.text: parse("ref", entry.text) for entry in entries}
        self._as_order = {entry.text: parse("ord", entry.text) for entry in entries}
        of_refills = [name for name in self._as_refill.values() if _is_meant(name, numbers, Numbers.REFILLS)]
        of_orders = [name for name in self._as_order.values() if _is_meant(name, numbers, Numbers.ORDERS)]
        related = ("order", "settled_by", "claimed_by")
        self._refills: dict[str | int | None, Refill] = {}
        for refill in Refill.objects.named(of_refills).select_related(*related):
            self._refills[refill.pk] = self._refills[refill.number] = refill
        self._orders: dict[str | int | None, Order] = {}
        for order in Order.objects.named(of_orders):
            self._orders[order.pk] = self._orders[order.number] = order
        # For each order, the refill in flight, else the one that was settled last.
        latest = (
            Refill.objects.filter(order__in={order.pk for order in self._orders.values()})
            .select_related(*related)
            .order_by("order", F("settled_at").desc(nulls_first=True), "-number")
            .distinct("order")
        )
        self._of_order = {refill.order_id: refill for refill in latest}

    def refill(self, text: str) -> tuple[Refill | None, str]:
        """Return the refill that a text names, and the problem if it is unclear or missing, else ""."""
        refill = self._refills.get(self._as_refill[text])
        order = self._orders.get(self._as_order[text])
        if refill and order and refill.order_id != order.pk:
            return None, (
                f"it may be refill #{refill.number} or order #{order.number}: say above what the numbers are, or"
                " write the id"
            )
        if refill:
            return refill, ""
        if order is None:
            return None, "there is no such refill or order"
        of_order = self._of_order.get(order.pk)
        if of_order is None:
            return None, f"no refill was requested for order #{order.number}"
        return of_order, ""


def _is_meant(name: str | int | None, numbers: Numbers, kind: Numbers) -> bool:
    return not isinstance(name, int) or numbers in (kind, Numbers.EITHER)
