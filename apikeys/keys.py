"""The life of an API key: create, change, rotate, revoke, authenticate.

The raw key is shown once, to the person who created or rotated it. Only its digest is stored.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from apikeys.models import Account, ApiKey, AuditEvent
from apikeys.refusals import AccountErased, ApiKeyEnded, ApiKeyRotated, ApiKeysChanged, TooManyApiKeys
from notpanel.kit import request_facts
from notpanel.kit.addresses import Address, is_within
from notpanel.kit.caller import Caller
from notpanel.kit.refusals import AccountSuspended, InvalidApiKey
from notpanel.kit.request_facts import DeniedBy
from notpanel.kit.security_log import deny
from notpanel.kit.sql import fetch

LARGEST_NUMBER_OF_KEYS = 10  # active ones, per account
_RAW_KEY = re.compile(r"np_[A-Za-z0-9_-]{43}")  # np_ and 256 random bits
LENGTH_OF_PREFIX = len("np_") + 8


# The active key of a digest: ApiKeyQuerySet.active() as SQL.
KEY_WITH_ITS_ACCOUNT = """
    SELECT key.id, key.prefix, key.limit_per_minute, key.allowed_networks, key.last_used_at, key.read_only, key.answers,
        account.id, account.tier, account.is_active
    FROM apikeys_apikey AS key JOIN apikeys_account AS account ON account.id = key.account_id
    WHERE (key.digest = %(digest)s OR key.previous_digest = %(digest)s AND key.previous_until > %(now)s)
        AND key.revoked_at IS NULL AND (key.expires_at IS NULL OR key.expires_at > %(now)s)
