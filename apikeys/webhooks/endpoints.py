"""The endpoints of an account: add, list, remove, pause, resume, rotate their secrets, try and replay.

Each function looks the endpoint up among those of the account, and raises WebhookNotFound. The secret is shown once,
to the person or program that added the endpoint or rotated it.
"""

import json
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from apikeys.models import Account, AuditEvent, WebhookDelivery, WebhookEndpoint
from apikeys.refusals import (
    InvalidWebhookUrl,
    NotReplayable,
    UnknownWebhookEvent,
    WebhookExists,
    WebhookLimitReached,
    WebhookNotActive,
    WebhookNotFound,
    WebhookRotated,
    WebhookTestWaits,
)
from apikeys.webhooks.models import EVENTS, EventType
from apikeys.webhooks.recording import DELIVER
from apikeys.webhooks.signing import new_secret
from notpanel.kit import queue, secrets
from notpanel.kit.outbound import BadUrl, check_written_address, parse_url
from notpanel.kit.refusals import AccountSuspended

LARGEST_NUMBER = 5  # endpoints of an account
BOTH_SIGN_FOR = timedelta(hours=24)  # after a rotation

State = WebhookEndpoint.State


def endpoints_of(account_id: int) -> QuerySet[WebhookEndpoint]:
    """Return the endpoints of an account, the oldest first."""
    found = WebhookEndpoint.objects.filter(account=account_id).exclude(state=State.REMOVED)
    return found.order_by("created_at", "id")


def endpoint_of(account_id: int, endpoint_id: str) -> WebhookEndpoint:
    """Return an endpoint of an account."""
    return _found(endpoints_of(account_id), endpoint_id)


@sensitive_variables("secret")
def add_endpoint(
    account_id: int, url: str, events: Iterable[str] = (), *, api_key: str = ""
) -> tuple[WebhookEndpoint, str]:
    """Add an endpoint for ``events``, or all of them if there are none. Returns it with its secret.

    ``api_key`` is the prefix of the key with which a program asks for it. Raises InvalidWebhookUrl,
    UnknownWebhookEvent, WebhookExists or WebhookLimitReached; and AccountSuspended if the account was just erased.
    """
    try:
        check_written_address(parse_url(url, loopback=settings.WEBHOOK_LOOPBACK))
    except BadUrl as error:
        raise InvalidWebhookUrl(problem=error) from error
    wanted = set(events) or set(EVENTS)
    if not wanted <= set(EVENTS):
        raise UnknownWebhookEvent
    secret = new_secret()
    with transaction.atomic():
        # Additions to the same account wait for each other here, so that no two of them count four endpoints.
        account = Account.objects.select_for_update(no_key=True).get(pk=account_id)
        if account.erased_at:
            raise AccountSuspended
        urls = list(endpoints_of(account_id).values_list("url", flat=True))
        if url in urls:
            raise WebhookExists
        if len(urls) >= LARGEST_NUMBER:
            raise WebhookLimitReached(limit=LARGEST_NUMBER)
        endpoint = WebhookEndpoint.objects.create(
            account=account,
            url=url,
            events=[event for event in EVENTS if event in wanted],
            encrypted_secret=secrets.encrypt(secret),
        )
        _record(AuditEvent.Kind.WEBHOOK_ADDED, endpoint, api_key, url=url, events=endpoint.events)
    return endpoint, secret


def remove_endpoint(account_id: int, endpoint_id: str, *, api_key: str = "") -> WebhookEndpoint:
    """Remove an endpoint for good. Events that were not posted to it yet are dropped."""
    with transaction.atomic():
        endpoint = _locked(account_id, endpoint_id)
        endpoint.state, endpoint.ended_at, endpoint.off_because = State.REMOVED, timezone.now(), ""
        endpoint.encrypted_secret = endpoint.encrypted_old_secret = ""
        endpoint.save()
        give_up(endpoint)
        _record(AuditEvent.Kind.WEBHOOK_REMOVED, endpoint, api_key, url=endpoint.url)
    return endpoint


def give_up(endpoint: WebhookEndpoint) -> None:
    """Mark as failed the deliveries that wait for a locked endpoint that is removed or switched off."""
    endpoint.deliveries.filter(state="waiting").update(state="failed", next_at=None)


def pause(account_id: int, endpoint_id: str) -> None:
    """Stop posting to an endpoint for now. Its events wait. An endpoint that is switched off stays off."""
    with transaction.atomic():
        endpoint = _locked(account_id, endpoint_id)
        if endpoint.state == State.ACTIVE:
            endpoint.state = State.PAUSED
            endpoint.save()
            _record(AuditEvent.Kind.WEBHOOK_CHANGED, endpoint, state=endpoint.state)


def resume(account_id: int, endpoint_id: str) -> None:
    """Post events again to an endpoint that was paused or switched off, beginning with those that wait."""
    with transaction.atomic():
        endpoint = _locked(account_id, endpoint_id)
        if endpoint.state == State.ACTIVE:
            return
        endpoint.state, endpoint.off_because = State.ACTIVE, ""
        endpoint.failing_since = endpoint.warned_at = endpoint.ended_at = endpoint.told_at = None
        endpoint.save()
        _record(AuditEvent.Kind.WEBHOOK_CHANGED, endpoint, state=endpoint.state)
        _wake()


