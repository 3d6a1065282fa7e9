"""Find refills for customers' programs."""

from collections.abc import Sequence
from typing import NamedTuple

from notpanel.kit.public_id import from_uuid, parse, uuids_and_numbers
from notpanel.kit.refusals import Refusal
from notpanel.kit.sql import fetch
from orders.refusals import OrderNotFound
from refills.models import Refill
from refills.refusals import NoRefillRequested, RefillNotFound

LATEST_REFILLS = """
    SELECT "order".id, "order".number, latest.*
    FROM orders_order AS "order" LEFT JOIN LATERAL (
        SELECT refill.id, refill.number, refill.status, refill.reason_text, refill.delivered
        FROM refills_refill AS refill
        WHERE refill.order_id = "order".id
        ORDER BY refill.created_at DESC, refill.id DESC
        LIMIT 1
    ) AS latest ON true
    WHERE "order".account_id + 0 = %(account)s
        AND ("order".id = ANY(%(ids)b::uuid[]) OR "order".number = ANY(%(numbers)s::bigint[]))
"""


class FoundRefill(NamedTuple):
    """What the API returns about a refill."""

    id: str
    number: int
    status: str
    reason: str  # why it was rejected, in the words for the customer; empty: it was not
    delivered: int | None  # units


def find_refills(account_id: int, ids: Sequence[str]) -> list[FoundRefill | Refusal]:
    """Return, for each of ``ids`` (ids or numbers, as a client sent them), the account's refill or RefillNotFound.

    One statement.
    """
    references = [parse("ref", text) for text in ids]
    found: dict[str | int | None, FoundRefill] = {}
    rows = Refill.objects.filter(account=account_id).named(references)
    for row in rows.values_list("id", "number", "status", "reason_text", "delivered"):
        refill = FoundRefill(*row)
        found[refill.id] = found[refill.number] = refill
    return [found.get(reference) or RefillNotFound() for reference in references]


def find_latest_refills(account_id: int, orders: Sequence[str]) -> list[FoundRefill | Refusal]:
    """Return the latest refill of each of ``orders`` (ids or numbers), or OrderNotFound, or NoRefillRequested.

    One statement.
    """
    references = [parse("ord", text) for text in orders]
    ids, numbers = uuids_and_numbers(references)
    found: dict[str | int | None, FoundRefill | Refusal] = {}
    for order, number, refill, *columns in fetch(
        LATEST_REFILLS, {"account": account_id, "ids": ids, "numbers": numbers}
    ):
        latest = FoundRefill(from_uuid("ref", refill), *columns) if refill else NoRefillRequested()
        found[from_uuid("ord", order)] = found[number] = latest
    return [found.get(reference) or OrderNotFound() for reference in references]
