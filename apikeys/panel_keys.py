"""The life of a panel key: create, revoke, authenticate. The panel sends files to /api/panel/ with it.

Only commands create and revoke panel keys (docs/panel-api.md). No panel key works as a customer's key, or vice versa.
"""

import re
import secrets
from collections.abc import Sequence
from datetime import timedelta

from django.db import transaction
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from apikeys.keys import hash_key
from apikeys.models import AuditEvent, PanelKey
from notpanel.kit import request_facts
from notpanel.kit.addresses import Address, Network, is_within
from notpanel.kit.caller import PanelCaller
from notpanel.kit.refusals import InvalidApiKey
from notpanel.kit.request_facts import DeniedBy
from notpanel.kit.security_log import deny

PREFIX = "npp_"
LENGTH_OF_PREFIX = len(PREFIX) + 8
_RAW_KEY = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")  # 256 random bits


@sensitive_variables("raw_key")
def create_panel_key(
    name: str, networks: Sequence[Network], *, limit_per_minute: int | None = None
) -> tuple[PanelKey, str]:
    """Create a key that works from ``networks`` only. Returns it with the raw key, which is not stored."""
    raw_key = f"{PREFIX}{secrets.token_urlsafe(32)}"
    with transaction.atomic():
        panel_key = PanelKey.objects.create(
            name=name,
            prefix=raw_key[:LENGTH_OF_PREFIX],
            digest=hash_key(raw_key),
            limit_per_minute=limit_per_minute,
            allowed_networks=[str(network) for network in networks],
        )
        _record(AuditEvent.Kind.PANEL_KEY_CREATED, panel_key)
    return panel_key, raw_key


def revoke_panel_key(panel_key: PanelKey) -> bool:
    """Revoke a key for good, from the next request on. Returns False if it was revoked before."""
    with transaction.atomic():
        revoked = PanelKey.objects.filter(pk=panel_key.pk, revoked_at=None).update(revoked_at=timezone.now())
        if revoked:
            _record(AuditEvent.Kind.PANEL_KEY_REVOKED, panel_key)
    return bool(revoked)


@sensitive_variables("raw_key")
def authenticate(raw_key: str, address: Address | None) -> PanelCaller:
    """Return the caller who sends ``raw_key`` from ``address``, and record the time of use (at most once a minute).

    Raises InvalidApiKey if the key is missing, unknown, revoked or not allowed from the address.
    """
    if not _RAW_KEY.fullmatch(raw_key):
        deny(DeniedBy.NO_KEY)
        raise InvalidApiKey
    panel_key = PanelKey.objects.filter(digest=hash_key(raw_key), revoked_at=None).first()
    if panel_key is None:
        deny(DeniedBy.UNKNOWN_KEY)
        raise InvalidApiKey
    request_facts.add(key=panel_key.prefix)
    if not is_within(address, panel_key.allowed_networks):
        deny(DeniedBy.ADDRESS)
        raise InvalidApiKey
    now = timezone.now()
    if panel_key.last_used_at is None or now - panel_key.last_used_at >= timedelta(minutes=1):
        # Of several concurrent requests, only one writes.
        PanelKey.objects.filter(pk=panel_key.pk, last_used_at=panel_key.last_used_at).update(last_used_at=now)
    return PanelCaller(panel_key.pk, panel_key.prefix, panel_key.limit_per_minute)


def _record(kind: AuditEvent.Kind, panel_key: PanelKey) -> None:
    details = {"key": panel_key.prefix, "name": panel_key.name, "allowed_networks": panel_key.allowed_networks}
    AuditEvent.record(kind, None, details)
