"""Refusals: why something is not done. Doors turn them into answers; nothing here knows HTTP."""

import re
from typing import ClassVar


class Refusal(Exception):
    """Refuse what was asked for, and tell who asked why.

    A subclass has ``message``, the literal text, with its figures in braces; they are given by keyword when it is
    raised. Where clients of the API meet it, it also has ``cause``, a sentence for their programmers, and
    ``example``, the figures that the documentation shows.
    """

    message: ClassVar[str]
    cause: ClassVar[str] = ""
    example: ClassVar[dict[str, object]] = {}

    def __init__(self, **figures: object) -> None:
        self.text = self.message.format(**figures)
        super().__init__(self.text)

    @classmethod
    def code(cls) -> str:
        """Return its name for programs, in snake case: ``order_not_found``."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()

    @classmethod
    def example_text(cls, **figures: object) -> str:
        """Return the text as the documentation shows it, with ``figures`` in place of those of the example."""
        return cls.message.format(**{**cls.example, **figures})


class ServiceUnavailable(Refusal):
    message = "Service temporarily unavailable"
    cause = "The database or a lock was not available within the time limit. Nothing was changed: try again."
