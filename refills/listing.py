"""An account's refills in the order in which they last changed, page by page, so that no change is ever skipped.

A refill carries the transaction that changed it last (``Refill.changed_in``), and a page ends before the oldest
transaction that is still running: what that one changes is listed later, never behind a cursor
(docs/decisions/0012-changes-in-the-order-of-transactions.md).
"""

import base64
import binascii
import hashlib
import logging
import struct
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Self
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from notpanel.kit.public_id import from_uuid
from notpanel.kit.refusals import ServiceUnavailable
from notpanel.kit.sql import fetch
from refills.refusals import InvalidCursor

logger = logging.getLogger(__name__)

PAGE = 100  # refills
HELD_UP = timedelta(minutes=1)  # after which the log says that a transaction holds a list up
_CURSOR = struct.Struct(">4sQ16s")

# One index serves a list of one status and, merged, that of all. Server and log are null in no row: without refills,
# the answer is one row that has nothing else.
CHANGED_REFILLS = """
    SELECT (SELECT system_identifier FROM pg_control_system()) AS server,
        pg_walfile_name(pg_current_wal_lsn()) AS log,
        pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS oldest_running,
        pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS not_begun,
        page.changed_in::text::bigint, page.id, page.number, page.order_id, "order".number, page.status,
        page.reason_text, page.delivered, page.created_at,
        coalesce((SELECT max(at) FROM refills_transition WHERE refill_id = page.id), page.created_at)
    FROM (SELECT) AS once LEFT JOIN (
        SELECT refill.*
        FROM unnest(%(statuses)s::text[]) AS wanted (status) CROSS JOIN LATERAL (
            SELECT changed_in, id, number, order_id, status, reason_text, delivered, created_at
            FROM refills_refill
            WHERE account_id = %(account)s AND status = wanted.status
                AND (changed_in, id) > (%(transaction)s::text::xid8, %(refill)b::uuid)
            ORDER BY changed_in, id
            LIMIT %(most)s
        ) AS refill
        ORDER BY changed_in, id
        LIMIT %(most)s
    ) AS page ON true LEFT JOIN orders_order AS "order" ON "order".id = page.order_id
    ORDER BY page.changed_in, page.id
"""
MEND = """
    UPDATE refills_refill SET changed_in = pg_current_xact_id()
    WHERE changed_in >= pg_snapshot_xmax(pg_current_snapshot())
"""
# What was settled but not mailed before the dump is never mailed: it cannot be told from what was mailed.
MEND_MAILS = """
    UPDATE apikeys_settlementmails SET told_until = pg_current_xact_id()
    WHERE told_until >= pg_snapshot_xmax(pg_current_snapshot())
"""


class Cursor(NamedTuple):
    """A place in the list: after a refill, as a transaction left it, in the history of one database server."""

    history: bytes
    transaction: int
    refill: UUID

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a cursor that a client sent. Raises InvalidCursor."""
        try:
            history, number, refill = _CURSOR.unpack(
                base64.b64decode(text + "=" * (-len(text) % 4), "-_", validate=True)
            )
        except (binascii.Error, struct.error, ValueError) as error:
            raise InvalidCursor from error
        return cls(history, number, UUID(bytes=refill))

    def __str__(self) -> str:
        packed = _CURSOR.pack(self.history, self.transaction, self.refill.bytes)
        return base64.urlsafe_b64encode(packed).decode().rstrip("=")


class ChangedRefill(NamedTuple):
    """A refill as the list returns it."""

    id: str
    number: int
    order_id: str
    order_number: int
    status: str
    reason: str
    delivered: int | None
    requested_at: datetime
    changed_at: datetime


class Page(NamedTuple):
    refills: list[ChangedRefill]
    next: Cursor
    more: bool


def list_changed(account_id: int, statuses: Sequence[str], cursor: str) -> Page:
    """Return up to PAGE of the account's refills that have one of ``statuses`` and changed since ``cursor``.

    An empty cursor is the beginning. One statement. Raises InvalidCursor, also for one of another history of the
    database, in which changes may have been lost; and ServiceUnavailable if a refill comes from another server.
    """
    since = Cursor.parse(cursor) if cursor else Cursor(b"", 0, UUID(int=0))
    rows = fetch(
        CHANGED_REFILLS,
        {
            "account": account_id,
            "statuses": list(statuses),
            "transaction": str(since.transaction),
            "refill": since.refill,
            "most": PAGE + 1,
        },
    )
    server, log, oldest_running, not_begun = rows[0][:4]
    history = _history(server, log)
    if cursor and (since.history != history or since.transaction >= oldest_running):
        raise InvalidCursor
    found = [row[4:] for row in rows if row[4] is not None]
    final = [row for row in found if row[0] < oldest_running]
    if len(final) < len(found):
        changed_in, *_, changed_at = found[len(final)]
        if changed_in < not_begun:
            _tell_of_hold_up(account_id, changed_at)
        elif not final:
            logger.error("refill_list: refills come from another database server. Run manage.py mendrefilllist.")
            raise ServiceUnavailable
    shown = final[:PAGE]
    last = Cursor(history, shown[-1][0], shown[-1][1]) if shown else since._replace(history=history)
    return Page([_refill(*row[1:]) for row in shown], last, more=len(final) > PAGE)


def mend() -> int:
    """Move refills that come from another server, and the cursors of mails, to the end of the list. Returns how many.

    This is needed after a restore into another server, whose transactions are counted anew.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        cursor.execute(MEND_MAILS)
        cursor.execute(MEND)
        return cursor.rowcount


def _history(server: int, log: str) -> bytes:
    """Return what identifies the history of the database: its server, and its timeline, which a restore changes.

    ``log`` is the name of a file of the write-ahead log, which begins with the timeline.
    """
    return hashlib.sha256(f"{server}/{log[:8]}".encode()).digest()[:4]


def _tell_of_hold_up(account_id: int, changed_at: datetime) -> None:
    if timezone.now() - changed_at > HELD_UP:
        logger.warning(
            "refill_list: a transaction that has been running for long holds back changes of account %s since %s.",
            account_id,
            changed_at.isoformat(timespec="seconds"),
        )


def _refill(
    refill: UUID,
    number: int,
    order: UUID,
    order_number: int,
    status: str,
    reason: str,
    delivered: int | None,
    requested_at: datetime,
    changed_at: datetime,
) -> ChangedRefill:
    ids = from_uuid("ref", refill), number, from_uuid("ord", order), order_number
    return ChangedRefill(*ids, status, reason, delivered, requested_at, changed_at)
