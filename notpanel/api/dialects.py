"""Write answers as the client's program expects them (docs/contract.md, "Answers for other programs")."""

from typing import Any

from notpanel.api.answers import Keyed, Outcome, Reference, Rows
from notpanel.kit.refusals import Refusal


def as_json(answer: Any, *, codes: bool = False) -> Any:
    """Return an answer as data for JSON. With ``codes``, each refused row has the code of its error."""
    match answer:
        case Rows():
            return [{answer.name: sent} | _row(outcome, codes) for sent, outcome in answer.rows]
        case Keyed():
            return {sent: _row(outcome, codes) for sent, outcome in answer.members.items()}
        case _:
            return _value(answer)


def _row(outcome: Outcome, codes: bool) -> Any:
    if not isinstance(outcome, Refusal):
        return _value(outcome)
    return {"error": outcome.text} | ({"code": outcome.code()} if codes else {})


def _value(value: Any) -> Any:
    match value:
        case Reference():
            return value.id
        case dict():
            return {name: _value(each) for name, each in value.items()}
        case list():
            return [_value(each) for each in value]
    return value
