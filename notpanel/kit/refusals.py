"""Refusals: why something was not done. Doors turn them into answers; nothing here knows HTTP."""

import functools
import re
from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar

from notpanel.kit.times import time_text


class Refusal(Exception):
    """Refuse a request, with a reason for the person or program that made it.

    A subclass has ``message``: the literal text, with its figures in braces, which are given by keyword when the
    refusal is raised. Times among them are written in the current time zone. A refusal that clients of the API may
    meet also has ``cause``, a sentence for their programmers, and ``example``, the figures that the documentation
    shows.
    """

    message: ClassVar[str]
    cause: ClassVar[str] = ""
    example: ClassVar[dict[str, object]] = {}

    def __init__(self, **figures: object) -> None:
        shown = {name: time_text(each) if isinstance(each, datetime) else each for name, each in figures.items()}
        self.text = self.message.format(**shown)
        super().__init__(self.text)

    @classmethod
    @functools.cache
    def code(cls) -> str:
        """Return its name for programs, in snake case: ``order_not_found``."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()

    @classmethod
    def example_text(cls, **figures: object) -> str:
        """Return the text as the documentation shows it. ``figures`` replace those of ``example``."""
        return cls.message.format(**{**cls.example, **figures})


# ---- The refusals that the apps raise and the API knows by name.


class InvalidApiKey(Refusal):
    message = "Invalid API key"
    cause = "The key is missing, unknown, revoked or expired, or may not be used from your address."


class AccountSuspended(Refusal):
    message = "Account suspended"
    cause = "The account that the key belongs to is not active."


class ServiceUnavailable(Refusal):
    message = "Service temporarily unavailable"
    cause = "The database, a lock or Redis was not available in time. Nothing was changed: try again."


class RequestIdUsed(Refusal):
    message = "request_id was used with another request"
    cause = "Your account sent the same request_id with other orders before. Give each request a value of its own."


class BadFile(Refusal):
    """A file has errors. ``errors`` holds the first of them, as pairs of line number and text."""

    message = "{errors}\nNothing was changed."

    def __init__(self, errors: Sequence[tuple[int, str]], count: int) -> None:
        self.errors, self.count = sorted(errors), count
        lines = [f"line {line}: {text}" for line, text in self.errors]
        if count > len(lines):
            lines.append(f"and {count - len(lines):,} more")
        super().__init__(errors="\n".join(lines))
