"""Read what suppliers answer. Every panel speaks the same API in its own shapes; docs/suppliers.md lists those met.

Nothing here guesses in favour of a refill: an answer that does not say clearly what was done is Unclear.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

LONGEST_WORDS = 500  # characters kept of what a supplier said
LONGEST_ID = 64

FAILED = {"fail", "failed", "failure", "error", "false", "0"}
COMPLETED = {"completed", "complete", "success", "successful", "done", "finished", "refilled"}
REJECTED = {"rejected", "reject", "canceled", "cancelled", "refused", "declined"}
IN_PROGRESS = {
    "pending",
    "in progress",
    "inprogress",
    "processing",
    "progress",
    "awaiting",
    "queued",
    "approved",
    "new",
}
_SAYS_WHY = ("error", "errors", "message", "msg", "error_message", "reason", "detail")
_WRAPS = ("data", "result", "response")
_CALLS_IT = ("refill", "refill_id", "refillid")


class Progress(Enum):
    """How far a refill is at the supplier."""

    IN_PROGRESS = auto()
    COMPLETED = auto()
    REJECTED = auto()


@dataclass(frozen=True)
class Accepted:
    """The supplier took the refill, under this id of its own."""

    refill: str
    words: str = ""


@dataclass(frozen=True)
class Refused:
    """The supplier said that it will not do what it was asked."""

    words: str


@dataclass(frozen=True)
class NotDone:
    """The request did not reach the supplier."""

    words: str


@dataclass(frozen=True)
class Unclear:
    """The request may have reached the supplier, and nothing says what it did. ``answered``: an API has answered."""

    words: str
    answered: bool = False


@dataclass(frozen=True)
class Status:
    """What the supplier said of a refill of its own. ``refill`` is its id, "" if it was not said."""

    progress: Progress
    words: str
    refill: str = ""


def read_json(body: bytes) -> Any:
    """Return the JSON object or list in a body, after a byte order mark or notices of PHP too. None: there is none."""
    text = body.decode("utf-8-sig", errors="replace").strip("\ufeff\x00 \t\r\n")
    for begin in (match.start() for match in re.finditer(r"[\[{]", text[:20_000])):
        try:
            value, end = json.JSONDecoder().raw_decode(text, begin)
        except (ValueError, RecursionError):
            continue
        if not text[end:].strip():
            return value
    return None


def read_refill(payload: Any) -> Accepted | Refused | Unclear:
    """Read the answer to ``action=refill`` for one order."""
    item = _only_item(payload)
    if item is None:
        return Unclear(_shown(payload), answered=True)
    words = _why(item)
    refill, failed = _first(item, _CALLS_IT), _has_failed(item)
    if isinstance(refill, list) and refill:
        refill = refill[0]
    if isinstance(refill, dict):
        if refill_id := _id(_first(refill, ("id", *_CALLS_IT))):
            refill = refill_id
        elif inner := _why(refill):
            return Refused(inner)
    refill_id = _id(refill)
    if refill_id and not failed:
        return Accepted(refill_id, words)
    if failed and not refill_id:
        return Refused(words or _shown(payload))
    return Unclear(_shown(payload), answered=True)


def read_status(payload: Any) -> Status | Refused | Unclear:
    """Read the answer to ``action=refill_status`` for one refill."""
    item = _only_item(payload)
    if item is None:
        return Unclear(_shown(payload), answered=True)
    return _status(item)


def read_statuses(payload: Any, refills: Iterable[str]) -> dict[str, Status | Refused | Unclear] | Refused | Unclear:
    """Read the answer to ``action=refill_status`` for several refills, by their ids.

    A refill of which it says nothing is missing from the result.
    """
    wanted = set(refills)
    found: dict[str, Status | Refused | Unclear] = {}
    payload = _unwrapped(payload)
    if isinstance(payload, list):
        for row in payload:
            if isinstance(row, dict) and (refill := _id(_first(_lower(row), (*_CALLS_IT, "id")))) in wanted:
                found[refill] = _status(_lower(row))
    elif isinstance(payload, dict):
        for name, value in payload.items():
            if name in wanted:
                found[name] = _status(_lower(value) if isinstance(value, dict) else {"status": value})
        if not found and _has_failed(_lower(payload)):
            return Refused(_why(_lower(payload)) or _shown(payload))
    return found or Unclear(_shown(payload), answered=True)


def _status(item: dict[str, Any]) -> Status | Refused | Unclear:
    status, words = item.get("status"), _why(item)
    if isinstance(status, dict):  # {"refill": 3, "status": {"error": "…"}}
        return Refused(_why(_lower(status)) or _shown(status))
    if _has_failed(item):
        return Refused(words or _shown(item))
    word = _word(status)
    for progress, known in (
        (Progress.COMPLETED, COMPLETED),
        (Progress.REJECTED, REJECTED),
        (Progress.IN_PROGRESS, IN_PROGRESS),
    ):
        if word in known:
            said = f"{_text(status)}: {words}" if words else _text(status)
            return Status(progress, said, _id(_first(item, (*_CALLS_IT, "id"))))
    return Unclear(_shown(item), answered=True)


def _only_item(payload: Any) -> dict[str, Any] | None:
    """Return the object with the answer, its names in lower case: itself, the first of a list, or what wraps it."""
    payload = _unwrapped(payload)
    if isinstance(payload, list):
        payload = payload[0] if payload else None
    elif isinstance(payload, dict) and isinstance(payload.get("0"), dict):
        payload = payload["0"]
    return _lower(payload) if isinstance(payload, dict) else None


def _unwrapped(payload: Any) -> Any:
    if isinstance(payload, dict):
        for name in _WRAPS:
            if isinstance(payload.get(name), (dict, list)) and payload[name]:
                return payload[name]
    return payload


def _lower(item: dict[str, Any]) -> dict[str, Any]:
    return {str(name).lower(): value for name, value in item.items()}


def _first(item: dict[str, Any], names: Iterable[str]) -> Any:
    return next((item[name] for name in names if name in item), None)


def _has_failed(item: dict[str, Any]) -> bool:
    """Return whether an object says that what was asked was not done."""
    if "success" in item and _word(item["success"]) in FAILED | {"", "none"}:
        return True
    if item.get("error") or item.get("errors"):
        return True
    return _word(item.get("status")) in FAILED


def _why(item: dict[str, Any]) -> str:
    """Return the words with which an object says why."""
    for name in _SAYS_WHY:
        value = item.get(name)
        if isinstance(value, dict):
            value = _why(_lower(value)) or next(iter(value.values()), "")
        if isinstance(value, list):
            value = "; ".join(_text(entry) for entry in value)
        if value and value is not True and (text := _text(value)):
            return text
    return ""


def _word(value: Any) -> str:
    return re.sub(r"[\s_-]+", " ", _text(value)).strip(" .").lower()


def _text(value: Any) -> str:
    """Return a value as one line of text that can be stored."""
    return " ".join(str(value).replace("\x00", "").split())[:LONGEST_WORDS]


def _id(value: Any) -> str:
    """Return an id of a supplier as text; "" for what is none: nothing, 0, true, an object."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return ""
    text = str(value).strip()
    is_id = re.fullmatch(r"[\w.:-]+", text, re.ASCII) and len(text) <= LONGEST_ID and text.strip("0")
    return text if is_id and text.lower() not in ("null", "none", "false", "true", "error", "fail") else ""


def _shown(payload: Any) -> str:
    """Return an answer that could not be read, for a person."""
    return _text(json.dumps(payload, ensure_ascii=False)) if payload is not None else "an answer without JSON"
