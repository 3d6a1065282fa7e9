"""Periodic work for webhooks: wake a worker, and tell owners that their endpoints fail."""

from datetime import datetime, timedelta

from django.conf import settings
from django.core.mail import EmailMessage
from django.db.models import Q
from django.template.loader import render_to_string
from django.utils import timezone

from apikeys.models import WebhookEndpoint
from apikeys.webhooks.leasing import OFF_AFTER, next_due
from apikeys.webhooks.recording import DELIVER
from notpanel.kit import queue
from notpanel.kit.mails import was_sent

WARN_AFTER = timedelta(days=1)  # without a success
MAILS = 50  # in one turn


def sweep() -> None:
    """Wake a worker if something is due: a job may have been lost. Then tell the owners of endpoints that fail."""
    now = timezone.now()
    at = next_due()
    if at is not None and at <= now:
        queue.wake_unless_due(DELIVER, {}, now)
    tell_owners(now)


def tell_owners(now: datetime) -> None:
    """Mail the owners of endpoints that have failed for a day, and of endpoints that were switched off.

    A mail that cannot be sent is tried again at the next turn, for a day.
    """
    for endpoint in _to_warn(now):
        if _send("webhook_fails", endpoint, ends_at=endpoint.failing_since and endpoint.failing_since + OFF_AFTER):
            WebhookEndpoint.objects.filter(pk=endpoint.pk).update(warned_at=now)
    for endpoint in _to_tell(now):
        if _send("webhook_off", endpoint):
            WebhookEndpoint.objects.filter(pk=endpoint.pk).update(told_at=now)


def _to_warn(now: datetime) -> list[WebhookEndpoint]:
    failing = Q(state="active", warned_at=None, failing_since__lte=now - WARN_AFTER)
    return list(WebhookEndpoint.objects.filter(failing).select_related("account").order_by("failing_since")[:MAILS])


def _to_tell(now: datetime) -> list[WebhookEndpoint]:
    off = Q(state="off", told_at=None, ended_at__gt=now - timedelta(days=1))
    return list(WebhookEndpoint.objects.filter(off).select_related("account").order_by("ended_at")[:MAILS])


def _send(name: str, endpoint: WebhookEndpoint, **context: object) -> bool:
    """Send a mail. Returns False if it must be tried again; an owner without an address gets none."""
    if not endpoint.account.email:
        return True
    context |= {"endpoint": endpoint, "account": endpoint.account, "days": settings.WEBHOOK_DAYS}
    subject = render_to_string(f"dashboard/{name}_subject.txt", context).strip()
    body = render_to_string(f"dashboard/{name}.txt", context)
    message = EmailMessage(subject, body, None, [endpoint.account.email])
    return was_sent(message, f"a mail to the owner of webhook {endpoint.pk}")
