"""What is known about the request that is being answered, for its log line and the metrics.

Each part that answers a request adds what it knows. Outside of a request nothing is kept.
"""

import contextvars
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper


class Outcome(StrEnum):
    """What became of a request. Each has one."""

    OK = "ok"
    PARTIAL = "partial"  # some ids of a list were refused
    REFUSED = "refused"  # it broke a rule, or cannot be read
    DENIED = "denied"  # its sender may not do this: denied_by says why
    LIMITED = "limited"  # a limit is spent: limited_by says which
    FAILED = "failed"  # on our side


class DeniedBy(StrEnum):
    """Why the sender of a request may not do what it asks for."""

    NO_KEY = "no_key"  # none, or text that cannot be one
    UNKNOWN_KEY = "unknown_key"  # never made, revoked or expired
    ADDRESS = "address"  # the key is bound to others
    SUSPENDED = "suspended"
    READ_ONLY = "read_only"
    HOST = "host"
    CSRF = "csrf"
    SIGN_IN = "sign_in"  # a wrong password, or a name without an account
    PERMISSION = "permission"


@dataclass(slots=True)
class RequestFacts:
    """The facts of one request. Except for the path, without secrets, no text that a client chose is among them."""

    request_id: str
    method: str = "-"
    path: str = "-"
    view: str = ""  # the name of the address in urls.py
    status: int = 0
    outcome: Outcome = Outcome.OK
    code: str = ""  # of the error, as X-Error-Code has it
    limited_by: str = ""  # the layer of the rate limits, or the counter of attempts
    denied_by: str = ""  # a DeniedBy
    address: ipaddress.IPv4Address | ipaddress.IPv6Address | None = None  # of the client, as the limits see it
    account: int | None = None
    key: str = ""  # its visible prefix
    action: str = ""
    ids: int | None = None  # how many the request names
    refused: dict[str, int] = field(default_factory=dict)  # how many ids of a list, by the code of the error
    replay: bool = False  # the first answer to a request_id was repeated
    created: int | None = None  # rows of a file
    changed: int | None = None
    statements: int = 0  # SQL statements, without BEGIN and COMMIT
    milliseconds: float = 0.0


_current: contextvars.ContextVar[RequestFacts | None] = contextvars.ContextVar("request_facts", default=None)
Token = contextvars.Token[RequestFacts | None]


def begin(request_id: str) -> tuple[RequestFacts, Token]:
    """Begin the facts of a request. Returns them, and the token that ``end`` takes."""
    facts = RequestFacts(request_id)
    return facts, _current.set(facts)


def end(token: Token) -> None:
    """End what ``begin`` began."""
    _current.reset(token)


def current() -> RequestFacts | None:
    """Return the facts of the current request, or None outside of one."""
    return _current.get()


def add(**facts: Any) -> None:
    """Add facts of the current request. Never add a key, or text that the client chose freely."""
    if (known := _current.get()) is not None:
        for name, value in facts.items():
            setattr(known, name, value)


def count_refused(code: str) -> None:
    """Count an id of a list that is refused with this code."""
    if (known := _current.get()) is not None:
        known.refused[code] = known.refused.get(code, 0) + 1


def count_statement() -> None:
    """Count an SQL statement."""
    if (known := _current.get()) is not None:
        known.statements += 1


def _count_and_execute(execute: Callable[..., Any], *arguments: Any) -> Any:
    count_statement()
    return execute(*arguments)


COUNTING = [_count_and_execute]  # the wrappers of a connection whose statements are counted, and of no other use


def count_statements_of(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    """Count the statements that a connection will run through Django's cursors. Receives ``connection_created``."""
    if _count_and_execute not in connection.execute_wrappers:
        connection.execute_wrappers.insert(0, _count_and_execute)
