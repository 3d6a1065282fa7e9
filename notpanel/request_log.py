"""The log line of a request: its id, and the fields that are added while the request is answered."""

import contextvars
import logging

logger = logging.getLogger(__name__)

_fields: contextvars.ContextVar[dict[str, object] | None] = contextvars.ContextVar("fields", default=None)


def begin(request_id: str) -> contextvars.Token[dict[str, object] | None]:
    """Begin the line of a request. Returns the token that ``end`` takes."""
    return _fields.set({"request_id": request_id})


def end(token: contextvars.Token[dict[str, object] | None]) -> None:
    """End the line that ``begin`` started."""
    _fields.reset(token)


def add(**fields: object) -> None:
    """Add fields to the line of the current request. Never add a key, or text that the client chose freely."""
    if (line := _fields.get()) is not None:
        line.update(fields)


def fields_as_text() -> str:
    """Return the added fields as ``" name=value name=value"``, or "" if there are none."""
    fields = _fields.get() or {}
    return "".join(f" {name}={value}" for name, value in fields.items() if name != "request_id")


class RequestIdFilter(logging.Filter):
    """Gives every log record the id of the current request, or "-"."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = (_fields.get() or {}).get("request_id", "-")
        return True
