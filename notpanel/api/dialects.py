"""Write answers as the client's program expects them (docs/contract.md, "Answers for other programs")."""

from collections.abc import Callable
from typing import Any

from rest_framework.renderers import JSONRenderer

from notpanel.api.answers import Keyed, Outcome, Reference, Rows
from notpanel.api.errors import ApiError, status_of
from notpanel.kit.refusals import Refusal
from notpanel.kit.rendered import Rendered

_RENDERER = JSONRenderer()


def render(answer: Any, *, codes: bool = False) -> Rendered:
    """Return an answer as it is sent. With ``codes``, each refused row has the code of its error."""
    return Rendered(200, "", _RENDERER.render(as_json(answer, codes=codes)).decode())


def render_refusal(refusal: Refusal) -> Rendered:
    """Return a refusal as it is sent."""
    return Rendered(status_of(type(refusal)), refusal.code(), _RENDERER.render({"error": refusal.text}).decode())


def render_kept(answer: Callable[[], Any], *, codes: bool = False) -> Rendered:
    """Return what ``answer`` returns as it is sent, or the refusal that it raises, if it is one that a rule gave.

    Raises any other: what was not judged is not kept.
    """
    try:
        return render(answer(), codes=codes)
    except Refusal as refusal:
        if isinstance(refusal, ApiError) or status_of(type(refusal)) != 400:
            raise
        return render_refusal(refusal)


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
