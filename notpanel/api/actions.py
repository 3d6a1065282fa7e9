"""What the API can do: the one source of its dispatch, its documentation and its OpenAPI description."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from notpanel.api.errors import ApiError, BothGiven, MalformedBody, MissingParameter, TooMany

LARGEST_BATCH = 100  # ids in one request


@dataclass(frozen=True)
class Caller:
    """Who sent the request: the account behind a valid key, and the key."""

    account_id: int
    tier: str
    api_key_id: int
    api_key_prefix: str
    limit_per_minute: int | None  # the key's own limit; None: the setting's


class Parameters:
    """The parameters of a request as the contract reads them: every scalar is text, no matter how it was sent."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self._body = body

    def text(self, name: str) -> str:
        """Return the parameter without surrounding blanks, "" if it is missing. Raises MalformedBody for no scalar."""
        value = self._body.get(name)
        return "" if value is None else _as_text(value)

    def required(self, name: str) -> str:
        """Return the parameter; raises MissingParameter if it is missing or empty."""
        if text := self.text(name):
            return text
        raise MissingParameter(name=name)

    def one_or_many(self, one: str, many: str) -> tuple[str | None, list[str]]:
        """Return ``(id, [])`` if ``one`` was sent and ``(None, ids)`` if ``many`` was.

        ``many`` is a CSV or, in JSON, a list; blanks around its ids are dropped, and so are empty items.
        Raises BothGiven, MissingParameter or TooMany.
        """
        value = self._body.get(many)
        items = value if isinstance(value, list) else self.text(many).split(",")
        ids = [text for item in items if item is not None and (text := _as_text(item))]
        single = self.text(one)
        if single and ids:
            raise BothGiven(one=one, many=many)
        if single:
            return single, []
        if not ids:
            raise MissingParameter(name=one if value is None else many)
        if len(ids) > LARGEST_BATCH:
            raise TooMany(many=many, limit=LARGEST_BATCH)
        return None, ids


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
    name: str
    type: str  # as the documentation names it: "string", "string (CSV)"
    description: str


@dataclass(frozen=True)
class Example:
    """A request of an action, and what it gets: ``parameters`` are sent beside key and action."""

    title: str
    parameters: Mapping[str, str]
    response: Any


@dataclass(frozen=True)
class Action:
    """One action of ``POST /api/v2``.

    ``handler(caller, parameters)`` returns what is rendered as JSON or raises one of ``errors``. ``schema`` is the JSON
    Schema of what it returns. An action either takes no parameters, or one id or a list of ids: one of the two
    ``parameters``, the first for one and the second for many.
    """

    name: str
    title: str
    summary: str
    parameters: tuple[Parameter, ...]
    errors: tuple[type[ApiError], ...]
    examples: tuple[Example, ...]
    schema: Mapping[str, Any]
    handler: Callable[[Caller, Parameters], Any]
    shown_live: bool = False  # the developers' pages show what the handler answers of the visitor's own: it only reads
    prepared: bool = False  # the handler returns Prepared: it may be compressed, and whoever has it already gets a 304

    @property
    def required(self) -> tuple[Parameter, Parameter]:
        """What every request of the action has, beside ``parameters``."""
        return (
            Parameter("key", "string", "Your API key."),
            Parameter("action", "string", f'Must be the literal string "{self.name}".'),
        )

    def text_of(self, error: type[ApiError]) -> str:
        """Return the text of an error as the action's documentation shows it: with the names of its parameters."""
        if not self.parameters:
            return error.example_text()
        one, many = self.parameters
        return error.example_text(name=one.name, one=one.name, many=many.name)
