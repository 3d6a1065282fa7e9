"""Requests for refills: lock the orders, judge each, insert what was accepted. One order or a hundred, the same way."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from django.conf import settings
from django.db import IntegrityError, router, transaction
from django.utils import timezone

from notpanel.kit.public_id import from_uuid, generate, parse, to_uuid
from notpanel.kit.refusals import Refusal, ServiceUnavailable
from notpanel.kit.sql import execute, fetch
from orders.models import DELIVERED, Order
from orders.refusals import OrderNotFound
from refills.models import Refill
from refills.refusals import (
    OrderNotFinished,
    RefillAlreadyPending,
    RefillLimitReached,
    RefillPeriodExpired,
    ServiceNotRefillable,
)

ATTEMPTS = 3  # at a batch that the constraint refused

# Locks orders in the order of their ids, here and wherever else orders are locked, so that two batches that overlap
# wait for each other instead of dying of a deadlock. The account is no reason to choose an index: "+ 0" keeps a plan
# that is made for every account from reading all the orders of a large one.
LOCK_ORDERS = """
    SELECT "order".id, "order".number, "order".service_id, "order".status, "order".completed_at,
        service.refill, service.refill_days, service.refill_limit
    FROM orders_order AS "order" JOIN orders_service AS service ON service.id = "order".service_id
    WHERE "order".account_id + 0 = %(account)s
        AND ("order".id = ANY(%(ids)b::uuid[]) OR "order".number = ANY(%(numbers)s::bigint[]))
    ORDER BY "order".id
    FOR UPDATE OF "order"
"""
TALLY_REFILLS = """
    SELECT order_id,
        count(*) FILTER (WHERE status IN ('pending', 'approved')), count(*) FILTER (WHERE status <> 'rejected')
    FROM refills_refill
    WHERE order_id = ANY(%(orders)b::uuid[])
    GROUP BY order_id
"""
INSERT_REFILLS = """
    INSERT INTO refills_refill (id, order_id, service_id, account_id, api_key_id, status, created_at, note)
    SELECT made.id, made.order_id, made.service_id, %(account)s, %(api_key)s::bigint, 'pending', %(now)s, ''
    FROM unnest(%(ids)b::uuid[], %(orders)b::uuid[], %(services)s::int[]) AS made (id, order_id, service_id)
"""


@dataclass
class Tally:
    """What counts of an order's earlier refills."""

    in_flight: int = 0
    used: int = 0  # of the cap: all but the rejected


class Terms(NamedTuple):
    """What a service promises, as its model does."""

    refill: bool
    refill_days: int | None
    refill_limit: int | None


class LockedOrder(NamedTuple):
    """What is judged of an order, as its model has it."""

    id: str
    number: int
    service_id: int
    status: str
    completed_at: datetime | None
    service: Terms


def request_refills(account_id: int, ids: Sequence[str], *, api_key_id: int | None = None) -> list[str | Refusal]:
    """Request a refill of each order in ``ids`` (ids or numbers, as a client sent them).

    Returns, for each in the order given, the id of the new refill or why it was refused: OrderNotFound,
    OrderNotFinished, ServiceNotRefillable, RefillPeriodExpired, RefillAlreadyPending or RefillLimitReached. Raises
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
) -> list[str | Refusal]:
    with transaction.atomic():
        orders = lock_orders(account_id, references)
        tallies = tally_refills({order.id for order in orders.values()})
        outcomes: list[str | Refusal] = []
        made: dict[str, LockedOrder] = {}
        for reference in references:
            order = orders.get(reference)
            if order is None:
                outcomes.append(OrderNotFound())
                continue
            tally = tallies.setdefault(order.id, Tally())
            if refusal := judge(order, tally, now):
                outcomes.append(refusal)
                continue
            refill_id = generate("ref")
            made[refill_id] = order
            outcomes.append(refill_id)
            # The same order may come again in this batch.
            tally.in_flight += 1
        if made:
            insert = {
                "ids": [to_uuid(refill_id) for refill_id in made],
                "orders": [to_uuid(order.id) for order in made.values()],
                "services": [order.service_id for order in made.values()],
            }
            execute(INSERT_REFILLS, insert | {"account": account_id, "api_key": api_key_id, "now": now})
    return outcomes


def lock_orders(account_id: int, references: Iterable[str | int | None]) -> dict[str | int | None, LockedOrder]:
    """Lock the orders of the account that ``references`` name, and return each under its id and its number."""
    names = set(references)
    ids = {to_uuid(name): name for name in names if isinstance(name, str)}
    numbers = [name for name in names if isinstance(name, int)]
    orders: dict[str | int | None, LockedOrder] = {}
    for pk, number, service_id, status, completed_at, *terms in fetch(
        LOCK_ORDERS, {"account": account_id, "ids": list(ids), "numbers": numbers}
    ):
        order = LockedOrder(
            ids.get(pk) or from_uuid("ord", pk), number, service_id, status, completed_at, Terms(*terms)
        )
        orders[order.id] = orders[number] = order
    return orders


def tally_refills(order_ids: Iterable[str]) -> dict[str, Tally]:
    """Count the refills of each order that has any."""
    ids = {to_uuid(order_id): order_id for order_id in order_ids}
    using = router.db_for_read(Refill)  # the staff's lists: the replica
    rows = fetch(TALLY_REFILLS, {"orders": list(ids)}, using)
    return {ids[order_id]: Tally(in_flight, used) for order_id, in_flight, used in rows}


def cap_of(order: Order | LockedOrder) -> int:
    """Return how many refills the order may have, rejected ones not counted."""
    return order.service.refill_limit or settings.REFILL_LIMIT


# ---- The rules, each with the one error that it refuses with. A rule returns None for an order that it lets pass.


def order_is_finished(order: Order | LockedOrder, tally: Tally, now: datetime) -> Refusal | None:
    return None if order.status in DELIVERED else OrderNotFinished()


def service_is_refillable(order: Order | LockedOrder, tally: Tally, now: datetime) -> Refusal | None:
    return None if order.service.refill else ServiceNotRefillable()


def period_has_not_expired(order: Order | LockedOrder, tally: Tally, now: datetime) -> Refusal | None:
    days = order.service.refill_days
    if days is None or order.completed_at is None or now - order.completed_at <= timedelta(days=days):
        return None
    return RefillPeriodExpired(days=days)


def none_is_in_flight(order: Order | LockedOrder, tally: Tally, now: datetime) -> Refusal | None:
    return RefillAlreadyPending() if tally.in_flight else None


def cap_is_not_reached(order: Order | LockedOrder, tally: Tally, now: datetime) -> Refusal | None:
    cap = cap_of(order)
    return RefillLimitReached(limit=cap) if tally.used >= cap else None


RULES = (order_is_finished, service_is_refillable, period_has_not_expired, none_is_in_flight, cap_is_not_reached)


def judge(order: Order | LockedOrder, tally: Tally, now: datetime) -> Refusal | None:
    """Return the first refusal of the rules (contract.md, "action=refill"), or None: the order may be refilled."""
    return next((refusal for rule in RULES if (refusal := rule(order, tally, now))), None)
