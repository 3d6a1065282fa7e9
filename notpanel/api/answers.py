"""What actions return. Only notpanel/api/dialects.py knows how it is written."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from notpanel.api.parameters import Ids
from notpanel.kit.refusals import Refusal

# The answer to a request for a single id, or its refusal.
Outcome = Mapping[str, Any] | Refusal


class Status(str):
    """The status of an order or a refill in an answer."""


@dataclass(frozen=True)
class Reference:
    """An order or a refill in an answer."""

    id: str
    number: int


@dataclass(frozen=True)
class Rows:
    """The answer to a list of ids: a row for each, in the order sent. ``name`` is the member with the id as sent.

    ``about`` is the member that was asked for, in which other panels put the error of a refused row; empty: they do not
    have the action.
    """

    name: str
    rows: Sequence[tuple[str, Outcome]]
    about: str


@dataclass(frozen=True)
class Keyed:
    """The answer to a list of ids as an object, keyed by the ids as sent."""

    members: Mapping[str, Outcome]


def answer_to(ids: Ids, outcomes: Sequence[Outcome], *, about: str = "") -> Rows | Mapping[str, Any]:
    """Return the answer to a request for ``ids``: Rows for a list. Raises the refusal of a single id."""
    if ids.is_batch:
        return Rows(ids.name, list(zip(ids.texts, outcomes, strict=True)), about)
    return answer_to_one(outcomes)


def answer_to_one(outcomes: Iterable[Outcome]) -> Mapping[str, Any]:
    """Return the one outcome, or raise it if it is a refusal."""
    [outcome] = outcomes
    if isinstance(outcome, Refusal):
        raise outcome
    return outcome
