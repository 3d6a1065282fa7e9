"""Erase a customer's data from the accounts' tables. ``refills.erasing`` does so together with orders and refills.

The row of the account stays, because the books refer to it. A check constraint keeps anybody from using it again, and
the triggers of the logs allow personal text to be erased only from rows of an erased account (migration 0018).
"""

from datetime import datetime
from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.auth import SESSION_KEY
from django.contrib.auth.hashers import make_password
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session
from django.db import connection
from django_otp.plugins.otp_totp.models import TOTPDevice

from apikeys import attempts
from apikeys.models import ERASED, Account, AuditEvent, KeptAnswer, RecoveryCode, SettlementMails
from apikeys.refusals import CannotEraseStaff

SESSIONS_AT_ONCE = 2000

# The digests may stay: a revoked key is refused like an unknown one. The visible prefixes say which key requested what.
ERASE_KEYS = """
    UPDATE apikeys_apikey
    SET name = '', allowed_networks = '{}', previous_digest = NULL, previous_until = NULL,
        revoked_at = coalesce(revoked_at, %(now)s)
    WHERE account_id = %(account)s
"""
# A delivery that is under way is not repeated: its worker writes the result to a row that is gone.
LOCK_ENDPOINTS = "SELECT id FROM apikeys_webhookendpoint WHERE account_id = %(account)s ORDER BY id FOR UPDATE"
DELETE_DELIVERIES = """
    DELETE FROM apikeys_webhookdelivery
    WHERE endpoint_id IN (SELECT id FROM apikeys_webhookendpoint WHERE account_id = %(account)s)
"""
DELETE_ENDPOINTS = "DELETE FROM apikeys_webhookendpoint WHERE account_id = %(account)s"
ERASE_SUSPENSIONS = "UPDATE apikeys_suspensionevent SET reason = '(erased)' WHERE account_id = %(account)s"
# The addresses of staff stay.
ERASE_EVENTS = """
    UPDATE apikeys_auditevent
    SET details = CASE WHEN account_id = %(account)s THEN '{}' ELSE details END,
        address = CASE WHEN by_id <> %(account)s THEN address END
    WHERE account_id = %(account)s OR by_id = %(account)s
"""


def close(account_id: int, now: datetime) -> Account:
    """Lock an account and close it, so that its owner can no longer sign in. Returns it. Raises CannotEraseStaff.

    Must be called in a transaction, before anything except the table of orders is locked.
    """
    account = Account.objects.select_for_update(no_key=True).get(pk=account_id)
    if account.is_staff or account.is_superuser:
        raise CannotEraseStaff
    attempts.forget(account)
    SettlementMails.objects.filter(account=account).delete()
    Account.objects.filter(pk=account_id).update(
        password=make_password(None),
        is_active=False,
        last_login=None,
        time_zone="UTC",
        erased_at=account.erased_at or now,
        **dict.fromkeys(("email", "confirmed_email", "first_name", "last_name"), ""),
    )
    KeptAnswer.objects.filter(account=account_id).delete()
    return account


def erase(account: Account, now: datetime) -> None:
    """Erase the rest of a closed account, and record that it was erased. Call it in the transaction of ``close``."""
    which: dict[str, Any] = {"account": account.pk, "now": now}
    with connection.cursor() as cursor:
        cursor.execute(ERASE_KEYS, which)
        cursor.execute(LOCK_ENDPOINTS, which)
        cursor.execute(DELETE_DELIVERIES, which)
        cursor.execute(DELETE_ENDPOINTS, which)
        cursor.execute(ERASE_SUSPENSIONS, which)
    TOTPDevice.objects.filter(user=account).delete()
    RecoveryCode.objects.filter(account=account).delete()
    _end_sessions(account)
    # The user name is a unique key: from here on, inserts that refer to the account wait. So nothing is locked after
    # it.
    account.username = f"{ERASED}{account.pk}"
    Account.objects.filter(pk=account.pk).update(username=account.username)
    its_pages = LogEntry.objects.filter(
        content_type=ContentType.objects.get_for_model(Account), object_id=str(account.pk)
    )
    its_pages.update(object_repr=str(account), change_message="")
    with connection.cursor() as cursor:  # last, because others may have recorded events while this waited for locks
        cursor.execute(ERASE_EVENTS, which)
    AuditEvent.record(AuditEvent.Kind.ERASED, account)


def _end_sessions(account: Account) -> None:
    """Delete the sessions of an account. Reads all sessions, because only their contents say whose they are."""
    found = [
        session.pk
        for session in Session.objects.iterator(chunk_size=SESSIONS_AT_ONCE)
        if session.get_decoded().get(SESSION_KEY) == str(account.pk)
    ]
    Session.objects.filter(pk__in=found).delete()
