"""The database side of deliveries: lease what is due, and store the results.

A lease is ``next_at`` in the future. If its worker is killed, the delivery is due again when the lease ends, so it is
made at least once. Rows are locked endpoints first, then deliveries, each in the order of their ids (docs/locks.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from apikeys.models import WebhookEndpoint
from apikeys.webhooks.endpoints import give_up
from apikeys.webhooks.models import LEASE, message_id
from notpanel.kit import queue
from notpanel.kit.public_id import from_uuid, to_uuid
from notpanel.kit.sql import execute, fetch

PER_ENDPOINT = 4  # attempts at once; one, while it fails
OFF_AFTER = timedelta(days=3)  # without a success

# What is due, by endpoint: those that have waited longest come first, and none gets more than its share. So endpoints
# that hang delay no others, however much is due to them.
LEASE_DUE = """
    WITH due AS (
        SELECT delivery.id
        FROM (
            SELECT endpoint.id,
                CASE WHEN endpoint.failing_since IS NULL THEN %(per_endpoint)s ELSE 1 END - coalesce(busy.attempts, 0)
                    AS room,
                first.next_at
            FROM apikeys_webhookendpoint AS endpoint
                LEFT JOIN unnest(%(busy)b::uuid[], %(attempts)s::int[]) AS busy (id, attempts) ON busy.id = endpoint.id
                CROSS JOIN LATERAL (
                    SELECT next_at FROM apikeys_webhookdelivery
                    WHERE endpoint_id = endpoint.id AND state = 'waiting' AND next_at <= %(now)s
                    ORDER BY next_at LIMIT 1
                ) AS first
            WHERE endpoint.state = 'active' AND (endpoint.failing_since IS NULL OR %(failing)s)
        ) AS endpoint
            CROSS JOIN LATERAL (
                SELECT id FROM apikeys_webhookdelivery
                WHERE endpoint_id = endpoint.id AND state = 'waiting' AND next_at <= %(now)s
                ORDER BY next_at LIMIT greatest(endpoint.room, 0)
                FOR UPDATE SKIP LOCKED
            ) AS delivery
        ORDER BY endpoint.next_at LIMIT %(most)s
    )
    UPDATE apikeys_webhookdelivery AS delivery
    SET attempts = delivery.attempts + 1, attempted_at = %(now)s, next_at = %(until)s
    FROM due JOIN apikeys_webhookdelivery AS same ON same.id = due.id
        JOIN apikeys_webhookendpoint AS endpoint ON endpoint.id = same.endpoint_id
    WHERE delivery.id = due.id
    RETURNING delivery.id, delivery.type, delivery.body, delivery.attempts, delivery.attempted_at,
        endpoint.id, endpoint.url, endpoint.failing_since IS NOT NULL, endpoint.encrypted_secret,
        CASE WHEN endpoint.old_secret_until > %(now)s THEN endpoint.encrypted_old_secret ELSE '' END
"""
NEXT_DUE = """
    SELECT min(first.next_at)
    FROM apikeys_webhookendpoint AS endpoint CROSS JOIN LATERAL (
        SELECT next_at FROM apikeys_webhookdelivery
        WHERE endpoint_id = endpoint.id AND state = 'waiting' ORDER BY next_at LIMIT 1
    ) AS first
    WHERE endpoint.state = 'active'
"""
# A delivery that another worker has leased meanwhile, or that was replayed, is left alone unless this attempt
# succeeded.
WRITE_RESULTS = """
    UPDATE apikeys_webhookdelivery AS delivery
    SET state = result.state, next_at = result.next_at, status = result.status, milliseconds = result.milliseconds,
        answer = result.answer, words = result.words
    FROM unnest(
            %(ids)b::uuid[], %(attempted_at)s::timestamptz[], %(states)s::text[], %(next_at)s::timestamptz[],
            %(statuses)s::int[], %(milliseconds)s::int[], %(answers)s::text[], %(words)s::text[]
        ) AS result (id, attempted_at, state, next_at, status, milliseconds, answer, words)
        JOIN (
            SELECT id FROM apikeys_webhookdelivery WHERE id = ANY(%(ids)b::uuid[]) ORDER BY id FOR UPDATE
        ) AS locked ON locked.id = result.id
    WHERE delivery.id = result.id AND delivery.attempted_at = result.attempted_at
        AND (delivery.state = 'waiting' OR result.state = 'delivered')
