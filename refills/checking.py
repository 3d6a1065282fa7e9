"""Judge orders as a request for their refills would be judged now. Locks nothing and writes nothing."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from notpanel.kit.public_id import from_uuid, parse, uuids_and_numbers
from notpanel.kit.refusals import Refusal
from notpanel.kit.sql import fetch
from orders.refusals import OrderNotFound
from refills.requesting import LockedTerms
from refills.rules import Tally, judge, left_of, period_end

# The columns of LOCK_ORDERS and TALLY_REFILLS in refills/requesting.py that the rules read.
CHECK_ORDERS = """
    SELECT "order".id, "order".number, "order".status, "order".completed_at,
        service.refill, service.refill_days, service.refill_limit,
        tally.in_flight, tally.used, tally.refill_id, tally.refill_number
    FROM orders_order AS "order" JOIN orders_service AS service ON service.id = "order".service_id
        CROSS JOIN LATERAL (
            SELECT count(*) FILTER (WHERE status IN ('pending', 'approved')) AS in_flight,
                count(*) FILTER (WHERE status <> 'rejected') AS used,
                (array_agg(id) FILTER (WHERE status IN ('pending', 'approved')))[1] AS refill_id,
                min(number) FILTER (WHERE status IN ('pending', 'approved')) AS refill_number
            FROM refills_refill
            WHERE order_id = "order".id
        ) AS tally
    WHERE "order".account_id + 0 = %(account)s
        AND ("order".id = ANY(%(ids)b::uuid[]) OR "order".number = ANY(%(numbers)s::bigint[]))
"""


class CheckedOrder(NamedTuple):
    """The columns of an order that the rules read (``rules.JudgedOrder``)."""

    status: str
    completed_at: datetime | None
    service: LockedTerms


class Verdict(NamedTuple):
    """How a request for a refill of an order would be answered."""

    refusal: Refusal | None  # None: it would be accepted
    used: int  # of the cap
    left: int
    ends_at: datetime | None  # of the refill period; None: it has no end, or has not begun
    in_flight: tuple[str, int] | None  # id and number of the refill in flight


def check_orders(account_id: int, ids: Sequence[str], now: datetime) -> list[Verdict | Refusal]:
    """Return, for each of ``ids`` (ids or numbers, as a client sent them), its verdict, or OrderNotFound.

    One statement.
    """
    references = [parse("ord", text) for text in ids]
    uuids, numbers = uuids_and_numbers(references)
    found: dict[str | int | None, Verdict] = {}
    for pk, number, status, completed_at, refill, days, limit, in_flight, used, *flying in fetch(
        CHECK_ORDERS, {"account": account_id, "ids": uuids, "numbers": numbers}
    ):
        order = CheckedOrder(status, completed_at, LockedTerms(refill, days, limit))
        tally = Tally(in_flight, used)
        found[from_uuid("ord", pk)] = found[number] = Verdict(
            refusal=judge(order, tally, now),
            used=used,
            left=left_of(order.service, tally),
            ends_at=period_end(order),
            in_flight=(from_uuid("ref", flying[0]), flying[1]) if in_flight else None,
        )
    return [found.get(reference) or OrderNotFound() for reference in references]
