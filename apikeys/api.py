"""The action balance: parse, call, shape."""

from typing import Any

from apikeys.lookups import find_balance
from notpanel.api.actions import Action, Example
from notpanel.api.parameters import Parameters
from notpanel.api.schemas import or_null, record, text
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
            "BalanceAnswer",
            "The balance of your account.",
            {
                "balance": or_null(text("The balance; null: the books had none.", pattern=r"^-?[0-9]+\.[0-9]{2,5}$")),
                "currency": text("The currency of the balance, as in ISO 4217.", pattern="^[A-Z]{3}$"),
            },
        ),
        handler=balance,
        counted=False,
    ),
)
