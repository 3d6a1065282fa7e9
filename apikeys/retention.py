"""How long webhook deliveries, kept answers, counters of attempts and the audit log are kept."""

from datetime import timedelta

from django.conf import settings

from apikeys.idempotency import KEPT_FOR
from apikeys.webhooks.models import LEASE
from notpanel.kit.retention import Kept

# A delivery that is being attempted is deleted a day later: the owner who replayed it wants to see the result.
DELIVERIES = Kept(
    "webhook deliveries",
    kept_for=lambda: timedelta(days=settings.WEBHOOK_DAYS),
    old=f"""
        SELECT id FROM apikeys_webhookdelivery
        WHERE created_at < %(before)s
            AND NOT (
                state = 'waiting' AND attempted_at IS NOT NULL
                AND attempted_at > %(now)s - interval '{LEASE.total_seconds()} s'
            )
        ORDER BY created_at
    """,  # noqa: S608  # made of constants
    delete="DELETE FROM apikeys_webhookdelivery WHERE id IN (SELECT id FROM old)",
)
# Every request that saw the endpoint before it was removed has ended long ago.
ENDPOINTS = Kept(
    "webhooks that were removed",
    kept_for=lambda: timedelta(days=1),
    old="""
        SELECT id FROM apikeys_webhookendpoint AS endpoint
        WHERE state = 'removed' AND ended_at < %(before)s
            AND NOT EXISTS (SELECT FROM apikeys_webhookdelivery WHERE endpoint_id = endpoint.id)
        ORDER BY ended_at
    """,
    delete="DELETE FROM apikeys_webhookendpoint WHERE id IN (SELECT id FROM old)",
)
ANSWERS = Kept(
    "kept answers",
    kept_for=lambda: KEPT_FOR,
    old="SELECT id FROM apikeys_keptanswer WHERE created_at < %(before)s ORDER BY created_at",
    delete="DELETE FROM apikeys_keptanswer WHERE id IN (SELECT id FROM old)",
)
ATTEMPTS = Kept(
    "counters of attempts to sign in",
    kept_for=timedelta,  # their end is in the row
    old="SELECT key AS id FROM apikeys_attemptcounter WHERE ends_at < %(before)s ORDER BY ends_at",
    delete="DELETE FROM apikeys_attemptcounter WHERE key IN (SELECT id FROM old)",
)
AUDIT_LOG = Kept(
    "events of the audit log",
    kept_for=lambda: timedelta(days=settings.AUDIT_LOG_DAYS) if settings.AUDIT_LOG_DAYS else None,
    old="SELECT id FROM apikeys_auditevent WHERE at < %(before)s ORDER BY at, id",
    delete="DELETE FROM apikeys_auditevent WHERE id IN (SELECT id FROM old)",
)
ALL = (DELIVERIES, ENDPOINTS, ANSWERS, ATTEMPTS, AUDIT_LOG)
