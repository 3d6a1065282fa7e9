"""How keys are made, read and refused. A raw key is seen once, by whoever created it."""

import hashlib
import re
import secrets
from datetime import timedelta

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from apikeys.models import Account, ApiKey
from notpanel.api.actions import Caller
from notpanel.api.errors import AccountSuspended, InvalidApiKey

LARGEST_NUMBER_OF_KEYS = 10  # active ones, per account
_RAW_KEY = re.compile(r"np_[A-Za-z0-9_-]{43}")  # np_ and 256 random bits
LENGTH_OF_PREFIX = len("np_") + 8


def _digest(raw_key: str) -> str:
    return hashlib.sha256(raw_key.encode()).hexdigest()


def create_api_key(account: Account, name: str = "", limit_per_minute: int | None = None) -> tuple[ApiKey, str]:
    """Create a key of ``account``. Returns it with the raw key, which is stored nowhere.

    Raises ValidationError if the account has ten active keys already.
    """
    raw_key = f"np_{secrets.token_urlsafe(32)}"
    with transaction.atomic():
        # Whoever creates a key of this account waits here, so that no two of them count nine.
        Account.objects.select_for_update(no_key=True).get(pk=account.pk)
        if ApiKey.objects.filter(account=account, revoked_at=None).count() >= LARGEST_NUMBER_OF_KEYS:
            raise ValidationError(f"An account has {LARGEST_NUMBER_OF_KEYS} active API keys at most.")
        api_key = ApiKey.objects.create(
            account=account,
            name=name,
            prefix=raw_key[:LENGTH_OF_PREFIX],
            digest=_digest(raw_key),
            limit_per_minute=limit_per_minute,
        )
    return api_key, raw_key


def authenticate(raw_key: str) -> Caller:
    """Return who calls with ``raw_key``, and note that the key was used (at most once a minute).

    Raises InvalidApiKey for a key that is missing, unknown or revoked, AccountSuspended for one of a
    suspended account.
    """
    if not _RAW_KEY.fullmatch(raw_key):
        raise InvalidApiKey
    api_key = (
        ApiKey.objects.select_related("account")
        .only("prefix", "limit_per_minute", "last_used_at", "account__tier", "account__is_active")
        .filter(digest=_digest(raw_key), revoked_at=None)
        .first()
    )
    if api_key is None:
        raise InvalidApiKey
    if not api_key.account.is_active:
        raise AccountSuspended
    now = timezone.now()
    if api_key.last_used_at is None or now - api_key.last_used_at >= timedelta(minutes=1):
        # Of requests at the same time one writes.
        ApiKey.objects.filter(pk=api_key.pk, last_used_at=api_key.last_used_at).update(last_used_at=now)
    return Caller(
        account_id=api_key.account_id,
        tier=api_key.account.tier,
        api_key_id=api_key.pk,
        api_key_prefix=api_key.prefix,
        limit_per_minute=api_key.limit_per_minute,
    )
