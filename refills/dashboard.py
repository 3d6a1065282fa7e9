"""What the customer's dashboard shows of orders and refills."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q

from apikeys.models import ApiKey
from notpanel.kit.public_id import parse
from notpanel.kit.refusals import Refusal
from orders.models import DELIVERED, Order
from orders.querysets import OrderQuerySet
from orders.refusals import OrderNotFound
from refills.checking import Verdict, check_orders
from refills.models import Refill
from refills.querysets import RefillQuerySet
from refills.refillable import refillable
from refills.refusals import RefillAlreadyPending
from refills.requesting import RequestedRefill

# The columns of the customer's file, and the fields that they show.
HISTORY = {
    "refill": "id",
    "number": "number",
    "status": "status",
    "order": "order_id",
    "order_number": "order__number",
    "link": "order__link",
    "service": "service_id",
    "service_name": "service__name",
    "requested (UTC)": "created_at",
    "settled (UTC)": "settled_at",
    "delivered": "delivered",
    "reason": "reason_text",
}
REFILLABLE = "refillable"  # a choice beside the statuses
SHOWN = 10  # rows of a list on the overview
TRIED_FOR_EXAMPLE = 20
SHOWN_RESULTS = 100  # of a pasted list, one by one


@dataclass(frozen=True)
class OrderRow:
    """An order as its customer sees it."""

    order: Order
    verdict: Verdict

    @property
    def is_delivered(self) -> bool:
        return self.order.status in DELIVERED


@dataclass(frozen=True)
class Overview:
    keys: list[ApiKey]
    in_flight: list[Refill]
    settled: list[Refill]


def overview(account_id: int, now: datetime) -> Overview:
    """Return the active keys, the oldest refills in flight and those settled last; three statements."""
    refills = Refill.objects.filter(account=account_id).select_related("order", "service")
    return Overview(
        keys=list(ApiKey.objects.active(now).filter(account=account_id).order_by("-created_at")),
        in_flight=list(refills.in_flight().oldest_first()[:SHOWN]),
        settled=list(refills.settled().order_by("-settled_at", "-id")[:SHOWN]),
    )


def orders_of(account_id: int, now: datetime, *, status: str = "", search: str = "") -> OrderQuerySet:
    """Return the account's orders of a status, or with REFILLABLE those that may be refilled now.

    ``search`` is what somebody pasted: ids, numbers and links of orders, or a part of a link.
    """
    orders = Order.objects.filter(account=account_id).select_related("service")
    if status == REFILLABLE:
        orders = refillable(orders, now)
    elif status:
        orders = orders.filter(status=status)
    return orders.found_by(search) if search else orders


def order_rows(account_id: int, orders: Iterable[Order], now: datetime) -> list[OrderRow]:
    """Judge each of the account's orders as a request for its refill would be judged now. Takes one statement."""
    orders = list(orders)
    verdicts = check_orders(account_id, [order.id for order in orders], now)
    # An order that another connection has deleted meanwhile has no verdict.
    return [OrderRow(order, found) for order, found in zip(orders, verdicts, strict=True) if isinstance(found, Verdict)]


@dataclass(frozen=True)
class OrderPage:
    """An order with its history."""

    row: OrderRow
    refills: list[Refill]  # the latest first


def find_order(account_id: int, reference: str, now: datetime) -> OrderPage | None:
    """Return the account's order of this id or number with its refills; three statements."""
    order = Order.objects.filter(account=account_id).named([parse("ord", reference)]).select_related("service").first()
    if order is None:
        return None
    refills = order.refills.select_related("order", "service").order_by("-created_at", "-pk")
    rows = order_rows(account_id, [order], now)
    return OrderPage(rows[0], list(refills)) if rows else None


