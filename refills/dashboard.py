"""What the customer's dashboard shows of orders and refills."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Q

from apikeys.models import ApiKey
from notpanel.api.examples import ANOTHER_REFILLABLE_ORDER, ORDER, REFILL, REFILLABLE_ORDER
from notpanel.kit.public_id import PublicIdQuerySet, parse
from orders.models import DELIVERED, Order
from refills.models import IN_FLIGHT, SETTLED, Refill
from refills.requesting import Tally, cap_of, judge, tally_refills

SHOWN = 10  # rows of a list on the overview
TRIED_FOR_EXAMPLE = 20


@dataclass(frozen=True)
class OrderRow:
    """An order as its customer sees it."""

    order: Order
    refusal: str | None  # what a request for a refill would be told; None: it would be accepted
    ends_at: datetime | None  # of the refill period; None: there is no end, or none yet
    attempts_left: int

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
    refills = Refill.objects.filter(account=account_id).select_related("order", "service", "reason")
    return Overview(
        keys=list(ApiKey.objects.active(now).filter(account=account_id).order_by("-created_at")),
        in_flight=list(refills.filter(status__in=IN_FLIGHT).order_by("created_at", "id")[:SHOWN]),
        settled=list(refills.filter(status__in=SETTLED).order_by("-settled_at", "-id")[:SHOWN]),
    )


def orders_of(account_id: int, *, status: str = "", search: str = "") -> PublicIdQuerySet:
    """Return the account's orders of a status; ``search`` is an id, a number or the whole link of an order."""
    orders: PublicIdQuerySet = Order.objects.filter(account=account_id).select_related("service")
    if status:
        orders = orders.filter(status=status)
    if search:
        reference = parse("ord", search)
        orders = orders.filter(link=search) if reference is None else orders.named([reference])
    return orders


def order_rows(orders: Iterable[Order], now: datetime) -> list[OrderRow]:
    """Judge each of some orders as a request for its refill would be; one statement."""
    orders = list(orders)
    tallies = tally_refills(order.id for order in orders)
    return [_order_row(order, tallies.get(order.id, Tally()), now) for order in orders]


def _order_row(order: Order, tally: Tally, now: datetime) -> OrderRow:
    refusal = judge(order, tally, now)
    days = order.service.refill_days
    return OrderRow(
        order=order,
        refusal=refusal.text if refusal else None,
        ends_at=order.completed_at + timedelta(days=days) if order.completed_at and days else None,
        attempts_left=max(cap_of(order) - tally.used, 0) if order.service.refill else 0,
    )


def refills_of(account_id: int, *, status: str = "", search: str = "") -> PublicIdQuerySet:
    """Return the account's refills of a status; ``search`` is the id or the number of a refill or of its order."""
    refills: PublicIdQuerySet = Refill.objects.filter(account=account_id).select_related("order", "service", "reason")
    if status:
        refills = refills.filter(status=status)
    if search:
        # Looked up first, by their own indexes: the refills are then found by theirs.
        orders = Order.objects.filter(account=account_id).named([parse("ord", search)])
        named = Refill.objects.filter(account=account_id).named([parse("ref", search)]).values_list("pk", flat=True)
        refills = refills.filter(Q(order__in=list(orders)) | Q(pk__in=list(named)))
    return refills


def own_ids(account_id: int, now: datetime) -> dict[str, str]:
    """Return orders and a refill of the account, each by the id of the examples that it is shown instead of.

    The orders that may be refilled now are two, if there are two among the latest that were delivered; of a single one
    both examples hold the same.
    """
    orders = orders_of(account_id).order_by("-created_at", "-pk")
    delivered = order_rows(orders.filter(status__in=DELIVERED)[:TRIED_FOR_EXAMPLE], now)
    refillable = [row.order.id for row in delivered if row.refusal is None]
    own = {}
    if latest := orders.values_list("pk", flat=True).first():
        own[ORDER] = latest
    if refillable:
        own[REFILLABLE_ORDER], own[ANOTHER_REFILLABLE_ORDER] = (refillable * 2)[:2]
    if refill := Refill.objects.filter(account=account_id).order_by("-created_at", "-pk").values_list("pk").first():
        [own[REFILL]] = refill
    return own
