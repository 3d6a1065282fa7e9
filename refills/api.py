"""The actions refill and refill_status: parse, call, shape."""

from typing import Any

from django.conf import settings
from django.utils import timezone

from notpanel.api.actions import Action, Example
from notpanel.api.answers import Reference, Status, answer_to
from notpanel.api.examples import (
    ANOTHER_REFILLABLE_ORDER,
    NEW_REFILL,
    ORDER,
    REFILL,
    REFILLABLE_ORDER,
    UNKNOWN_ORDER,
    UNKNOWN_REFILL,
)
from notpanel.api.parameters import Either, OneOrMany, Parameter, Parameters
from notpanel.api.schemas import Schema, boolean, integer, or_null, record, rows, text
from notpanel.kit.caller import Caller
from notpanel.kit.refusals import Refusal
from orders.refusals import OrderNotFound
from refills import dashboard
from refills.checking import Verdict, check_orders
from refills.listing import PAGE, ChangedRefill, list_changed
from refills.lookups import FoundRefill, find_latest_refills, find_refills
from refills.refusals import (
    InvalidCursor,
    NoRefillRequested,
    RefillAlreadyPending,
    RefillNotFound,
    UnknownStatus,
)
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
CHECKED_IDS = OneOrMany(
    "order",
    "orders",
    single="Single-order ID",
    batch=". Returns an array — each row says how a request for a refill would be answered.",
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
    shaped = [each if isinstance(each, Refusal) else {"refill": Reference(*each)} for each in outcomes]
    return answer_to(ids, shaped, about="refill")


def refill_status(caller: Caller, parameters: Parameters) -> Any:
    ids = STATUS_IDS.read(parameters)
    if ids.name == ORDER_IDS.one:
        latest = find_latest_refills(caller.account_id, ids.texts)
        return answer_to(
            ids, [each if isinstance(each, Refusal) else _named(each) | _state(each) for each in latest], about="status"
        )
    found = find_refills(caller.account_id, ids.texts)
    return answer_to(ids, [each if isinstance(each, Refusal) else _state(each) for each in found], about="status")


def _named(refill: FoundRefill) -> dict[str, Any]:
    return {"refill": Reference(refill.id, refill.number)}


def _state(refill: FoundRefill | ChangedRefill) -> dict[str, Any]:
    state: dict[str, Any] = {"status": Status(refill.status)}
    if refill.reason:
        state["reason"] = refill.reason
    if refill.delivered is not None:
        state["delivered"] = refill.delivered
    return state


def refill_check(caller: Caller, parameters: Parameters) -> Any:
    ids = CHECKED_IDS.read(parameters)
    verdicts = check_orders(caller.account_id, ids.texts, timezone.now())
    return answer_to(ids, [each if isinstance(each, Refusal) else _verdict(each) for each in verdicts])


def _verdict(verdict: Verdict) -> dict[str, Any]:
    shaped: dict[str, Any] = {"refillable": verdict.refusal is None}
    if verdict.refusal:
        shaped |= {"error": verdict.refusal.text, "code": verdict.refusal.code()}
    shaped |= {
        "used": verdict.used,
        "left": verdict.left,
        "ends_at": verdict.ends_at and int(verdict.ends_at.timestamp()),
    }
    if verdict.in_flight:
        shaped["refill"] = Reference(*verdict.in_flight)
    return shaped


def refill_list(caller: Caller, parameters: Parameters) -> Any:
    cursor, status = parameters.text("cursor"), parameters.text("status")
    if status and status not in RefillStatus.values:
        raise UnknownStatus
    page = list_changed(caller.account_id, [status] if status else RefillStatus.values, cursor)
    return {"refills": [_changed(each) for each in page.refills], "next": str(page.next), "more": page.more}


def _changed(refill: ChangedRefill) -> dict[str, Any]:
    return {
        "refill": Reference(refill.id, refill.number),
        "number": refill.number,
        "order": Reference(refill.order_id, refill.order_number),
        **_state(refill),
        "requested_at": int(refill.requested_at.timestamp()),
        "changed_at": int(refill.changed_at.timestamp()),
    }


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


_REFILL_PATTERN, _ORDER_PATTERN = (f"^{prefix}_[0-9A-HJKMNP-TV-Z]{{26}}$" for prefix in ("ref", "ord"))
REFILL_ID = text("The ID of the refill.", pattern=_REFILL_PATTERN)
ORDER_ID = text("The ID of the order.", pattern=_ORDER_PATTERN)
MADE = record("RequestedRefill", "A refill that was requested.", {"refill": REFILL_ID})
STATUS: dict[str, Schema] = {
    "status": text("The status of the refill.", title="RefillStatus", enum=RefillStatus.values),
}
DETAILS: dict[str, Schema] = {
    "reason": text("Why it was rejected, in the words of the staff."),
    "delivered": integer("How many units were delivered, if it is completed and that is known.", minimum=0),
}
STATE = record("RefillState", "The status of a refill.", STATUS, DETAILS)
CHECKED = record(
    "RefillCheck",
    "How a request for a refill of the order would be answered now.",
    {
        "refillable": boolean("Whether a refill would be accepted."),
        "used": integer("How many refills of the order count towards its limit; rejected ones do not."),
        "left": integer("How many refills are left."),
        "ends_at": or_null(integer("When the refill period ends, in Unix seconds; null: it has no end.")),
    },
    {
        "error": text("Why a refill would be refused, in words."),
        "code": text("The code of that error."),
        "refill": text("The ID of the refill in flight, if there is one.", pattern=_REFILL_PATTERN),
    },
)
LISTED = record(
    "ListedRefill",
    "A refill in the list of changes.",
    {
        "refill": REFILL_ID,
        "number": integer("The number of the refill, which is accepted wherever its ID is."),
        "order": ORDER_ID,
        **STATUS,
        "requested_at": integer("When it was requested, in Unix seconds."),
        "changed_at": integer("When it last changed, in Unix seconds."),
    },
    DETAILS,
)
LATEST = record("LatestRefill", "The latest refill of an order.", {"refill": REFILL_ID, **STATUS}, DETAILS)

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
        schema={"anyOf": [MADE, rows("order", MADE)]},
        handler=refill,
        once=True,
        writes=True,
    ),
    Action(
        name="refill_status",
        title="Refill status",
        summary=(
            "Returns the status of a refill: pending, approved, completed or rejected. "
            "A rejected one has a reason, in the words of the staff; a completed one may have the units delivered. "
            "Asked by order, it finds the order's latest refill, even if its ID was lost with an answer."
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
        schema={"anyOf": [LATEST, STATE, rows("order", LATEST, minItems=1), rows("refill", STATE)]},
        handler=refill_status,
        shown_live=True,
    ),
    Action(
        name="refill_check",
        title="Check a refill",
        summary=(
            "Checks whether a refill would be accepted now, by the same rules as refill, without requesting one. It "
            "also returns how many refills of the order are used and left, when its refill period ends (in Unix "
            "seconds; null: it has no end), and which refill is in flight."
        ),
        ids=CHECKED_IDS,
        refusals=(OrderNotFound,),
        examples=(
            Example(
                "One order",
                {"order": REFILLABLE_ORDER},
                {"refillable": True, "used": 1, "left": 2, "ends_at": 1767225600},
            ),
            Example(
                "Several orders",
                {"orders": f"{ORDER},{UNKNOWN_ORDER}"},
                [
                    {
                        "order": ORDER,
                        "refillable": False,
                        "error": RefillAlreadyPending.message,
                        "code": RefillAlreadyPending.code(),
                        "used": 1,
                        "left": 2,
                        "ends_at": None,
                        "refill": REFILL,
                    },
                    {"order": UNKNOWN_ORDER, "error": OrderNotFound.message},
                ],
            ),
        ),
        schema={"anyOf": [CHECKED, rows("order", CHECKED)]},
        handler=refill_check,
        shown_live=True,
    ),
    Action(
        name="refill_list",
        title="Changed refills",
        summary=(
            f"Lists your refills in the order in which they last changed, {PAGE} a page. Keep next, and send it as "
            "cursor to get what changed since. A refill that changes again comes again; no change is ever skipped. "
            "Times are Unix seconds."
        ),
        own_options=(
            Parameter("status", "string", "Only refills that have this status."),
            Parameter(
                "cursor",
                "string",
                "The next of an earlier answer, to get what changed since. Without it, the list starts anew.",
            ),
        ),
        refusals=(InvalidCursor, UnknownStatus),
        examples=(
            Example(
                "What is completed",
                {"status": "completed"},
                {
                    "refills": [
                        {
                            "refill": REFILL,
                            "number": 1234,
                            "order": ORDER,
                            "status": "completed",
                            "delivered": 650,
                            "requested_at": 1764028800,
                            "changed_at": 1764064800,
                        }
                    ],
                    "next": "6NAnNwAAAAAAAAPoAZPIdXbKd7DXUy6fRVVmBQ",
                    "more": False,
                },
            ),
        ),
        schema=record(
            "RefillListAnswer",
            "A page of the list of changes.",
            {
                "refills": {
                    "type": "array",
                    "description": "The refills, in the order in which they last changed.",
                    "maxItems": PAGE,
                    "items": LISTED,
                },
                "next": text("The cursor of what changes after this page. It is always there: keep it, and poll."),
                "more": boolean("Whether there is more already."),
            },
        ),
        handler=refill_list,
    ),
)