"""


@dataclass(frozen=True)
class ApiKeyDetails:
    """What a customer decides about a key."""

    name: str = ""
    allowed_networks: tuple[str, ...] = ()  # in CIDR notation; empty: from everywhere
    expires_at: datetime | None = None  # None: never
    answers: str = ApiKey.Answers.NOTPANEL
    read_only: bool = False


@sensitive_variables("raw_key", "value")
def create_api_key(
    account: Account,
    details: ApiKeyDetails = ApiKeyDetails(),
    *,
    limit_per_minute: int | None = None,
    latest: str | None = None,
) -> tuple[ApiKey, str]:
    """Create a key of ``account``. Returns it with the raw key, which is not stored.

    ``latest`` is what ``latest_prefix`` returned when the form was made, so that a form that is sent twice creates one
    key. Raises ApiKeysChanged if it returns something else by now, TooManyApiKeys and AccountErased.
    """
    raw_key, value = _new_value()
    with transaction.atomic():
        # Requests that create keys for the same account wait for each other here, so that no two of them count nine
        # keys.
        if Account.objects.select_for_update(no_key=True).get(pk=account.pk).erased_at:
            raise AccountErased
        if latest is not None and latest != latest_prefix(account):
            raise ApiKeysChanged
        if ApiKey.objects.active(timezone.now()).filter(account=account).count() >= LARGEST_NUMBER_OF_KEYS:
            raise TooManyApiKeys(limit=LARGEST_NUMBER_OF_KEYS)
        api_key = ApiKey.objects.create(
            account=account, limit_per_minute=limit_per_minute, **_columns(details), **value
        )
        _record(AuditEvent.Kind.KEY_CREATED, api_key, **_columns(details, as_text=True))
    return api_key, raw_key


def latest_prefix(account: Account) -> str:
    """Return the prefix of the key that the account created last, "" if it has none."""
    return ApiKey.objects.filter(account=account).order_by("-pk").values_list("prefix", flat=True).first() or ""


def change_api_key(api_key: ApiKey, details: ApiKeyDetails) -> None:
    """Change the details of a key. Its value stays. Raises ApiKeyEnded if the key is revoked or has expired."""
    with transaction.atomic():
        if not ApiKey.objects.active(timezone.now()).filter(pk=api_key.pk).update(**_columns(details)):
            raise ApiKeyEnded
        api_key.refresh_from_db()
        _record(AuditEvent.Kind.KEY_CHANGED, api_key, **_columns(details, as_text=True))


@sensitive_variables("raw_key", "value")
def rotate_api_key(api_key: ApiKey, prefix: str, grace: timedelta = timedelta()) -> str:
    """Give a key a new value. Returns the new raw key.

    The old value works for ``grace`` (LONGEST_GRACE at most). Without a grace it is refused from the next request on.
    An even older value is refused at once.

    The details, the limit and what the limits have counted stay. ``prefix`` is the key's prefix when the form was made,
    so that a form that is sent twice rotates the key once. Raises ApiKeyRotated if the prefix has changed since, and
    ApiKeyEnded if the key is revoked or has expired.
    """
    raw_key, value = _new_value()
    now = timezone.now()
    active = ApiKey.objects.active(now).filter(pk=api_key.pk)
    # Compare the prefix here first, because the form's text may hold what a statement cannot, such as a NUL.
    current = api_key.prefix == prefix
    with transaction.atomic():
        before = {"previous_digest": F("digest") if grace else None, "previous_until": now + grace if grace else None}
        if not (current and active.filter(prefix=prefix).update(rotated_at=now, last_used_at=None, **before, **value)):
            raise ApiKeyRotated if active.exists() else ApiKeyEnded
        api_key.refresh_from_db()
        until = {"until": api_key.previous_until.isoformat()} if api_key.previous_until else {}
        _record(AuditEvent.Kind.KEY_ROTATED, api_key, was=prefix, **until)
    return raw_key


def revoke_api_key(api_key: ApiKey) -> bool:
    """Revoke a key for good, from the next request on. Returns False if it was revoked before."""
    with transaction.atomic():
        revoked = ApiKey.objects.filter(pk=api_key.pk, revoked_at=None).update(revoked_at=timezone.now())
        if revoked:
            _record(AuditEvent.Kind.KEY_REVOKED, api_key)
    return bool(revoked)


def revoke_all_api_keys(account: Account) -> int:
    """Revoke every active key of the account for good. Returns how many there were."""
    with transaction.atomic():
        # A key that is being created at the same time is revoked too, or is created after this.
        Account.objects.select_for_update(no_key=True).get(pk=account.pk)
        active = ApiKey.objects.active(timezone.now()).filter(account=account).order_by("pk")
        return sum(revoke_api_key(api_key) for api_key in active)


def end_of(last_day: date) -> datetime:
    """Return the time from which a key that has this last day (UTC) is refused."""
    # Python's calendar has no day after date.max.
    return datetime.combine(min(last_day, date.max - timedelta(days=1)), time(), UTC) + timedelta(days=1)


@sensitive_variables("raw_key")
def authenticate(raw_key: str, address: Address | None = None) -> Caller:
    """Return the caller who sends ``raw_key`` from ``address``, and record the time of use (at most once a minute).

    Raises InvalidApiKey if the key is missing, unknown, revoked, expired or not allowed from the address, and
    AccountSuspended if its account is suspended.
    """
    if not _RAW_KEY.fullmatch(raw_key):
        deny(DeniedBy.NO_KEY)
        raise InvalidApiKey
    now = timezone.now()
    rows = fetch(KEY_WITH_ITS_ACCOUNT, {"digest": hash_key(raw_key), "now": now})
    if not rows:
        deny(DeniedBy.UNKNOWN_KEY)
        raise InvalidApiKey
    [(api_key_id, prefix, limit_per_minute, allowed_networks, last_used_at, read_only, answers, *account)] = rows
    account_id, tier, is_active = account
    request_facts.add(account=account_id, key=prefix)
    if allowed_networks and not is_within(address, allowed_networks):
        deny(DeniedBy.ADDRESS)
        raise InvalidApiKey
    if not is_active:
        deny(DeniedBy.SUSPENDED)
        raise AccountSuspended
    if last_used_at is None or now - last_used_at >= timedelta(minutes=1):
        # Of several concurrent requests, only one writes.
        ApiKey.objects.filter(pk=api_key_id, last_used_at=last_used_at).update(last_used_at=now)
    return Caller(
        account_id=account_id,
        tier=tier,
        api_key_id=api_key_id,
        api_key_prefix=prefix,
        limit_per_minute=limit_per_minute,
        read_only=read_only,
        answers=answers,
    )


@sensitive_variables("raw_key")
def _new_value() -> tuple[str, dict[str, str]]:
    """Return a new raw key, and the columns of ApiKey that follow from it."""
    raw_key = f"np_{secrets.token_urlsafe(32)}"
    return raw_key, {"prefix": raw_key[:LENGTH_OF_PREFIX], "digest": hash_key(raw_key)}


@sensitive_variables("raw_key")
def hash_key(raw_key: str) -> str:
    """Return the SHA-256 of a raw key in hexadecimal, which is all that is stored of it."""
    return hashlib.sha256(raw_key.encode()).hexdigest()


def _record(kind: AuditEvent.Kind, api_key: ApiKey, **details: Any) -> None:
    AuditEvent.record(kind, api_key.account, {"key": api_key.prefix, **details})


def _columns(details: ApiKeyDetails, *, as_text: bool = False) -> dict[str, Any]:
    expires_at = details.expires_at
    return {
        "name": details.name,
        "allowed_networks": list(details.allowed_networks),
        "expires_at": expires_at.isoformat() if as_text and expires_at else expires_at,
        "answers": details.answers,
        "read_only": details.read_only,
    }
