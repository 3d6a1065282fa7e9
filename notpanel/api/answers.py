"""What actions answer. notpanel/api/dialects.py alone knows how it is written."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from notpanel.api.parameters import Ids
from notpanel.kit.refusals import Refusal

# What a single request is answered, or why it is refused.
Outcome = Mapping[str, Any] | Refusal


@dataclass(frozen=True)
class Reference:
    """An order or a refill in an answer."""

    id: str
    number: int


@dataclass(frozen=True)
class Rows:
    """The answer to a list of ids: a row for each, in the order sent. ``name`` is the member with the id as sent."""

    name: str
    rows: Sequence[tuple[str, Outcome]]


@dataclass(frozen=True)
class Keyed:
    """The answer to a list of ids as an object, keyed by the ids as sent."""

    members: Mapping[str, Outcome]


def answer_to(ids: Ids, outcomes: Sequence[Outcome]) -> Rows | Mapping[str, Any]:
    """Return the answer to a request for ``ids``: rows for a list. Raises the refusal of a single id."""
    return Rows(ids.name, list(zip(ids.texts, outcomes, strict=True))) if ids.is_batch else answer_to_one(outcomes)


def answer_to_one(outcomes: Iterable[Outcome]) -> Mapping[str, Any]:
    """Return the one outcome, or raise it if it is a refusal."""
    [outcome] = outcomes
    if isinstance(outcome, Refusal):
        raise outcome
    return outcome
