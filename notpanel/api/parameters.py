"""Reading the parameters of a request (docs/contract.md, "Parameters")."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from notpanel.api.errors import BothGiven, MalformedBody, MissingParameter, TooMany
from notpanel.kit.refusals import Refusal

LARGEST_BATCH = 100  # ids in one request


class Parameters:
    """The parameters of a request as the contract reads them: every scalar is text, however it was sent."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self._body = body

    def text(self, name: str) -> str:
        """Return the parameter without surrounding blanks, "" if it is missing.

        Raises MalformedBody unless it is a scalar.
        """
        value = self._body.get(name)
        return "" if value is None else _as_text(value)

    def required(self, name: str) -> str:
        """Return the parameter. Raises MissingParameter if it is missing or empty."""
        if text := self.text(name):
            return text
        raise MissingParameter(name=name)

    def texts(self, name: str) -> list[str]:
        """Return the items of a CSV or, in JSON, of a list, without surrounding blanks and without empty items."""
        value = self._body.get(name)
        items = value if isinstance(value, list) else self.text(name).split(",")
        return [text for item in items if item is not None and (text := _as_text(item))]

    def __contains__(self, name: str) -> bool:
        """Return whether the parameter was sent, empty or not."""
        return self._body.get(name) is not None


def _as_text(value: object) -> str:
    match value:
        case str():
            return value.strip()
        case bool():  # as JSON writes it
            return str(value).lower()
        case int() | float():
            return str(value)
    raise MalformedBody


@dataclass(frozen=True)
class Parameter:
    """A parameter as the documentation shows it."""

    name: str
    type: str  # "string", "string (CSV)"
    description: str


@dataclass(frozen=True)
class Ids:
    """The ids of a request, as they were sent."""

    texts: list[str]
    is_batch: bool


@dataclass(frozen=True)
class OneOrMany:
    """Two parameters, of which a request has one: a single id (``one``) or up to LARGEST_BATCH of them (``many``).

    ``single`` and ``batch`` are what their descriptions say besides their names: how one id is called, and what a
    batch returns.
    """

    one: str
    many: str
    single: str
    batch: str

    errors: ClassVar[tuple[type[Refusal], ...]] = (MissingParameter, BothGiven, TooMany)

    @property
    def parameters(self) -> tuple[Parameter, Parameter]:
        """Return both as the documentation shows them."""
        return (
            Parameter(self.one, "string", f"{self.single}. Either {self.one} or {self.many} is required, not both."),
            Parameter(self.many, "string (CSV)", f"Up to {LARGEST_BATCH} comma-separated {self.one} IDs{self.batch}"),
        )

    def read(self, parameters: Parameters) -> Ids:
        """Return the ids of a request. Raises BothGiven, MissingParameter or TooMany."""
        ids, single = parameters.texts(self.many), parameters.text(self.one)
        if single and ids:
            raise BothGiven(one=self.one, many=self.many)
        if single:
            return Ids([single], is_batch=False)
        if not ids:
            raise MissingParameter(name=self.many if self.many in parameters else self.one)
        if len(ids) > LARGEST_BATCH:
            raise TooMany(many=self.many, limit=LARGEST_BATCH)
        return Ids(ids, is_batch=True)

    def text_of(self, error: type[Refusal]) -> str:
        """Return the text of an error as the documentation shows it: with the names of these parameters."""
        return error.example_text(name=self.one, one=self.one, many=self.many)
