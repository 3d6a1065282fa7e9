"""The second factor of an account: an authenticator app (TOTP, through django-otp) and ten recovery codes."""

import base64
import hashlib
import math
import re
import secrets

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django_otp import verify_token
from django_otp.plugins.otp_totp.models import TOTPDevice

from apikeys.attempts import Counter
from apikeys.models import Account, AuditEvent, RecoveryCode
from apikeys.refusals import (
    OnlySuperusers,
    SecondFactorIsRequired,
    SecondFactorMissing,
    TooManyCodes,
    WrongCode,
)

NUMBER_OF_RECOVERY_CODES = 10
Kind = AuditEvent.Kind


def device_of(account: Account) -> TOTPDevice | None:
    """Return the authenticator app that the account's owner has set up, or None."""
    device: TOTPDevice | None = TOTPDevice.objects.filter(user=account, confirmed=True).first()
    return device


def is_required(account: Account) -> bool:
    """Return whether the account must have a second factor (STAFF_TWO_FACTOR)."""
    return bool(settings.STAFF_TWO_FACTOR and account.is_staff)


def prepare(account: Account) -> TOTPDevice:
    """Create a secret for an authenticator app. It has no effect until ``enable`` has accepted a code from the app."""
    with transaction.atomic():
        Account.objects.select_for_update(no_key=True).get(pk=account.pk)
        TOTPDevice.objects.filter(user=account, confirmed=False).delete()
        device: TOTPDevice = TOTPDevice.objects.create(user=account, name="authenticator app", confirmed=False)
    return device


def enable(account: Account, device: TOTPDevice, code: str) -> list[str]:
    """Make ``device`` the second factor. Returns the recovery codes, which are not stored.

    Raises WrongCode if ``code`` is not what the app shows, and TooManyCodes.
    """
    _check(account, device, code)
    with transaction.atomic():
        Account.objects.select_for_update(no_key=True).get(pk=account.pk)
        TOTPDevice.objects.filter(user=account).exclude(pk=device.pk).delete()
        if not TOTPDevice.objects.filter(pk=device.pk, confirmed=False).update(confirmed=True):
            raise WrongCode  # another window has just set one up
        codes = _new_recovery_codes(account)
        AuditEvent.record(Kind.FACTOR_ENABLED, account)
    return codes


def prove(account: Account, code: str) -> TOTPDevice:
    """Check a code of the app, or a recovery code, which then cannot be used again. Returns the app.

    Raises WrongCode, TooManyCodes, and SecondFactorMissing if the account has no second factor.
    """
    device = device_of(account)
    if device is None:
        raise SecondFactorMissing
    _check(account, device, code)
    return device


def renew_recovery_codes(account: Account) -> list[str]:
    """Replace the recovery codes. Returns the new ones. Raises SecondFactorMissing."""
    with transaction.atomic():
        Account.objects.select_for_update(no_key=True).get(pk=account.pk)
        if device_of(account) is None:
            raise SecondFactorMissing
        codes = _new_recovery_codes(account)
        AuditEvent.record(Kind.RECOVERY_CODES, account)
    return codes


def disable(account: Account) -> None:
    """Remove the second factor at its owner's request. Raises SecondFactorIsRequired."""
    if is_required(account):
        raise SecondFactorIsRequired
    _remove(account, Kind.FACTOR_DISABLED)


def reset(account: Account, by: Account) -> bool:
    """Remove the second factor of somebody who has lost it. Returns False if there is none. Raises OnlySuperusers."""
    if not by.is_superuser:
        raise OnlySuperusers
    return _remove(account, Kind.FACTOR_RESET)


def recovery_codes_left(account: Account) -> int:
    """Return how many recovery codes have not been used yet."""
    return RecoveryCode.objects.filter(account=account, used_at=None).count()


def _remove(account: Account, kind: Kind) -> bool:
    with transaction.atomic():
        Account.objects.select_for_update(no_key=True).get(pk=account.pk)
        had_one = device_of(account) is not None
        TOTPDevice.objects.filter(user=account).delete()
        RecoveryCode.objects.filter(account=account).delete()
        if had_one:
            AuditEvent.record(kind, account)
    return had_one


def _check(account: Account, device: TOTPDevice, code: str) -> None:
    """Raise WrongCode or TooManyCodes unless the code is right. A code of the app is accepted only once."""
    counter = Counter("code", str(account.pk), settings.ATTEMPTS_PER_NAME, settings.PASSWORD_CHECKS)
    if wait := counter.begin():
        raise TooManyCodes(wait)
    code = _normal(code)
    if not (_is_of_the_app(account, device, code) or (device.confirmed and _is_a_recovery_code(account, code))):
        AuditEvent.record(Kind.CODE_FAILED, account)
        counter.fail(account)
        raise WrongCode
    counter.succeed()


def _is_of_the_app(account: Account, device: TOTPDevice, code: str) -> bool:
    if not looks_like_the_apps(code):
        return False
    device.refresh_from_db()
    allowed, why = device.verify_is_allowed()
    if not allowed:  # django-otp doubles the wait with each wrong code in a row
        wait = (why["locked_until"] - timezone.now()).total_seconds()
        raise TooManyCodes(max(math.ceil(wait), 1))
    return verify_token(account, device.persistent_id, code) is not None


def looks_like_the_apps(code: str) -> bool:
    """Return whether the code looks like one of the app rather than a recovery code."""
    return re.fullmatch("[0-9]{6}", _normal(code)) is not None


def _normal(code: str) -> str:
    return re.sub(r"[\s-]", "", code).lower()


def _is_a_recovery_code(account: Account, code: str) -> bool:
    unused = RecoveryCode.objects.filter(account=account, digest=_digest(code), used_at=None)
    with transaction.atomic():
        used = unused.update(used_at=timezone.now())
        if used:
            AuditEvent.record(Kind.RECOVERY_CODE_USED, account, {"left": recovery_codes_left(account)})
    return bool(used)


def _new_recovery_codes(account: Account) -> list[str]:
    codes = [base64.b32encode(secrets.token_bytes(10)).decode().lower() for _ in range(NUMBER_OF_RECOVERY_CODES)]
    RecoveryCode.objects.filter(account=account).delete()
    RecoveryCode.objects.bulk_create([RecoveryCode(account=account, digest=_digest(code)) for code in codes])
    return ["-".join(code[at : at + 4] for at in range(0, len(code), 4)) for code in codes]


def _digest(code: str) -> str:
    # 80 random bits need no slow hash.
    return hashlib.sha256(code.encode()).hexdigest()
