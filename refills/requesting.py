"""Requests for refills: lock the orders, judge each, insert what was accepted. One order or a hundred, the same way."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.db import IntegrityError, router, transaction
from django.utils import timezone
from psycopg.errors import UniqueViolation

from apikeys.models import Account
from notpanel.kit.public_id import from_uuid, generate, parse, to_uuid
from notpanel.kit.refusals import AccountSuspended, Refusal, ServiceUnavailable
from notpanel.kit.sql import fetch
from orders.refusals import OrderNotFound
from refills import dispatching, events, metrics
from refills.models import ONE_IN_FLIGHT, Refill
from refills.rules import Tally, judge

ATTEMPTS = 3  # to insert a batch that the constraint refused

# Orders are locked in the order of their ids, here and everywhere else, so that two batches that overlap wait for each
# other instead of deadlocking (docs/locks.md). "+ 0" hides the account from the planner: the plan serves every account,
# and one that used the account's index would read all the orders of a large account. If the account was erased while
# this waited for a lock, its orders have no links any longer (refills/erasing.py), and none is found.
LOCK_ORDERS = """
    SELECT "order".id, "order".number, "order".service_id, "order".status, "order".completed_at,
        CASE WHEN "order".supplier_order <> '' THEN service.supplier_id END,
        service.refill, service.refill_days, service.refill_limit
    FROM orders_order AS "order" JOIN orders_service AS service ON service.id = "order".service_id
    WHERE "order".account_id + 0 = %(account)s
        AND ("order".id = ANY(%(ids)b::uuid[]) OR "order".number = ANY(%(numbers)s::bigint[]))
        AND "order".link <> 'erased:' || "order".number
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
# The same statement records the events for the account's webhooks, if it has any.
INSERT_REFILLS = f"""
    WITH made AS (
        INSERT INTO refills_refill
            (id, order_id, service_id, account_id, api_key_id, requested_by_id, status, created_at, note)
        SELECT made.id, made.order_id, made.service_id, %(account)s, %(api_key)s::bigint, %(requested_by)s::bigint,
            'pending', %(now)s, ''
        FROM unnest(%(ids)b::uuid[], %(orders)b::uuid[], %(services)s::int[]) AS made (id, order_id, service_id)
        RETURNING id, number, account_id, status, reason_text, delivered
    ),
    {events.REQUESTED}
"""  # noqa: S608  # made of constants


class RequestedRefill(NamedTuple):
    """A refill that was requested."""

    id: str
    number: int


class LockedTerms(NamedTuple):
    """What the service of a locked order promises (``rules.Terms``)."""

    refill: bool
    refill_days: int | None
    refill_limit: int | None


class LockedOrder(NamedTuple):
    """The columns of an order that the rules read (``rules.JudgedOrder``) or that a refill repeats."""

    id: str
    number: int
    service_id: int
    status: str
    completed_at: datetime | None
    supplier_id: int | None  # to whom a refill can be sent
    service: LockedTerms


def request_refills(
    account_id: int, ids: Sequence[str], *, api_key_id: int | None = None, requested_by_id: int | None = None
) -> list[RequestedRefill | Refusal]:
    """Request a refill of each order in ``ids`` (ids or numbers, as a client sent them).

    ``requested_by_id`` is the agent who requests them for the customer; the same rules apply.

    Returns, for each in the order given, the new refill or its refusal: OrderNotFound or the first that
    ``rules.judge`` finds (docs/contract.md, "action=refill"). Raises ServiceUnavailable if other code, which inserts
    refills without locking their orders, gets in between ATTEMPTS times.
    """
    references = [parse("ord", text) for text in ids]
    for _ in range(ATTEMPTS):
        try:
            outcomes = _judge_and_insert(account_id, references, api_key_id, requested_by_id, timezone.now())
            metrics.count_orders(outcomes)
            return outcomes
        except IntegrityError as error:
            # Other code inserted a refill without locking its order. Its refill is visible now: judge again.
            if (
                not isinstance(error.__cause__, UniqueViolation)
                or error.__cause__.diag.constraint_name != ONE_IN_FLIGHT
            ):
                raise
    raise ServiceUnavailable


def request_for_customer(account: Account, ids: Sequence[str], by: Account) -> list[RequestedRefill | Refusal]:
    """Request refills for a customer, as ``request_refills`` does and returns; ``by`` is recorded as the requester.

    The door checks that ``by`` has the permission ``refills.request_refill``. Raises AccountSuspended, as a request of
    the customer's own would be.
    """
    if not account.is_active:
        raise AccountSuspended
    return request_refills(account.pk, ids, requested_by_id=by.pk)


def _judge_and_insert(
    account_id: int,
    references: Sequence[str | int | None],
    api_key_id: int | None,
    requested_by_id: int | None,
    now: datetime,
) -> list[RequestedRefill | Refusal]:
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
            # The batch may name the same order again.
            tally.in_flight += 1
        if made:
            insert = {
                "ids": [to_uuid(refill_id) for refill_id in made],
                "orders": [to_uuid(order.id) for order in made.values()],
                "services": [order.service_id for order in made.values()],
                "refill_ids": list(made),
                "order_ids": [order.id for order in made.values()],
                "order_numbers": [order.number for order in made.values()],
            }
            by = {"account": account_id, "api_key": api_key_id, "requested_by": requested_by_id}
            numbers: dict[UUID, int] = dict(fetch(INSERT_REFILLS, insert | by | {"now": now, "send_at": now}))
            requested = {refill: RequestedRefill(refill, numbers[to_uuid(refill)]) for refill in made}
            if suppliers := {refill: order.supplier_id for refill, order in made.items() if order.supplier_id}:
                dispatching.send_requested(suppliers, now)
    return [outcome if isinstance(outcome, Refusal) else requested[outcome] for outcome in outcomes]


def lock_orders(account_id: int, references: Iterable[str | int | None]) -> dict[str | int | None, LockedOrder]:
    """Lock the orders of the account that ``references`` name. Returns each under its id and under its number."""
    names = set(references)
    ids = {to_uuid(name): name for name in names if isinstance(name, str)}
    numbers = [name for name in names if isinstance(name, int)]
    orders: dict[str | int | None, LockedOrder] = {}
    for pk, number, service_id, status, completed_at, supplier_id, *terms in fetch(
        LOCK_ORDERS, {"account": account_id, "ids": list(ids), "numbers": numbers}
    ):
        order_id = ids.get(pk) or from_uuid("ord", pk)
        order = LockedOrder(order_id, number, service_id, status, completed_at, supplier_id, LockedTerms(*terms))
        orders[order.id] = orders[number] = order
    return orders


def tally_refills(order_ids: Iterable[str]) -> dict[str, Tally]:
    """Count the refills of each order that has any."""
    ids = {to_uuid(order_id): order_id for order_id in order_ids}
    using = router.db_for_read(Refill)  # the replica, for the desk's list
    rows = fetch(TALLY_REFILLS, {"orders": list(ids)}, using)
    return {ids[order_id]: Tally(in_flight, used) for order_id, in_flight, used in rows}
