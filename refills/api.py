"""The actions refill and refill_status: parse, call, shape."""

from typing import Any

from django.conf import settings

from notpanel.api.actions import LARGEST_BATCH, Action, Caller, Example, Parameter, Parameters
from notpanel.api.errors import ApiError, BothGiven, MissingParameter, TooMany
from notpanel.api.examples import (
    ANOTHER_REFILLABLE_ORDER,
    NEW_REFILL,
    REFILL,
    REFILLABLE_ORDER,
    UNKNOWN_ORDER,
    UNKNOWN_REFILL,
)
from notpanel.api.schemas import ERROR, record, row
from notpanel.kit.public_id import parse
from orders.refusals import OrderNotFound
from refills.models import Refill, RefillStatus
from refills.refusals import REFUSALS, RefillNotFound
from refills.requesting import request_refills


def refill(caller: Caller, parameters: Parameters) -> Any:
    one, many = parameters.one_or_many("order", "orders")
    outcomes = request_refills(caller.account_id, [one] if one else many, api_key_id=caller.api_key_id)
    if not one:
        return [{"order": text} | _shape(outcome) for text, outcome in zip(many, outcomes, strict=True)]
    [outcome] = outcomes
    if isinstance(outcome, ApiError):
        raise outcome
    return _shape(outcome)


def _shape(outcome: str | ApiError) -> dict[str, str]:
    return {"error": outcome.text} if isinstance(outcome, ApiError) else {"refill": outcome}


def refill_status(caller: Caller, parameters: Parameters) -> Any:
    one, many = parameters.one_or_many("refill", "refills")
    references = [parse("ref", text) for text in ([one] if one else many)]
    rows: dict[str | int | None, dict[str, str]] = {}
    found = Refill.objects.filter(account=caller.account_id).named(references)
    for pk, number, status, reason in found.values_list("id", "number", "status", "reason__text"):
        rows[pk] = rows[number] = {"status": status} | ({"reason": reason} if reason else {})
    if one:
        if references[0] not in rows:
            raise RefillNotFound
        return rows[references[0]]
    not_found = {"error": RefillNotFound.message}
    return [{"refill": text} | rows.get(reference, not_found) for text, reference in zip(many, references, strict=True)]


MADE = record({"refill": {"type": "string", "pattern": "^ref_[0-9A-HJKMNP-TV-Z]{26}$"}})
STATE = record({"status": {"type": "string", "enum": RefillStatus.values}}, {"reason": {"type": "string"}})

ACTIONS = (
    Action(
        name="refill",
        title="Request refill",
        summary=(
            "Creates a refill request against a completed or partial order. Refills are subject to a per-order cap "
            f"({settings.REFILL_LIMIT} by default) and a single in-flight constraint — only one pending refill per "
            "order at a time."
        ),
        parameters=(
            Parameter("order", "string", "Single-order ID. Either order or orders is required, not both."),
            Parameter(
                "orders",
                "string (CSV)",
                f"Up to {LARGEST_BATCH} comma-separated order IDs for batch refill. Returns an array — each row "
                "carries either a refill ID or a per-order error.",
            ),
        ),
        errors=(*REFUSALS, MissingParameter, BothGiven, TooMany),
        examples=(
            Example("One order", {"order": REFILLABLE_ORDER}, {"refill": NEW_REFILL}),
            Example(
                "Several orders",
                {"orders": f"{ANOTHER_REFILLABLE_ORDER},{UNKNOWN_ORDER}"},
                [
                    {"order": ANOTHER_REFILLABLE_ORDER, "refill": NEW_REFILL},
                    {"order": UNKNOWN_ORDER, "error": OrderNotFound.message},
                ],
            ),
        ),
        schema={"oneOf": [MADE, {"type": "array", "items": {"oneOf": [row("order", MADE), row("order", ERROR)]}}]},
        handler=refill,
    ),
    Action(
        name="refill_status",
        title="Refill status",
        summary=(
            "Tells where a refill is: pending, approved, completed or rejected. "
            "A rejected one may have a reason, in the words of the staff."
        ),
        parameters=(
            Parameter("refill", "string", "Single refill ID. Either refill or refills is required, not both."),
            Parameter(
                "refills",
                "string (CSV)",
                f"Up to {LARGEST_BATCH} comma-separated refill IDs. Returns an array — each row "
                "carries either a status or an error.",
            ),
        ),
        errors=(RefillNotFound, MissingParameter, BothGiven, TooMany),
        examples=(
            Example("One refill", {"refill": REFILL}, {"status": "pending"}),
            Example(
                "Several refills",
                {"refills": f"{REFILL},{UNKNOWN_REFILL}"},
                [{"refill": REFILL, "status": "pending"}, {"refill": UNKNOWN_REFILL, "error": RefillNotFound.message}],
            ),
        ),
        schema={"oneOf": [STATE, {"type": "array", "items": {"oneOf": [row("refill", STATE), row("refill", ERROR)]}}]},
        handler=refill_status,
        shown_live=True,
    ),
)
