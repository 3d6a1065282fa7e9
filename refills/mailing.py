"""Mail customers who chose it about settled refills: at most one mail per account in MAILS_EVERY, and nothing is lost.

The choice (``SettlementMails``) has a cursor over the order of changes
(docs/decisions/0012-changes-in-the-order-of-transactions.md). A turn reads what lies behind it, up to the oldest
transaction that is still running and the oldest settlement that may still be undone.

Mails are sent at least once. What a mail reports is read in a transaction that puts the next mail off by MAILS_EVERY;
the mail is sent without one, and only then does the cursor move. So a mail that failed, or whose worker was killed, is
followed MAILS_EVERY later by one that reports everything since. If a worker is killed between the mail and the cursor,
the customer reads the same twice, which is better than never.
"""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.db import OperationalError, transaction
from django.db.models import Exists, OuterRef
from django.template.loader import render_to_string
from django.utils import timezone

from apikeys.models import SettlementMails
from apikeys.settlement_mails import MAILS_EVERY
from notpanel.kit import queue
from notpanel.kit.mails import was_sent
from notpanel.kit.public_id import from_uuid
from notpanel.kit.sql import fetch
from refills.models import Refill
from refills.statuses import SETTLED

logger = logging.getLogger(__name__)

SHOWN = 50  # refills in a mail
TURN = 20.0  # seconds after which the mails let others have the worker
ACCOUNTS = 1000  # in one turn

# Undoing locks a refill FOR UPDATE before it looks at the clock: the lock here waits for it, and reads what it left.
SETTLED_SINCE = """
    WITH undoable AS (
        SELECT min(changed_in::text::bigint) AS first
        FROM refills_refill
        WHERE account_id = %(account)s AND status = ANY(%(settled)s::text[])
            AND changed_in > %(told_until)s::text::xid8 AND settled_at > %(final)s
    ),
    final AS (
        SELECT id, changed_in::text::bigint AS changed_in
        FROM refills_refill
        WHERE account_id = %(account)s AND status = ANY(%(settled)s::text[])
            AND changed_in > %(told_until)s::text::xid8
            AND changed_in < pg_snapshot_xmin(pg_current_snapshot())
            AND changed_in < coalesce((SELECT first FROM undoable)::text::xid8, pg_snapshot_xmin(pg_current_snapshot()))
        ORDER BY id
        FOR KEY SHARE
    )
    SELECT id, count(*) OVER (), max(changed_in) OVER () FROM final ORDER BY changed_in, id LIMIT %(shown)s
"""


@dataclass(frozen=True)
class SettlementMail:
    """A mail that only this worker sends until ``next_at``."""

    choice: SettlementMails
    refills: list[Refill]  # SHOWN at most, in the order in which they were settled
    count: int  # of all that were settled
    until: int  # the transaction of the last one


def mail_settlements() -> None:
    """Mail the accounts that are due, one after another. The rest is for the next turn, a minute later."""
    now, ends_at = timezone.now(), time.monotonic() + TURN
    due = _accounts_due(now)
    if not due:
        return
    try:
        with get_connection() as mails:  # one connection for all mails
            for account_id in due:
                if queue.is_stopping() or time.monotonic() >= ends_at:
                    return
                try:
                    mail = _lease(account_id, now)
                except OperationalError as error:  # somebody holds a lock on its refills for long
                    logger.warning("Failed to read what to mail account %s: %s", account_id, error)
                    continue
                if mail and _send(mail, mails):
                    _record(mail)
    except OSError as error:  # smtplib's errors are OSErrors
        logger.warning("Failed to reach the mail server: %s", type(error).__name__)


def _accounts_due(now: datetime) -> list[int]:
    """Return the accounts that may be mailed now and have something behind their cursor, longest due first."""
    behind = Refill.objects.settled().filter(account=OuterRef("account"), changed_in__gt=OuterRef("told_until"))
    due = SettlementMails.objects.due(now).filter(Exists(behind)).order_by("next_at", "account")
    return list(due.values_list("account", flat=True)[:ACCOUNTS])


@transaction.atomic
def _lease(account_id: int, now: datetime) -> SettlementMail | None:
    """Return the mail to send to the account now; None: another worker has it, or nothing is final yet."""
    due = SettlementMails.objects.due(now).select_for_update(no_key=True, skip_locked=True, of=("self",))
    choice = due.select_related("account").filter(account=account_id).first()
    if choice is None:
        return None
    rows = fetch(
        SETTLED_SINCE,
        {
            "account": account_id,
            "settled": list(SETTLED),
            "told_until": str(choice.told_until),
            "final": now - timedelta(seconds=settings.UNDO_SECONDS),
            "shown": SHOWN,
        },
    )
    if not rows:
        return None
    choice.next_at = now + MAILS_EVERY
    choice.save(update_fields=["next_at"])
    return SettlementMail(choice, _in_order(from_uuid("ref", row[0]) for row in rows), *rows[0][1:])


def _in_order(ids: Iterable[str]) -> list[Refill]:
    ids = list(ids)
    found = Refill.objects.select_related("order", "service").in_bulk(ids)
    return [found[refill_id] for refill_id in ids]


def _send(mail: SettlementMail, mails: Any) -> bool:
    account = mail.choice.account
    context = {
        "account": account,
        "refills": mail.refills,
        "count": mail.count,
        "more": mail.count - len(mail.refills),
        "site": mail.choice.site.rstrip("/"),
    }
    subject = render_to_string("dashboard/settled_subject.txt", context).strip()
    body = render_to_string("dashboard/settled.txt", context)
    message = EmailMessage(subject, body, None, [account.email], connection=mails)
    return was_sent(message, f"the mail about settlements to account {account.pk}")


def _record(mail: SettlementMail) -> None:
    """Move the cursor, unless the owner has chosen anew meanwhile."""
    leased = SettlementMails.objects.filter(pk=mail.choice.pk, next_at=mail.choice.next_at)
    leased.update(told_until=mail.until)
