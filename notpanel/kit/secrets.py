"""Encrypt what must be stored and read again, such as the keys of suppliers, with keys that are not in the database.

The keys are those of ENCRYPTION_KEYS, then one made from SECRET_KEY, then one from each of SECRET_KEY_FALLBACKS. The
first one encrypts.
"""

import base64
import hashlib

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings


class Undecipherable(Exception):
    """None of the keys has encrypted this."""


def encrypt(secret: str) -> str:
    """Encrypt a secret with the first key."""
    return _all_keys().encrypt(secret.encode()).decode()


def decrypt(token: str) -> str:
    """Return what was encrypted, with any of the keys. Raises Undecipherable."""
    try:
        return _all_keys().decrypt(token).decode()
    except InvalidToken as error:
        raise Undecipherable from error


def encrypt_anew(token: str) -> str:
    """Re-encrypt with the first key what any of the keys has encrypted. Raises Undecipherable."""
    try:
        return _all_keys().rotate(token).decode()
    except InvalidToken as error:
        raise Undecipherable from error


def is_by_first_key(token: str) -> bool:
    """Return whether the first key has encrypted this, so that it needs none of the others."""
    try:
        _keys()[0].decrypt(token)
    except InvalidToken:
        return False
    return True


def _all_keys() -> MultiFernet:
    return MultiFernet(_keys())


def _keys() -> list[Fernet]:
    # Those made from secret keys are for a site that has not set ENCRYPTION_KEYS, or had not when it encrypted.
    derived = [_key_from(secret_key) for secret_key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)]
    keys: list[str | bytes] = [*settings.ENCRYPTION_KEYS, *derived]
    return [Fernet(key) for key in keys]


def _key_from(secret_key: str) -> bytes:
    return base64.urlsafe_b64encode(hashlib.sha256(b"notpanel.kit.secrets" + secret_key.encode()).digest())