@sensitive_variables("secret")
def rotate_secret(account_id: int, endpoint_id: str, version: str) -> tuple[WebhookEndpoint, str]:
    """Give an endpoint a new secret. The old one also signs for BOTH_SIGN_FOR. Returns the endpoint and the new secret.

    ``version`` is what ``secret_version`` returned when the form was made, so that a form that is sent twice rotates
    the secret once. Raises WebhookRotated if it returns something else by now.
    """
    secret = new_secret()
    with transaction.atomic():
        endpoint = _locked(account_id, endpoint_id)
        if version != secret_version(endpoint):
            raise WebhookRotated
        endpoint.encrypted_old_secret = endpoint.encrypted_secret
        endpoint.old_secret_until = timezone.now() + BOTH_SIGN_FOR
        endpoint.encrypted_secret = secrets.encrypt(secret)
        endpoint.save()
        _record(AuditEvent.Kind.WEBHOOK_ROTATED, endpoint)
    return endpoint, secret


def secret_version(endpoint: WebhookEndpoint) -> str:
    """Return a text that changes whenever the secret is rotated, and reveals nothing about it."""
    return endpoint.old_secret_until.isoformat() if endpoint.old_secret_until else "first"


def send_test(account_id: int, endpoint_id: str) -> WebhookDelivery:
    """Post a test event to an endpoint. Raises WebhookNotActive or WebhookTestWaits."""
    with transaction.atomic():
        endpoint = _locked(account_id, endpoint_id)
        if endpoint.state != State.ACTIVE:
            raise WebhookNotActive
        if endpoint.deliveries.filter(type=EventType.TEST, state="waiting").exists():
            raise WebhookTestWaits
        now = timezone.now()
        body = {
            "type": EventType.TEST,
            "timestamp": now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "data": {"webhook": endpoint.pk},
        }
        delivery = WebhookDelivery.objects.create(
            endpoint=endpoint,
            type=EventType.TEST,
            body=json.dumps(body, separators=(",", ":")),
            created_at=now,
            state="waiting",
            next_at=now,
        )
        _wake()
    return delivery


def replay(account_id: int, endpoint_id: str, delivery_id: uuid.UUID) -> None:
    """Post a delivery to its endpoint once more. Raises NotReplayable."""
    with transaction.atomic():
        endpoint = _locked(account_id, endpoint_id)
        if not _again(endpoint.deliveries.filter(pk=delivery_id).replayable()):
            raise NotReplayable


def replay_failed(account_id: int, endpoint_id: str, since: datetime) -> int:
    """Retry now the failed deliveries of events since then. Returns how many there are."""
    with transaction.atomic():
        endpoint = _locked(account_id, endpoint_id)
        return _again(endpoint.deliveries.filter(created_at__gte=since).failed())


def encrypt_secrets_anew() -> tuple[int, list[WebhookEndpoint]]:
    """Re-encrypt all secrets with the first of ENCRYPTION_KEYS.

    Returns how many endpoints were re-encrypted, and those whose secrets none of the keys decrypts, which are left as
    they are.
    """
    lost = []
    with transaction.atomic():
        endpoints = list(
            WebhookEndpoint.objects.exclude(state=State.REMOVED).select_for_update(no_key=True).order_by("id")
        )
        for endpoint in endpoints:
            try:
                endpoint.encrypted_secret = secrets.encrypt_anew(endpoint.encrypted_secret)
                if endpoint.encrypted_old_secret:
                    endpoint.encrypted_old_secret = secrets.encrypt_anew(endpoint.encrypted_old_secret)
            except secrets.Undecipherable:
                lost.append(endpoint)
        WebhookEndpoint.objects.bulk_update(endpoints, ["encrypted_secret", "encrypted_old_secret"])
    return len(endpoints) - len(lost), lost


def _again(deliveries: QuerySet[WebhookDelivery]) -> int:
    count = deliveries.update(state="waiting", next_at=timezone.now(), attempts=0)
    if count:
        _wake()
    return count


def _wake() -> None:
    queue.wake_unless_due(DELIVER, {}, timezone.now())


def _locked(account_id: int, endpoint_id: str) -> WebhookEndpoint:
    # NO KEY, because requests insert deliveries that refer to the row meanwhile.
    return _found(endpoints_of(account_id).select_for_update(no_key=True), endpoint_id)


def _found(endpoints: QuerySet[WebhookEndpoint], endpoint_id: str) -> WebhookEndpoint:
    try:
        return endpoints.get(pk=endpoint_id)
    except (WebhookEndpoint.DoesNotExist, ValidationError) as error:  # text that cannot be an id names nothing
        raise WebhookNotFound from error


def _record(kind: AuditEvent.Kind, endpoint: WebhookEndpoint, api_key: str = "", **details: Any) -> None:
    if api_key:
        details["key"] = api_key
    AuditEvent.record(kind, endpoint.account, {"webhook": endpoint.pk, **details}, by_id=endpoint.account_id)
