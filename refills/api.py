"""The actions refill and refill_status: parse, call, shape."""

from typing import Any

from django.conf import settings
from django.utils import timezone

from notpanel.api.actions import Action, Example
from notpanel.api.answers import answer_to
from notpanel.api.examples import (
    ANOTHER_REFILLABLE_ORDER,
    NEW_REFILL,
    ORDER,
    REFILL,
    REFILLABLE_ORDER,
    UNKNOWN_ORDER,
    UNKNOWN_REFILL,
)
from notpanel.api.parameters import OneOrMany, Parameters
from notpanel.api.schemas import REFUSED, record, row
from notpanel.kit.caller import Caller
from notpanel.kit.refusals import Refusal
from orders.refusals import OrderNotFound
from refills import dashboard
from refills.lookups import FoundRefill, find_refills
from refills.refusals import RefillNotFound
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


def refill(caller: Caller, parameters: Parameters) -> Any:
    ids = ORDER_IDS.read(parameters)
    outcomes = request_refills(caller.account_id, ids.texts, api_key_id=caller.api_key_id)
    shaped = [outcome if isinstance(outcome, Refusal) else {"refill": outcome} for outcome in outcomes]
    return answer_to(ids, "order", shaped)


def refill_status(caller: Caller, parameters: Parameters) -> Any:
    ids = REFILL_IDS.read(parameters)
    found = find_refills(caller.account_id, ids.texts)
    return answer_to(ids, "refill", [_state(refill) if refill else RefillNotFound() for refill in found])


def _state(refill: FoundRefill) -> dict[str, str]:
    return {"status": refill.status} | ({"reason": refill.reason} if refill.reason else {})


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
            "A rejected one has a reason, in the words of the staff."
        ),
        ids=REFILL_IDS,
        refusals=(RefillNotFound,),
        examples=(
            Example("One refill", {"refill": REFILL}, {"status": "pending"}),
            Example(
                "Several refills",
                {"refills": f"{REFILL},{UNKNOWN_REFILL}"},
                [{"refill": REFILL, "status": "pending"}, {"refill": UNKNOWN_REFILL, "error": RefillNotFound.message}],
            ),
        ),
        schema={
            "oneOf": [STATE, {"type": "array", "items": {"oneOf": [row("refill", STATE), row("refill", REFUSED)]}}]
        },
        handler=refill_status,
        shown_live=True,
    ),
)