@dataclass(frozen=True)
class Result:
    """What became of an order in a pasted list."""

    order: str  # as it was pasted
    refill: str | None = None  # the id of the new refill
    refusal: Refusal | None = None
    in_flight: str | None = None  # the id of the refill because of which it was refused

    @property
    def is_known(self) -> bool:
        return not isinstance(self.refusal, OrderNotFound)


@dataclass(frozen=True)
class Refused:
    """The orders of a pasted list that were refused for the same reason, or for any reason."""

    reason: str
    orders: list[str]  # as they were pasted

    @property
    def lines(self) -> str:
        return "\n".join(self.orders)


@dataclass(frozen=True)
class ListResults:
    """What became of a pasted list."""

    count: int
    requested: int
    refused: list[Refused]  # one for each reason, the most frequent first; before them one for all if they are several
    first: list[Result]  # in the order of the list


def list_results(
    account_id: int, ids: list[str], outcomes: list[RequestedRefill | Refusal], now: datetime
) -> ListResults:
    """Sort out what ``request_refills`` returned for ``ids``.

    One statement more finds the refills in flight of the orders that are shown one by one.
    """
    reasons: dict[str, list[str]] = {}
    for order, outcome in zip(ids, outcomes, strict=True):
        if isinstance(outcome, Refusal):
            reasons.setdefault(outcome.text, []).append(order)
    refused = sorted(map(Refused, reasons, reasons.values()), key=lambda each: -len(each.orders))
    if len(refused) > 1:
        all_of_them = [each for each, outcome in zip(ids, outcomes, strict=True) if isinstance(outcome, Refusal)]
        refused.insert(0, Refused("All that were refused", all_of_them))
    shown = list(zip(ids, outcomes, strict=True))[:SHOWN_RESULTS]
    pending = [order for order, outcome in shown if isinstance(outcome, RefillAlreadyPending)]
    verdicts = zip(pending, check_orders(account_id, pending, now) if pending else [], strict=True)
    in_flight = {
        order: found.in_flight[0] for order, found in verdicts if isinstance(found, Verdict) and found.in_flight
    }
    return ListResults(
        count=len(ids),
        requested=sum(not isinstance(outcome, Refusal) for outcome in outcomes),
        refused=refused,
        first=[
            Result(order, refusal=outcome, in_flight=in_flight.get(order))
            if isinstance(outcome, Refusal)
            else Result(order, refill=outcome.id)
            for order, outcome in shown
        ],
    )


def refills_of(account_id: int, *, status: str = "", search: str = "") -> RefillQuerySet:
    """Return the account's refills of a status; ``search`` is the id or the number of a refill or of its order."""
    refills = Refill.objects.filter(account=account_id).select_related("order", "service")
    if status:
        refills = refills.filter(status=status)
    if search:
        # The ids are looked up first, by indexes of their own; then an index finds the refills by them.
        orders = Order.objects.filter(account=account_id).named([parse("ord", search)])
        named = Refill.objects.filter(account=account_id).named([parse("ref", search)]).values_list("pk", flat=True)
        refills = refills.filter(Q(order__in=list(orders)) | Q(pk__in=list(named)))
    return refills


@dataclass(frozen=True)
class OwnIds:
    """An account's own ids, for the examples of the developers' pages."""

    order: str | None  # the latest
    refillable: list[str]  # orders that may be refilled now, the latest first
    refill: str | None  # the latest


def own_ids(account_id: int, now: datetime) -> OwnIds:
    """Return the account's own ids. Refillable orders are searched for among the latest delivered ones only."""
    orders = orders_of(account_id, now).order_by("-created_at", "-pk")
    delivered = order_rows(account_id, orders.filter(status__in=DELIVERED)[:TRIED_FOR_EXAMPLE], now)
    refills = Refill.objects.filter(account=account_id).order_by("-created_at", "-pk")
    return OwnIds(
        order=orders.values_list("pk", flat=True).first(),
        refillable=[row.order.id for row in delivered if row.verdict.refusal is None],
        refill=refills.values_list("pk", flat=True).first(),
    )
