"""Write answers as the client's program expects them (docs/contract.md, "Answers for other programs").

No rule and no action knows the dialect: they return the types of notpanel/api/answers.py.
"""

from collections.abc import Callable
from typing import Any

from rest_framework.renderers import JSONRenderer

from notpanel.api.answers import Keyed, Outcome, Reference, Rows, Status
from notpanel.api.errors import ApiError, status_of
from notpanel.api.parameters import Integer
from notpanel.kit.public_id import parse
from notpanel.kit.refusals import Refusal
from notpanel.kit.rendered import Rendered
from notpanel.kit.request_facts import count_refused

_RENDERER = JSONRenderer()


class Dialect:
    """Our own: ids, lower-case statuses, and a status of 400 or above for each error."""

    def reference(self, reference: Reference, *, alone: bool) -> Any:
        """Return how an order or a refill is named; ``alone``: in the answer to a single id."""
        return reference.id

    def sent(self, text: str) -> Any:
        """Return how a row repeats the id that the client sent."""
        return int(text) if isinstance(text, Integer) else text

    def status(self, status: Status) -> str:
        return status

    def refused(self, refusal: Refusal) -> dict[str, Any]:
        return {"error": refusal.text}

    def refused_row(self, error: dict[str, Any], about: str) -> dict[str, Any]:
        """Return the members of a refused row, beside the id; ``about`` is the one that it has no value for."""
        return error

    def http_status(self, refusal: Refusal) -> int:
        return status_of(type(refusal))

    # ---- The same in each dialect

    def render(self, answer: Any, *, codes: bool = False) -> Rendered:
        """Return an answer as it is sent. With ``codes``, each refused row has the code of its error."""
        return Rendered(200, "", _RENDERER.render(self.as_data(answer, codes=codes)).decode())

    def render_refusal(self, refusal: Refusal) -> Rendered:
        """Return a refusal as it is sent."""
        body = _RENDERER.render(self.refused(refusal)).decode()
        return Rendered(self.http_status(refusal), refusal.code(), body)

    def render_judged(self, answer: Callable[[], Any], *, codes: bool = False) -> Rendered:
        """Return what ``answer`` returns, or the refusal that it raises, as it is sent.

        Raises a refusal that is no judgement of the request, such as an error about its parameters.
        """
        try:
            return self.render(answer(), codes=codes)
        except Refusal as refusal:
            if isinstance(refusal, ApiError) or status_of(type(refusal)) != 400:
                raise
            return self.render_refusal(refusal)

    def as_data(self, answer: Any, *, codes: bool = False) -> Any:
        """Return an answer as data for JSON."""
        match answer:
            case Rows():
                return [
                    {answer.name: self.sent(sent)} | self._row(outcome, codes, answer.about)
                    for sent, outcome in answer.rows
                ]
            case Keyed():
                return {sent: self._outcome(outcome, codes) for sent, outcome in answer.members.items()}
            case _:
                return self._value(answer, alone=True)

    def _row(self, outcome: Outcome, codes: bool, about: str) -> Any:
        data = self._outcome(outcome, codes)
        return self.refused_row(data, about) if isinstance(outcome, Refusal) and about else data

    def _outcome(self, outcome: Outcome, codes: bool) -> Any:
        if not isinstance(outcome, Refusal):
            return self._value(outcome, alone=False)
        count_refused(outcome.code())
        return self.refused(outcome) | ({"code": outcome.code()} if codes else {})

    def _value(self, value: Any, *, alone: bool) -> Any:
        match value:
            case Reference():
                return self.reference(value, alone=alone)
            case Status():
                return self.status(value)
            case dict():
                return {name: self._value(each, alone=alone) for name, each in value.items()}
            case list():
                return [self._value(each, alone=False) for each in value]
        return value


class PerfectPanel(Dialect):
    """As most panels answer: numbers, statuses in words, errors with status 200."""

    WORDS = {
        # of orders
        "pending": "Pending",
        "processing": "In progress",
        "in_progress": "In progress",
        "completed": "Completed",
        "partial": "Partial",
        "cancelled": "Canceled",
        "refunded": "Canceled",
        # of refills: the others are the same
        "approved": "In progress",
        "rejected": "Rejected",
    }
    TEXTS = {"order_not_found": "Incorrect order ID"}

    def reference(self, reference: Reference, *, alone: bool) -> Any:
        return str(reference.number) if alone else reference.number

    def sent(self, text: str) -> Any:
        number = parse("", text)
        return number if isinstance(number, int) else super().sent(text)

    def status(self, status: Status) -> str:
        return self.WORDS[status]

    def refused(self, refusal: Refusal) -> dict[str, Any]:
        return {"error": self.TEXTS.get(refusal.code(), refusal.text)}

    def refused_row(self, error: dict[str, Any], about: str) -> dict[str, Any]:
        return {about: error}

    def http_status(self, refusal: Refusal) -> int:
        status = super().http_status(refusal)
        return status if status in (401, 403, 429) or status >= 500 else 200


NOTPANEL = Dialect()
# By the names that keys store (``apikeys.models.ApiKey.Answers``).
DIALECTS: dict[str, Dialect] = {"notpanel": NOTPANEL, "perfectpanel": PerfectPanel()}
