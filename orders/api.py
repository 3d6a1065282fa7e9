"""The actions status and services: parse, read, shape."""

from typing import Any

from notpanel.api.actions import LARGEST_BATCH, Action, Caller, Parameter, Parameters
from notpanel.api.errors import BothGiven, MissingParameter, TooMany
from notpanel.public_id import parse
from orders.errors import OrderNotFound
from orders.models import Order, Service, money


def status(caller: Caller, parameters: Parameters) -> Any:
    one, many = parameters.one_or_many("order", "orders")
    references = {text: parse("ord", text) for text in ([one] if one else many)}
    rows: dict[str | int | None, dict[str, str | None]] = {}
    for order in Order.objects.filter(account=caller.account_id).named(references.values()):
        rows[order.id] = rows[order.number] = {
            "status": order.status,
            "charge": money(order.charge),
            "start_count": _text(order.start_count),
            "remains": _text(order.remains),
            "currency": order.currency,
        }
    if one:
        if row := rows.get(references[one]):
            return row
        raise OrderNotFound
    not_found: dict[str, str | None] = {"error": OrderNotFound.message}
    return {text: rows.get(reference, not_found) for text, reference in references.items()}


def services(caller: Caller, parameters: Parameters) -> Any:
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
        }
        for service in Service.objects.filter(active=True)
    ]


def _text(count: int | None) -> str | None:
    return None if count is None else str(count)


ACTIONS = (
    Action(
        name="status",
        title="Order status",
        summary="Tells where an order is, what it cost and what remains of it.",
        parameters=(
            Parameter("order", "string", "Single-order ID. Either order or orders is required, not both."),
            Parameter(
                "orders",
                "string (CSV)",
                f"Up to {LARGEST_BATCH} comma-separated order IDs. Returns an object keyed by the IDs as sent.",
            ),
        ),
        errors=(OrderNotFound, MissingParameter, BothGiven, TooMany),
        example={"order": "ord_01HG9X7KJP4NV8QZ2M6T3W5YBC"},
        response={
            "status": "in_progress",
            "charge": "0.50",
            "start_count": "1234",
            "remains": "650",
            "currency": "USD",
        },
        handler=status,
    ),
    Action(
        name="services",
        title="Services",
        summary="Lists the services that can be ordered. The rate is the price of 1000 units.",
        parameters=(),
        errors=(),
        example={},
        response=[
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
            }
        ],
        handler=services,
    ),
)
