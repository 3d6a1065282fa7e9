"""The log line of a request: its id, and the fields that are added while the request is answered."""

import contextvars
import logging
import re

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


def action() -> str:
    """Return the name of the API's action that the current request asks for, once that is known."""
    return str((_fields.get() or {}).get("action", ""))


def fields_as_text() -> str:
    """Return the added fields as ``" name=value name=value"``, or "" if there are none."""
    fields = _fields.get() or {}
    return "".join(f" {name}={value}" for name, value in fields.items() if name != "request_id")


class RequestIdFilter(logging.Filter):
    """Gives every log record the id of the current request, or "-"."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = (_fields.get() or {}).get("request_id", "-")
        return True


# Everything that a terminal or a reader of logs may take for the end of a line, or for a command.
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
# The token of a link that resets a password, wherever it stands: in a redirect, in a path that was not found.
_RESET_TOKEN = re.compile(r"(?<=/)(password/reset/[^/\s]+/)[^/\s]+|\b[0-9a-z]{6,7}-[0-9a-f]{32}")


# Longer than the visible beginning of a key, which log lines may have.
KEY = re.compile(r"(npp?_)[A-Za-z0-9_-]{9,}")


def without_secrets(text: str) -> str:
    """Return ``text`` without API keys, and without the tokens of links that reset a password."""
    return KEY.sub(r"\1…", _RESET_TOKEN.sub(lambda match: f"{match[1] or ''}…", text))


class LineFormatter(logging.Formatter):
    """Write a record as one line, whatever a client sent, with its traceback indented below it.

    A record that was forged with line breaks would begin at the left, so nothing but records does.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (as logging names it)
        record.message = _CONTROL.sub(_escape, record.message)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of the record, without secrets."""
        lines = without_secrets(super().format(record)).split("\n")
        return "\n  ".join(_CONTROL.sub(_escape, line) for line in lines)


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()
