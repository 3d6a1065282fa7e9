"""Find refills for customers' programs."""

from collections.abc import Sequence
from typing import NamedTuple

from notpanel.kit.public_id import parse
from refills.models import Refill


class FoundRefill(NamedTuple):
    """What the API tells a program about a refill."""

    id: str
    number: int
    status: str
    reason: str  # why it was rejected, in the words for the customer; empty: it was not


def find_refills(account_id: int, ids: Sequence[str]) -> list[FoundRefill | None]:
    """Return, for each of ``ids`` (ids or numbers, as a client sent them), the account's refill or None.

    One statement.
    """
    references = [parse("ref", text) for text in ids]
    found: dict[str | int | None, FoundRefill] = {}
    rows = Refill.objects.filter(account=account_id).named(references)
    for row in rows.values_list("id", "number", "status", "reason_text"):
        refill = FoundRefill(*row)
        found[refill.id] = found[refill.number] = refill
    return [found.get(reference) for reference in references]
