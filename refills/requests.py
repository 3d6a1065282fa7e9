"""Requests for refills: lock the orders, judge each, insert what was accepted. One order or a hundred, the same way."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Count, Q
from django.utils import timezone

from notpanel.api.errors import ApiError, ServiceUnavailable
from notpanel.public_id import parse
from orders.errors import OrderNotFound
from orders.models import DELIVERED, Order
from refills.errors import (
    OrderNotFinished,
    RefillAlreadyPending,
    RefillLimitReached,
    RefillPeriodExpired,
    ServiceNotRefillable,
)
from refills.models import IN_FLIGHT, Refill, Status

ATTEMPTS = 3  # at a batch that the constraint refused


@dataclass
class Tally:
    """What counts of an order's earlier refills."""

    in_flight: int = 0
    used: int = 0  # of the cap: all but the rejected


def request_refills(account_id: int, ids: Sequence[str], *, api_key_id: int | None = None) -> list[Refill | ApiError]:
    """Request a refill of each order in ``ids`` (ids or numbers, as a client sent them).

    Returns, for each in the order given, the new refill or why it was refused: OrderNotFound, OrderNotFinished,
    ServiceNotRefillable, RefillPeriodExpired, RefillAlreadyPending or RefillLimitReached. Raises
    ServiceUnavailable if requests that know nothing of the locks keep getting in between.
    """
    references = [parse("ord", text) for text in ids]
    for _ in range(ATTEMPTS):
        try:
            return _judge_and_insert(account_id, references, api_key_id, timezone.now())
        except IntegrityError as error:
            # Somebody inserted a refill without locking its order. What they did is visible now: judge again.
            if Refill.ONE_IN_FLIGHT not in str(error):
                raise
    raise ServiceUnavailable


def _judge_and_insert(
    account_id: int, references: Sequence[str | int | None], api_key_id: int | None, now: datetime
) -> list[Refill | ApiError]:
    with transaction.atomic():
        orders = lock_orders(account_id, references)
        tallies = tally_refills(order.id for order in set(orders.values()))
        outcomes: list[Refill | ApiError] = []
        for reference in references:
            order = orders.get(reference)
            if order is None:
                outcomes.append(OrderNotFound())
                continue
            tally = tallies.setdefault(order.id, Tally())
            if refusal := judge(order, tally, now):
                outcomes.append(refusal)
                continue
            outcomes.append(
                Refill(
                    order=order,
                    account_id=order.account_id,
                    service_id=order.service_id,
                    api_key_id=api_key_id,
                    status=Status.PENDING,
                    created_at=now,
                )
            )
            # The same order may come again in this batch.
            tally.in_flight += 1
        Refill.objects.bulk_create([outcome for outcome in outcomes if isinstance(outcome, Refill)])
    return outcomes


def lock_orders(account_id: int, references: Iterable[str | int | None]) -> dict[str | int | None, Order]:
    """Lock the orders of the account that ``references`` name, and return each under its id and its number.

    They are locked in the order of their ids, here and wherever else orders are locked, so that two batches
    that overlap wait for each other instead of dying of a deadlock.
    """
    orders: dict[str | int | None, Order] = {}
    for order in (
        Order.objects.filter(account=account_id)
        .named(references)
        .select_related("service")
        .select_for_update(of=("self",))
        .order_by("id")
    ):
        orders[order.id] = orders[order.number] = order
    return orders


def tally_refills(order_ids: Iterable[str]) -> dict[str, Tally]:
    """Count the refills of each order that has any."""
    rows = (
        Refill.objects.filter(order__in=list(order_ids))
        .values_list("order_id")
        .annotate(
            in_flight=Count("id", filter=Q(status__in=IN_FLIGHT)), used=Count("id", filter=~Q(status=Status.REJECTED))
        )
        .order_by()
    )
    return {order_id: Tally(in_flight, used) for order_id, in_flight, used in rows}


def cap_of(order: Order) -> int:
    """Return how many refills the order may have, rejected ones not counted."""
    return order.service.refill_limit or settings.REFILL_LIMIT


# ---- The rules, each with the one error that it refuses with. A rule returns None for an order that it lets pass.


def order_is_finished(order: Order, tally: Tally, now: datetime) -> ApiError | None:
    return None if order.status in DELIVERED else OrderNotFinished()


def service_is_refillable(order: Order, tally: Tally, now: datetime) -> ApiError | None:
    return None if order.service.refill else ServiceNotRefillable()


def period_has_not_expired(order: Order, tally: Tally, now: datetime) -> ApiError | None:
    days = order.service.refill_days
    if days is None or order.completed_at is None or now - order.completed_at <= timedelta(days=days):
        return None
    return RefillPeriodExpired(days=days)


def none_is_in_flight(order: Order, tally: Tally, now: datetime) -> ApiError | None:
    return RefillAlreadyPending() if tally.in_flight else None


def cap_is_not_reached(order: Order, tally: Tally, now: datetime) -> ApiError | None:
    cap = cap_of(order)
    return RefillLimitReached(limit=cap) if tally.used >= cap else None


RULES = (order_is_finished, service_is_refillable, period_has_not_expired, none_is_in_flight, cap_is_not_reached)


def judge(order: Order, tally: Tally, now: datetime) -> ApiError | None:
    """Return the first refusal of the rules (contract.md, "action=refill"), or None: the order may be refilled."""
    return next((refusal for rule in RULES if (refusal := rule(order, tally, now))), None)
