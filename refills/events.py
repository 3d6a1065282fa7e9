"""Record events of refills for customers' webhooks, by one statement of the transaction that makes the change.

An agent's change is sent once it can no longer be undone; if it is undone before that, it is not sent at all.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings

from apikeys.webhooks.recording import DELIVERIES
from notpanel.kit.public_id import to_uuid
from notpanel.kit.sql import execute
from refills.models import Refill
from refills.statuses import RefillStatus

# The member ``data`` of a webhook's body. Its ids are those that customers see.
_DATA = """
    json_build_object(
        'refill', named.refill, 'number', refill.number, 'order', named.order, 'order_number', {order_number},
        'status', refill.status, 'reason', nullif(refill.reason_text, ''), 'delivered', refill.delivered
    )
"""
_HAPPENED = f"""
    SELECT refill.account_id, %(type)s::text AS type, refill.id AS subject,
        {_DATA.format(order_number='"order".number')} AS data
    FROM unnest(%(ids)b::uuid[], %(refills)s::text[], %(orders)s::text[]) AS named (id, refill, "order")
        JOIN refills_refill AS refill ON refill.id = named.id
        JOIN orders_order AS "order" ON "order".id = refill.order_id
"""  # noqa: S608  # made of constants
# To follow the part that inserts refills, as ``made``; it returns their ids and numbers. PostgreSQL looks first whether
# the account has an endpoint, and leaves the rest out if it has none.
REQUESTED = f"""
    happened AS (
        SELECT refill.account_id, 'refill.requested' AS type, refill.id AS subject,
            {_DATA.format(order_number="named.order_number")} AS data
        FROM made AS refill JOIN unnest(
            %(ids)b::uuid[], %(refill_ids)s::text[], %(order_ids)s::text[], %(order_numbers)s::bigint[]
        ) AS named (id, refill, "order", order_number) ON named.id = refill.id
        WHERE EXISTS (SELECT FROM apikeys_webhookendpoint WHERE account_id = %(account)s AND state <> 'removed')
    ),
    {DELIVERIES}
    SELECT id, number FROM made
"""  # noqa: S608  # made of constants
_CHANGED = f"WITH happened AS ({_HAPPENED}), {DELIVERIES} SELECT count(*) FROM told"  # noqa: S608  # made of constants
# Deliveries that were not attempted yet are deleted silently. An attempt that has begun may have reached its endpoint:
# the DELETE waits for the worker that leases the delivery, and then sees that it has been attempted.
_TAKEN_BACK = f"""
    WITH unsent AS (
        DELETE FROM apikeys_webhookdelivery
        WHERE subject = ANY(%(ids)b::uuid[]) AND type IN ('refill.approved', 'refill.completed', 'refill.rejected')
            AND attempted_at IS NULL
        RETURNING id, subject
    ),
    happened AS (
        {_HAPPENED}
        WHERE NOT EXISTS (SELECT FROM unsent WHERE unsent.subject = refill.id)
            OR (
                SELECT last.type FROM apikeys_webhookdelivery AS last
                WHERE last.subject = refill.id AND NOT EXISTS (SELECT FROM unsent WHERE unsent.id = last.id)
                ORDER BY last.created_at DESC LIMIT 1
            ) IN ('refill.approved', 'refill.completed', 'refill.rejected')
    ),
    {DELIVERIES}
    SELECT count(*) FROM told
"""  # noqa: S608  # made of constants


def record_change(refills: Iterable[Refill], to: RefillStatus, now: datetime, *, undoable: bool) -> None:
    """Record the new status of refills, which are in the database already."""
    send_at = now + timedelta(seconds=settings.UNDO_SECONDS) if undoable else now
    execute(_CHANGED, _named(refills) | {"type": f"refill.{to}", "now": now, "send_at": send_at})


def record_taken_back(refills: Iterable[Refill], now: datetime) -> None:
    """Record that refills are pending again. A refill is left out if no endpoint can have been told of its change."""
    execute(_TAKEN_BACK, _named(refills) | {"type": "refill.reopened", "now": now, "send_at": now})


def _named(refills: Iterable[Refill]) -> dict[str, Any]:
    refills = list(refills)
    return {
        "ids": [to_uuid(refill.pk) for refill in refills],
        "refills": [refill.pk for refill in refills],
        "orders": [refill.order_id for refill in refills],
    }
