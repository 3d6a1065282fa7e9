"""What the API can do: the one source of its dispatch, its documentation and its OpenAPI description."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from notpanel.api.errors import SHARED_ERRORS
from notpanel.api.parameters import OneOrMany, Parameter, Parameters
from notpanel.kit.caller import Caller
from notpanel.kit.refusals import Refusal


@dataclass(frozen=True)
class Example:
    """A request of an action, and its answer: ``parameters`` are sent besides key and action."""

    title: str
    parameters: Mapping[str, str]
    response: Any


@dataclass(frozen=True)
class Action:
    """One action of ``POST /api/v2``.

    ``handler(caller, parameters)`` returns what is rendered as JSON, or raises one of ``refusals``. ``schema`` is the
    JSON Schema of what it returns. ``ids`` are its parameters, if it has any.
    """

    name: str
    title: str
    summary: str
    examples: tuple[Example, ...]
    schema: Mapping[str, Any]
    handler: Callable[[Caller, Parameters], Any]
    ids: OneOrMany | None = None
    refusals: tuple[type[Refusal], ...] = ()
    shown_live: bool = False  # it only reads, so the developers' pages show what it answers about the visitor's own ids
    prepared: bool = False  # the handler returns Prepared: compressed for clients that accept it, with an ETag

    @property
    def required(self) -> tuple[Parameter, Parameter]:
        """What every request of the action has, besides ``parameters``."""
        return (
            Parameter("key", "string", "Your API key."),
            Parameter("action", "string", f'Must be the literal string "{self.name}".'),
        )

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """What a request of the action may have besides ``required``."""
        return self.ids.parameters if self.ids else ()

    @property
    def errors(self) -> tuple[type[Refusal], ...]:
        """The errors of this action: its refusals, then those of its parameters."""
        return self.refusals + (self.ids.errors if self.ids else ())

    @property
    def shared_errors(self) -> tuple[type[Refusal], ...]:
        """The errors that it shares with all actions, but for those in ``errors`` and those of parameters."""
        left_out = self.refusals + OneOrMany.errors
        return tuple(error for error in SHARED_ERRORS if error not in left_out)

    def text_of(self, error: type[Refusal]) -> str:
        """Return the text of an error as the action's documentation shows it."""
        return self.ids.text_of(error) if self.ids else error.example_text()
