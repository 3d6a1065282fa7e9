"""The actions status and services: parse, call, shape."""

from typing import Any
from uuid import UUID

from notpanel.api.actions import Action, Example
from notpanel.api.answers import Keyed, Outcome, Status, answer_to_one
from notpanel.api.examples import ORDER, UNKNOWN_ORDER
from notpanel.api.parameters import OneOrMany, Parameters
from notpanel.api.prepared import Prepared, prepare
from notpanel.api.schemas import REFUSED, boolean, integer, or_null, record, text
from notpanel.kit.caller import Caller
from notpanel.kit.money import money
from notpanel.kit.replica import reads_may_lag
from orders.lookups import active_services, catalogue_version, find_orders
from orders.models import Order, OrderStatus, refill_cap
from orders.refusals import OrderNotFound

ORDER_IDS = OneOrMany(
    "order", "orders", single="Single-order ID", batch=". Returns an object keyed by the IDs as sent."
)


@reads_may_lag
def status(caller: Caller, parameters: Parameters) -> Any:
    ids = ORDER_IDS.read(parameters)
    orders = find_orders(caller.account_id, ids.texts)
    states: dict[str, Outcome] = {text: _state(order) if order else OrderNotFound() for text, order in orders.items()}
    return Keyed(states) if ids.is_batch else answer_to_one(states.values())


def _state(order: Order) -> dict[str, str | None]:
    return {
        "status": Status(order.status),
        "charge": money(order.charge),
        "start_count": _text(order.start_count),
        "remains": _text(order.remains),
        "currency": order.currency,
    }


_last: tuple[UUID, Prepared] | None = None  # the version of the catalogue that this process prepared last


@reads_may_lag
def services(caller: Caller, parameters: Parameters) -> Prepared:
    global _last
    # The version comes first: what is read after it belongs to this version or to a later one, never to an earlier one.
    version = catalogue_version()
    if _last and _last[0] == version:
        return _last[1]
    prepared = prepare(_active_services())
    if version:
        _last = version, prepared
    return prepared


def _active_services() -> list[dict[str, Any]]:
    return [
        {
            "service": service.id,
            "name": service.name,
            "type": service.type,
            "category": service.category,
            "rate": money(service.rate),
            "min": str(service.min),
            "max": str(service.max),
            "refill": service.refill,
            "cancel": service.cancel,
            "dripfeed": False,  # orders are made elsewhere; clients expect the member
            "refill_days": service.refill_days,
            "refill_limit": refill_cap(service.refill_limit),
        }
        for service in active_services()
    ]


def _text(count: int | None) -> str | None:
    return None if count is None else str(count)


IN_PROGRESS = {"status": "in_progress", "charge": "0.50", "start_count": "1234", "remains": "650", "currency": "USD"}

_AMOUNT, _COUNT = r"^[0-9]+\.[0-9]{2,5}$", "^[0-9]+$"
STATE = record(
    "OrderState",
    "The status of an order, what it cost and what remains of it.",
    {
        "status": text("The status of the order.", title="OrderStatus", enum=OrderStatus.values),
        "charge": text("What the order cost.", pattern=_AMOUNT),
        "start_count": or_null(text("The count before the order; null: not known yet.", pattern=_COUNT)),
        "remains": or_null(text("How many units are still to be delivered; null: not known yet.", pattern=_COUNT)),
        "currency": text("The currency of the charge, as in ISO 4217.", pattern="^[A-Z]{3}$"),
    },
)
SERVICE = record(
    "Service",
    "A service that can be ordered.",
    {
        "service": integer("The ID of the service."),
        "name": text("The name of the service."),
        "type": text("The type of the service, such as Default."),
        "category": text("The category of the service."),
        "rate": text("The price of 1000 units.", pattern=_AMOUNT),
        "min": text("The smallest quantity of an order.", pattern=_COUNT),
        "max": text("The largest quantity of an order.", pattern=_COUNT),
        "refill": boolean("Whether its orders can be refilled."),
        "cancel": boolean("Whether its orders can be cancelled."),
        "dripfeed": boolean("Whether its orders can be delivered in portions; always false here."),
        "refill_days": or_null(
            integer("How many days after its completion an order may be refilled; null: there is no end.")
        ),
        "refill_limit": integer("How many refills an order may have."),
    },
)

ACTIONS = (
    Action(
        name="status",
        title="Order status",
        summary="Returns the status of an order, what it cost and what remains of it.",
        ids=ORDER_IDS,
        refusals=(OrderNotFound,),
        examples=(
            Example("One order", {"order": ORDER}, IN_PROGRESS),
            Example(
                "Several orders",
                {"orders": f"{ORDER},{UNKNOWN_ORDER}"},
                {ORDER: IN_PROGRESS, UNKNOWN_ORDER: {"error": OrderNotFound.message}},
            ),
        ),
        schema={
            "anyOf": [
                STATE,
                {
                    "title": "OrderStates",
                    "description": "The orders of a batch, keyed by the IDs as you sent them.",
                    "type": "object",
                    "additionalProperties": {"anyOf": [STATE, REFUSED]},
                },
            ]
        },
        handler=status,
        shown_live=True,
    ),
    Action(
        name="services",
        title="Services",
        summary="Lists the services that can be ordered. The rate is the price of 1000 units; "
        "refill_days is how long after its completion an order may be refilled (null: no end), refill_limit how often.",
        examples=(
            Example(
                "All services",
                {},
                [
                    {
                        "service": 1,
                        "name": "Followers, refilled for 30 days",
                        "type": "Default",
                        "category": "Followers",
                        "rate": "0.90",
                        "min": "50",
                        "max": "10000",
                        "refill": True,
                        "cancel": False,
                        "dripfeed": False,
                        "refill_days": 30,
                        "refill_limit": 3,
                    }
                ],
            ),
        ),
        schema={"type": "array", "items": SERVICE},
        handler=services,
        prepared=True,
    ),
)
