"""What the customer's dashboard shows of orders and refills."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q

from apikeys.models import ApiKey
from notpanel.kit.public_id import parse
from orders.models import DELIVERED, Order
from orders.querysets import OrderQuerySet
from refills.checking import Verdict, check_orders
from refills.models import Refill
from refills.querysets import RefillQuerySet
from refills.refillable import refillable

REFILLABLE = "refillable"  # a choice beside the statuses
SHOWN = 10  # rows of a list on the overview
TRIED_FOR_EXAMPLE = 20


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
    # An order that another connection has taken away meanwhile has no verdict.
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


def refills_of(account_id: int, *, status: str = "", search: str = "") -> RefillQuerySet:
    """Return the account's refills of a status; ``search`` is the id or the number of a refill or of its order."""
    refills = Refill.objects.filter(account=account_id).select_related("order", "service")
    if status:
        refills = refills.filter(status=status)
    if search:
        # Looked up first, by their own indexes: the refills are then found by theirs.
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
