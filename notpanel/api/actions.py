"""The actions of the API: the one source of its dispatch, its documentation and its OpenAPI description."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from notpanel.api.errors import SHARED_ERRORS, InvalidRequestId, KeyIsReadOnly
from notpanel.api.parameters import Either, OneOrMany, Parameter, Parameters
from notpanel.kit.caller import Caller
from notpanel.kit.refusals import Refusal, RequestIdUsed


@dataclass(frozen=True)
class Example:
    """A request and its answer, as the documentation shows them. ``parameters`` does not repeat key and action."""

    title: str
    parameters: Mapping[str, str]
    response: Any


CODES = Parameter("codes", "string", "Send 1 to get the code of the error in each refused row of a batch.")


REQUEST_ID = Parameter(
    "request_id",
    "string",
    "1 to 128 visible ASCII characters of your choice. Repeat it with the same orders within 24 hours, and you get "
    "the first answer again, word for word.",
)
_REQUEST_ID = re.compile("[!-~]{1,128}")


@dataclass(frozen=True)
class Action:
    """One action of ``POST /api/v2``.

    ``handler(caller, parameters)`` returns the answer, to be rendered as JSON, or raises one of ``refusals``.
    ``schema`` is the JSON Schema of the answer. ``ids`` describes the parameters for ids, if it has any,
    ``own_required`` others that it needs, and ``own_options`` others that may be left out.
    """

    name: str
    title: str
    summary: str
    examples: tuple[Example, ...]
    schema: Mapping[str, Any]
    handler: Callable[[Caller, Parameters], Any]
    ids: OneOrMany | Either | None = None
    own_required: tuple[Parameter, ...] = ()
    own_options: tuple[Parameter, ...] = ()
    refusals: tuple[type[Refusal], ...] = ()
    shown_live: bool = False  # the action only reads: the developers' pages may show its answer for the visitor's ids
    prepared: bool = False  # the handler returns a Prepared
    writes: bool = False  # refused to keys that are read-only
    once: bool = False  # a request may have a request_id, so that it is answered once
    counted: bool = True  # towards the limits of the key and the tier

    @property
    def required(self) -> tuple[Parameter, ...]:
        """Return the parameters that every request has: the key, the name of the action, and what the action needs."""
        return (
            Parameter("key", "string", "Your API key."),
            Parameter("action", "string", f'Must be the literal string "{self.name}".'),
            *self.own_required,
        )

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Return the action's own parameters, without those that it needs."""
        return (*(self.ids.parameters if self.ids else ()), *self.options)

    @property
    def options(self) -> tuple[Parameter, ...]:
        """Return the parameters that may be left out."""
        return (
            *((REQUEST_ID,) if self.once else ()),
            *self.own_options,
            *((CODES,) if self.ids else ()),
        )

    @property
    def errors(self) -> tuple[type[Refusal], ...]:
        """Return the action's own errors: its refusals, then the errors about its parameters."""
        about_ids = self.ids.errors if self.ids else ()
        about_requests = (InvalidRequestId, RequestIdUsed) if self.once else ()
        return self.refusals + about_ids + about_requests + ((KeyIsReadOnly,) if self.writes else ())

    @property
    def shared_errors(self) -> tuple[type[Refusal], ...]:
        """Return the errors that it shares with all actions, without those about parameters, which are its own."""
        left_out = self.refusals + OneOrMany.errors + Either.errors
        return tuple(error for error in SHARED_ERRORS if error not in left_out)

    def wants_codes(self, parameters: Parameters) -> bool:
        """Return whether refused rows are to have codes. Raises what ``Parameters.text`` raises."""
        return self.ids is not None and parameters.text(CODES.name) == "1"

    def read_request(self, parameters: Parameters) -> tuple[str, str] | None:
        """Return the request_id and a digest of what is requested, or None if the request has no request_id.

        Raises InvalidRequestId, or what reading the ids raises.
        """
        if not (self.once and self.ids and (request_id := parameters.text(REQUEST_ID.name))):
            return None
        if not _REQUEST_ID.fullmatch(request_id):
            raise InvalidRequestId
        ids = self.ids.read(parameters)
        requested = json.dumps([self.name, ids.is_batch, ids.texts])
        return request_id, hashlib.sha256(requested.encode()).hexdigest()

    def text_of(self, error: type[Refusal]) -> str:
        """Return the text of an error, with the names of the action's parameters in it."""
        return self.ids.text_of(error) if self.ids else error.example_text()
