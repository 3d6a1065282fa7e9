"""Encrypt what must be stored and read again, such as the keys of suppliers, by keys that are not in the database."""

import base64
import hashlib

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings


class Undecipherable(Exception):
    """None of the keys of ENCRYPTION_KEYS has encrypted this."""


def encrypt(secret: str) -> str:
    """Encrypt a secret by the first key."""
    return _keys().encrypt(secret.encode()).decode()


def decrypt(token: str) -> str:
    """Return what was encrypted, by any of the keys. Raises Undecipherable."""
    try:
        return _keys().decrypt(token).decode()
    except InvalidToken as error:
        raise Undecipherable from error


def encrypt_anew(token: str) -> str:
    """Encrypt by the first key what any of the keys has encrypted. Raises Undecipherable."""
    try:
        return _keys().rotate(token).decode()
    except InvalidToken as error:
        raise Undecipherable from error


def _keys() -> MultiFernet:
    # The last one is that of a site that has not set ENCRYPTION_KEYS yet.
    derived = base64.urlsafe_b64encode(hashlib.sha256(b"notpanel.kit.secrets" + settings.SECRET_KEY.encode()).digest())
    keys: list[str | bytes] = [*settings.ENCRYPTION_KEYS, derived]
    return MultiFernet([Fernet(key) for key in keys])
