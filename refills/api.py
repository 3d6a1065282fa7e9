"""The actions refill and refill_status: parse, call, shape."""

from typing import Any

from django.conf import settings
from django.utils import timezone

from notpanel.api.actions import Action, Example
from notpanel.api.answers import Reference, answer_to
from notpanel.api.examples import (
    ANOTHER_REFILLABLE_ORDER,
    NEW_REFILL,
    ORDER,
    REFILL,
    REFILLABLE_ORDER,
    UNKNOWN_ORDER,
    UNKNOWN_REFILL,
)
from notpanel.api.parameters import Either, OneOrMany, Parameters
from notpanel.api.schemas import REFUSED, Schema, record, row
from notpanel.kit.caller import Caller
from notpanel.kit.refusals import Refusal
from orders.refusals import OrderNotFound
from refills import dashboard
from refills.lookups import FoundRefill, find_latest_refills, find_refills
from refills.refusals import NoRefillRequested, RefillNotFound
from refills.requesting import request_refills
from refills.rules import REFUSALS
from refills.statuses import RefillStatus

ORDER_IDS = OneOrMany(
    "order",
    "orders",
    single="Single-order ID",
    batch=" for batch refill. Returns an array — each row carries either a refill ID or a per-order error.",
)
REFILL_IDS = OneOrMany(
    "refill",
    "refills",
    single="Single refill ID",
    batch=". Returns an array — each row carries either a status or an error.",
)
STATUS_IDS = Either(
    REFILL_IDS,
    OneOrMany(
        "order",
        "orders",
        single="Single-order ID: the status of its latest refill, with its ID",
        batch=". Returns an array — each row carries the order’s latest refill or an error.",
    ),
)


def refill(caller: Caller, parameters: Parameters) -> Any:
    ids = ORDER_IDS.read(parameters)
    outcomes = request_refills(caller.account_id, ids.texts, api_key_id=caller.api_key_id)
    shaped = [outcome if isinstance(outcome, Refusal) else {"refill": outcome} for outcome in outcomes]
    return answer_to(ids, shaped)


def refill_status(caller: Caller, parameters: Parameters) -> Any:
    ids = STATUS_IDS.read(parameters)
    if ids.name == ORDER_IDS.one:
        latest = find_latest_refills(caller.account_id, ids.texts)
        return answer_to(ids, [each if isinstance(each, Refusal) else _named(each) | _state(each) for each in latest])
    found = find_refills(caller.account_id, ids.texts)
    return answer_to(ids, [each if isinstance(each, Refusal) else _state(each) for each in found])


def _named(refill: FoundRefill) -> dict[str, Any]:
    return {"refill": Reference(refill.id, refill.number)}


def _state(refill: FoundRefill) -> dict[str, Any]:
    state: dict[str, Any] = {"status": refill.status}
    if refill.reason:
        state["reason"] = refill.reason
    if refill.delivered is not None:
        state["delivered"] = refill.delivered
    return state


def own_ids(account_id: int) -> dict[str, str]:
    """Return the account's own ids, keyed by the ids of the examples that they replace.

    An account with a single refillable order sees it in both examples.
    """
    own = dashboard.own_ids(account_id, timezone.now())
    replacements = {ORDER: own.order, REFILL: own.refill}
    if own.refillable:
        first, second = (own.refillable * 2)[:2]
        replacements |= {REFILLABLE_ORDER: first, ANOTHER_REFILLABLE_ORDER: second}
    return {example: own_id for example, own_id in replacements.items() if own_id}


REFILL_ID: Schema = {"type": "string", "pattern": "^ref_[0-9A-HJKMNP-TV-Z]{26}$"}
MADE = record({"refill": REFILL_ID})
STATUS: dict[str, Schema] = {"status": {"type": "string", "enum": RefillStatus.values}}
DETAILS: dict[str, Schema] = {"reason": {"type": "string"}, "delivered": {"type": "integer", "minimum": 0}}
STATE = record(STATUS, DETAILS)
LATEST = record({"refill": REFILL_ID, **STATUS}, DETAILS)

ACTIONS = (
    Action(
        name="refill",
        title="Request refill",
        summary=(
            "Creates a refill request against a completed or partial order. Refills are subject to a per-order cap "
            f"({settings.REFILL_LIMIT} by default) and a single in-flight constraint — only one pending refill per "
            "order at a time."
        ),
        ids=ORDER_IDS,
        refusals=REFUSALS,
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
        schema={"oneOf": [MADE, {"type": "array", "items": {"oneOf": [row("order", MADE), row("order", REFUSED)]}}]},
        handler=refill,
    ),
    Action(
        name="refill_status",
        title="Refill status",
        summary=(
            "Tells where a refill is: pending, approved, completed or rejected. "
            "A rejected one has a reason, in the words of the staff; a completed one may have the units delivered. "
            "Asked by order, it finds the order's latest refill, so that an answer that was lost can be found."
        ),
        ids=STATUS_IDS,
        refusals=(RefillNotFound, OrderNotFound, NoRefillRequested),
        examples=(
            Example("One refill", {"refill": REFILL}, {"status": "pending"}),
            Example(
                "Several refills",
                {"refills": f"{REFILL},{UNKNOWN_REFILL}"},
                [{"refill": REFILL, "status": "pending"}, {"refill": UNKNOWN_REFILL, "error": RefillNotFound.message}],
            ),
            Example("The latest refill of an order", {"order": ORDER}, {"refill": REFILL, "status": "pending"}),
        ),
        schema={
            "oneOf": [
                STATE,
                LATEST,
                {"type": "array", "items": {"oneOf": [row("refill", STATE), row("refill", REFUSED)]}},
                {"type": "array", "minItems": 1, "items": {"oneOf": [row("order", LATEST), row("order", REFUSED)]}},
            ]
        },
        handler=refill_status,
        shown_live=True,
    ),
)
