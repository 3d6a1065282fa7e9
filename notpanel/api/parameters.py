"""Read the parameters of a request (docs/contract.md, "One id or a list")."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from notpanel.api.errors import BothGiven, MalformedBody, MissingParameter, TooMany
from notpanel.kit.refusals import Refusal

LARGEST_BATCH = 100  # ids in one request


class Parameters:
    """The parameters of a request. Every scalar is read as text, whatever type JSON gave it."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self._body = body

    def text(self, name: str) -> str:
        """Return the parameter without surrounding blanks, or "" if it is missing.

        Raises MalformedBody if it is not a scalar.
        """
        value = self._body.get(name)
        return "" if value is None else _as_text(value)

    def required(self, name: str) -> str:
        """Return the parameter. Raises MissingParameter if it is missing or empty."""
        if text := self.text(name):
            return text
        raise MissingParameter(name=name)

    def texts(self, name: str) -> list[str]:
        """Return the items of a CSV or of a JSON list, without surrounding blanks and without empty items.

        Raises MalformedBody if an item is not a scalar.
        """
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
        case bool():  # true and false, as JSON writes them
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
    """The ids in a request, as the client wrote them."""

    texts: list[str]
    is_batch: bool


@dataclass(frozen=True)
class OneOrMany:
    """Two parameters for ids: a single id (``one``), or up to LARGEST_BATCH ids (``many``). A request has one of them.

    Their descriptions are built from their names, from ``single``, which names a single id, and from ``batch``, which
    says what a batch returns.
    """

    one: str
    many: str
    single: str
    batch: str

    errors: ClassVar[tuple[type[Refusal], ...]] = (MissingParameter, BothGiven, TooMany)

    @property
    def parameters(self) -> tuple[Parameter, Parameter]:
        """Return the two parameters as the documentation shows them."""
        return (
            Parameter(self.one, "string", f"{self.single}. Either {self.one} or {self.many} is required, not both."),
            Parameter(self.many, "string (CSV)", f"Up to {LARGEST_BATCH} comma-separated {self.one} IDs{self.batch}"),
        )

    def read(self, parameters: Parameters) -> Ids:
        """Return the ids in a request. Raises BothGiven, MissingParameter, TooMany or MalformedBody."""
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
        """Return the text of an error, with the names of these parameters in it."""
        return error.example_text(name=self.one, one=self.one, many=self.many)
