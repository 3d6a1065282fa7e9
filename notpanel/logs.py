"""The form of the log: a JSON object per line, or text for a terminal.

The records of NotPanel and of all libraries pass through here: each becomes one line without secrets.
"""

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any

import structlog
from structlog.dev import ConsoleRenderer, plain_traceback
from structlog.processors import format_exc_info
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

from notpanel.kit import request_facts

# One pattern, so that a text is read once, in time that grows with its length alone. Each alternative begins where a
# word begins.
_SECRET = re.compile(
    r"""
    (?P<kind>npp?_|whsec_)[\w+/=-]{9,}                         # longer than the visible beginning of a key
    | (?P<link>(?:password/reset/[^/\s]{1,64}|email/confirm)/)[^/\s"']+
    | (?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]{1,20}://)            # what follows the host is private, as in an order's link
      (?:[^\s/@"'<>]{1,256}(?P<at>@))?
      (?P<host>[^\s/?\#"'<>@]*)
      (?P<rest>[/?\#][^\s"'<>]*)?
    | (?<![\w.+%-])[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+  # an e-mail address
    | (?<![\w-])[0-9a-z]{6,7}-[0-9a-f]{32}(?![\w-])            # a token that sets a password
    | (?<![\w-])(?P<run>[\w-]{32,})                            # a session, a CSRF token, a signature, a digest
    | (?P<detail>DETAIL:\s).*                                  # the row that PostgreSQL quotes
    """,
    re.VERBOSE,
)
# The loggers whose records have none: the fields of a request's line are made for it.
WITHOUT_SECRETS = {"notpanel.request_log"}
_NAME = re.compile(r"[a-z_]+(?:_[a-z]+)*", re.ASCII)  # of a function, of any length


def without_secrets(text: str) -> str:
    """Return ``text`` without what only its owner may know.

    That is: keys, secrets of webhooks, tokens of links, sessions, e-mail addresses, and the paths of URLs.
    """
    return _SECRET.sub(_hidden, text)


def _hidden(match: re.Match[str]) -> str:
    if run := match["run"]:
        return run if "_" in run and _NAME.fullmatch(run) else "…"
    if match["scheme"]:
        at = "…@" if match["at"] else ""
        rest = match["rest"] or ""
        return f"{match['scheme']}{at}{match['host']}{'/…' if len(rest) > 1 else rest}"
    return f"{match['kind'] or match['link'] or match['detail'] or ''}…"


def _describe(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    """Put in front what every record has: its time, level and logger, and the id of the current request."""
    record: logging.LogRecord = event.pop("_record")
    del event["_from_structlog"]
    described = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": event.pop("event"),
    }
    if (facts := request_facts.current()) is not None:
        described["request_id"] = facts.request_id
    return {**described, **event}


def _hide_secrets(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    """Take the secrets out of a record, except for its head, which ``_describe`` wrote."""
    if event["logger"] not in WITHOUT_SECRETS:
        for key, value in event.items():
            if key not in _HEAD:
                event[key] = clean(value)
    return event


_HEAD = {"time", "level", "logger", "request_id"}


def clean(value: Any) -> Any:
    """Return a value for JSON, however deep, without the secrets in its texts."""
    match value:
        case None | bool() | int() | float():
            return value
        case dict():
            return {clean(name): clean(each) for name, each in value.items()}
        case list() | tuple() | set():
            return [clean(each) for each in value]
    return without_secrets(str(value))


def _for_a_terminal(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    """Keep the text of a record on one line, whatever a client sent, with its traceback indented below it.

    So only records begin at the left margin. The renderer quotes the values of fields.
    """
    event["time"] = event["time"][11:19]
    if event["event"] == "request":
        head = (event.pop("method"), event.pop("path"), event.pop("status"), event.pop("outcome"))
        event["event"] = " ".join(map(str, head))
    event["event"] = _printable(event["event"])
    for key in ("exception", "stack"):
        if key in event:
            event[key] = "\n".join(f"  {_printable(line)}" for line in event[key].split("\n"))
    return event


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _as_json(logger: WrappedLogger, name: str, event: EventDict) -> str:
    return json.dumps(event)  # in ASCII: it escapes all that could end a line


_RECORD: list[Processor] = [format_exc_info, _describe, _hide_secrets]
_FORMS: dict[str, list[Processor]] = {
    "json": [*_RECORD, _as_json],
    "console": [
        *_RECORD,
        _for_a_terminal,
        ConsoleRenderer(
            repr_native_str=True,
            timestamp_key="time",
            sort_keys=False,
            pad_event_to=0,
            exception_formatter=plain_traceback,
        ),
    ],
}


def formatter(form: str) -> ProcessorFormatter:
    """Return what formats the records of all libraries: ``json`` or ``console``. LOGGING names it."""
    return ProcessorFormatter(processors=_FORMS[form])


structlog.configure(
    processors=[structlog.stdlib.filter_by_level, ProcessorFormatter.wrap_for_formatter],
    wrapper_class=structlog.stdlib.BoundLogger,
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=True,
)
