"""The action balance: parse, call, shape."""

from typing import Any

from apikeys.lookups import find_balance
from notpanel.api.actions import Action, Example
from notpanel.api.parameters import Parameters
from notpanel.api.schemas import record
from notpanel.kit.caller import Caller
from notpanel.kit.money import money


def balance(caller: Caller, parameters: Parameters) -> Any:
    amount, currency = find_balance(caller.account_id)
    return {"balance": None if amount is None else money(amount), "currency": currency}


ACTIONS = (
    Action(
        name="balance",
        title="Balance",
        summary=(
            "Tells the balance of your account, as the panel's books had it at their last import; null: they had none. "
            "It counts towards the limit of the address alone, so it is the request to try a key with."
        ),
        examples=(Example("The balance", {}, {"balance": "47.32", "currency": "USD"}),),
        schema=record(
            {
                "balance": {"type": ["string", "null"], "pattern": r"^-?[0-9]+\.[0-9]{2,5}$"},
                "currency": {"type": "string", "pattern": "^[A-Z]{3}$"},
            }
        ),
        handler=balance,
        counted=False,
    ),
)
