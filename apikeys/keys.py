"""How keys are made, read and refused. A raw key is seen once, by whoever created or rotated it."""

import hashlib
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from apikeys.models import Account, ApiKey
from notpanel.kit.addresses import Address, is_within
from notpanel.kit.caller import AccountSuspended, Caller, InvalidApiKey
from notpanel.kit.sql import fetch

LARGEST_NUMBER_OF_KEYS = 10  # active ones, per account
_RAW_KEY = re.compile(r"np_[A-Za-z0-9_-]{43}")  # np_ and 256 random bits
LENGTH_OF_PREFIX = len("np_") + 8


# The active key of a digest: ApiKeyQuerySet.active() written out.
KEY_WITH_ITS_ACCOUNT = """
    SELECT key.id, key.prefix, key.limit_per_minute, key.allowed_networks, key.last_used_at,
        account.id, account.tier, account.is_active
    FROM apikeys_apikey AS key JOIN apikeys_account AS account ON account.id = key.account_id
    WHERE key.digest = %(digest)s AND key.revoked_at IS NULL AND (key.expires_at IS NULL OR key.expires_at > %(now)s)
"""


def _new_value() -> tuple[str, dict[str, str]]:
    """Return a new raw key, and the fields of ApiKey that it is known by."""
    raw_key = f"np_{secrets.token_urlsafe(32)}"
    return raw_key, {"prefix": raw_key[:LENGTH_OF_PREFIX], "digest": _digest(raw_key)}


def _digest(raw_key: str) -> str:
    return hashlib.sha256(raw_key.encode()).hexdigest()


def create_api_key(
    account: Account,
    name: str = "",
    limit_per_minute: int | None = None,
    *,
    allowed_networks: Sequence[str] = (),
    expires_at: datetime | None = None,
    latest: str | None = None,
) -> tuple[ApiKey, str]:
    """Create a key of ``account``. Returns it with the raw key, which is stored nowhere.

    Raises ValidationError if the account has ten active keys already, or if ``latest`` is given and is not, or no more,
    what ``latest_prefix`` returns: a form that is sent twice creates one key.
    """
    raw_key, value = _new_value()
    with transaction.atomic():
        # Whoever creates a key of this account waits here, so that no two of them count nine.
        Account.objects.select_for_update(no_key=True).get(pk=account.pk)
        if latest is not None and latest != latest_prefix(account):
            raise ValidationError("Your keys have changed in the meantime. Send this again if you want one more.")
        if ApiKey.objects.active(timezone.now()).filter(account=account).count() >= LARGEST_NUMBER_OF_KEYS:
            raise ValidationError(f"An account has {LARGEST_NUMBER_OF_KEYS} active API keys at most.")
        api_key = ApiKey.objects.create(
            account=account,
            name=name,
            limit_per_minute=limit_per_minute,
            allowed_networks=list(allowed_networks),
            expires_at=expires_at,
            **value,
        )
    return api_key, raw_key


def latest_prefix(account: Account) -> str:
    """Return the prefix of the key that the account created last, "" if it has none."""
    return ApiKey.objects.filter(account=account).order_by("-pk").values_list("prefix", flat=True).first() or ""


def rotate(api_key: ApiKey, prefix: str) -> str:
    """Give the key a new value: the old one is refused from the next request on. Returns the new raw key.

    Name, limits and what was counted on it stay. Raises ValidationError for a key that is not active, or whose prefix
    is not, or no more, ``prefix``: a form that is sent twice rotates once.
    """
    raw_key, value = _new_value()
    now = timezone.now()
    active = ApiKey.objects.active(now).filter(pk=api_key.pk)
    if not active.filter(prefix=prefix).update(rotated_at=now, last_used_at=None, **value):
        ended = "This key is revoked or has expired."
        raise ValidationError("This key was rotated in the meantime." if active.exists() else ended)
    api_key.refresh_from_db()
    return raw_key


def end_of(last_day: date) -> datetime:
    """Return the moment from which a key is refused that works to the end of ``last_day`` (UTC)."""
    # There is no day after the last one that Python knows.
    return datetime.combine(min(last_day, date.max - timedelta(days=1)), time(), UTC) + timedelta(days=1)


def authenticate(raw_key: str, address: Address | None = None) -> Caller:
    """Return who calls from ``address`` with ``raw_key``, and note that the key was used (at most once a minute).

    Raises InvalidApiKey for a key that is missing, unknown, revoked, expired or not meant for this address;
    AccountSuspended for one of a suspended account.
    """
    if not _RAW_KEY.fullmatch(raw_key):
        raise InvalidApiKey
    now = timezone.now()
    rows = fetch(KEY_WITH_ITS_ACCOUNT, {"digest": _digest(raw_key), "now": now})
    if not rows:
        raise InvalidApiKey
    [(api_key_id, prefix, limit_per_minute, allowed_networks, last_used_at, account_id, tier, is_active)] = rows
    if allowed_networks and not is_within(address, allowed_networks):
        raise InvalidApiKey
    if not is_active:
        raise AccountSuspended
    if last_used_at is None or now - last_used_at >= timedelta(minutes=1):
        # Of requests at the same time one writes.
        ApiKey.objects.filter(pk=api_key_id, last_used_at=last_used_at).update(last_used_at=now)
    return Caller(
        account_id=account_id,
        tier=tier,
        api_key_id=api_key_id,
        api_key_prefix=prefix,
        limit_per_minute=limit_per_minute,
    )