"""


class Leased(NamedTuple):
    """An attempt that this worker has to make."""

    id: UUID
    type: str
    body: str
    attempts: int  # including this one
    attempted_at: datetime
    endpoint: str
    url: str
    is_failing: bool
    encrypted_secret: str
    encrypted_old_secret: str  # "" if it no longer signs

    @property
    def message_id(self) -> str:
        return message_id(self.id)


@dataclass(frozen=True)
class Result:
    """What came of an attempt."""

    leased: Leased
    state: str  # of the delivery
    next_at: datetime | None
    status: int | None
    milliseconds: int
    answer: str
    words: str

    @property
    def is_gone(self) -> bool:
        """Return whether the endpoint asks never to be told anything again."""
        return self.status == 410


def lease(most: int, busy: Mapping[str, int], *, failing: bool) -> list[Leased]:
    """Lease up to ``most`` deliveries that are due. ``busy`` counts the attempts under way, by endpoint.

    Unless ``failing`` is true, endpoints that fail are left out.
    """
    now = timezone.now()
    rows = fetch(
        LEASE_DUE,
        {
            "now": now,
            "until": now + LEASE,
            "most": most,
            "per_endpoint": PER_ENDPOINT,
            "failing": failing,
            "busy": [to_uuid(endpoint) for endpoint in busy],
            "attempts": list(busy.values()),
        },
    )
    return [Leased._make((*row[:5], from_uuid("whk", row[5]), *row[6:])) for row in rows]


def next_due() -> datetime | None:
    """Return when something is next due, which may be in the past; None: nothing waits."""
    [(at,)] = fetch(NEXT_DUE, {})
    found: datetime | None = at
    return found


def write(results: Sequence[Result]) -> None:
    """Store the results of attempts, and what they say about their endpoints."""
    now = timezone.now()
    by_endpoint: dict[str, list[Result]] = {}
    for result in results:
        by_endpoint.setdefault(result.leased.endpoint, []).append(result)
    with transaction.atomic():
        endpoints = WebhookEndpoint.objects.filter(pk__in=by_endpoint).select_for_update(no_key=True).order_by("id")
        changed = [endpoint for endpoint in endpoints if _judge(endpoint, by_endpoint[endpoint.pk], now)]
        execute(
            WRITE_RESULTS,
            {
                "ids": [result.leased.id for result in results],
                "attempted_at": [result.leased.attempted_at for result in results],
                "states": [result.state for result in results],
                "next_at": [result.next_at for result in results],
                "statuses": [result.status for result in results],
                "milliseconds": [result.milliseconds for result in results],
                "answers": [result.answer for result in results],
                "words": [result.words for result in results],
            },
        )
        for endpoint in changed:
            endpoint.save(update_fields=["state", "off_because", "ended_at", "failing_since", "warned_at"])
            if endpoint.state == WebhookEndpoint.State.OFF:
                give_up(endpoint)


def _judge(endpoint: WebhookEndpoint, results: Sequence[Result], now: datetime) -> bool:
    """Set what the results say about a locked endpoint. Returns whether that changed anything."""
    before = endpoint.failing_since, endpoint.state
    if any(result.state == "delivered" for result in results):
        endpoint.failing_since = endpoint.warned_at = None
    elif endpoint.failing_since is None:
        endpoint.failing_since = now
    if endpoint.state in (WebhookEndpoint.State.ACTIVE, WebhookEndpoint.State.PAUSED):
        if any(result.is_gone for result in results):
            endpoint.state, endpoint.off_because = WebhookEndpoint.State.OFF, WebhookEndpoint.OffBecause.GONE
        elif endpoint.failing_since is not None and endpoint.failing_since <= now - OFF_AFTER:
            endpoint.state, endpoint.off_because = WebhookEndpoint.State.OFF, WebhookEndpoint.OffBecause.FAILING
        if endpoint.state == WebhookEndpoint.State.OFF:
            endpoint.ended_at = now
    return before != (endpoint.failing_since, endpoint.state)


def wake_for_next(task: str) -> None:
    """Wake a worker when something is next due."""
    if at := next_due():
        queue.wake_unless_due(task, {}, at)


def let_go() -> None:
    """Close the connection of this thread."""
    connection.close()
