"""The actions refill and refill_status: parse, call, shape."""

from typing import Any

from notpanel.api.actions import LARGEST_BATCH, Action, Caller, Parameter, Parameters
from notpanel.api.errors import ApiError, BothGiven, MissingParameter, TooMany
from notpanel.public_id import parse
from refills.errors import REFUSALS, RefillNotFound
from refills.models import Refill
from refills.requests import request_refills


def refill(caller: Caller, parameters: Parameters) -> Any:
    one, many = parameters.one_or_many("order", "orders")
    outcomes = request_refills(caller.account_id, [one] if one else many, api_key_id=caller.api_key_id)
    if not one:
        return [{"order": text} | _shape(outcome) for text, outcome in zip(many, outcomes, strict=True)]
    [outcome] = outcomes
    if isinstance(outcome, ApiError):
        raise outcome
    return _shape(outcome)


def _shape(outcome: Refill | ApiError) -> dict[str, str]:
    return {"error": outcome.text} if isinstance(outcome, ApiError) else {"refill": outcome.id}


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


ACTIONS = (
    Action(
        name="refill",
        title="Request refill",
        summary=(
            "Creates a refill request against a completed or partial order. Refills are subject to a per-order cap "
            "(3 by default) and a single in-flight constraint — only one pending refill per order at a time."
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
        example={"order": "ord_01HG9X7KJP4NV8QZ2M6T3W5YBC"},
        response={"refill": "ref_01HG9XAZQM7C2V4K8R5T1W9YDE"},
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
        example={"refill": "ref_01HG9XAZQM7C2V4K8R5T1W9YDE"},
        response={"status": "pending"},
        handler=refill_status,
    ),
)
