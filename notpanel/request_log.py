"""The line of the log that each request leaves."""

import functools
import http

import structlog
from django.http import HttpRequest, HttpResponse

from notpanel.kit import request_facts
from notpanel.kit.addresses import client_address
from notpanel.kit.request_facts import DeniedBy, Outcome, RequestFacts
from notpanel.logs import without_secrets

logger = structlog.get_logger(__name__)

LONGEST_PATH = 300  # characters

_DENIED_BY_STATUS: dict[int, DeniedBy] = {403: DeniedBy.PERMISSION, 421: DeniedBy.HOST}


def complete(facts: RequestFacts, request: HttpRequest, response: HttpResponse) -> None:
    """Add to the facts what the request and its answer show, and what became of the request."""
    method = request.method or ""
    facts.method = method if method in http.HTTPMethod.__members__ else "-"  # a client may send any text
    facts.path = _path_without_secrets(request.path)
    facts.view = getattr(request.resolver_match, "view_name", "")
    facts.status = status = response.status_code
    facts.code = response.headers.get("X-Error-Code", "")
    facts.limited_by = facts.limited_by or response.headers.get("X-RateLimit-DeniedBy", "")
    facts.denied_by = facts.denied_by or _DENIED_BY_STATUS.get(status, "")
    facts.address = facts.address or client_address(request)
    # Only if a page has asked who has signed in: asking here could take a statement.
    user = getattr(request, "_cached_user", None)
    facts.account = facts.account or getattr(user, "pk", None)
    facts.outcome = _outcome(facts)


def _path_without_secrets(path: str) -> str:
    if len(path) > LONGEST_PATH:  # it is cut between two slashes, so that no half of a secret is left
        path = path[:LONGEST_PATH].rpartition("/")[0] + "/…"
    return _without_secrets(path)


_without_secrets = functools.lru_cache(maxsize=1000)(without_secrets)  # most requests have one of a few paths


def _outcome(facts: RequestFacts) -> Outcome:
    if facts.status >= 500:
        return Outcome.FAILED
    if facts.limited_by or facts.status == 429:
        return Outcome.LIMITED
    if facts.denied_by:
        return Outcome.DENIED
    if facts.code or facts.status >= 400 or (facts.refused and sum(facts.refused.values()) == facts.ids):
        return Outcome.REFUSED
    return Outcome.PARTIAL if facts.refused else Outcome.OK


def write(facts: RequestFacts) -> None:
    """Write the line of a request. Facts that are empty are left out."""
    line = {
        "method": facts.method,
        "path": facts.path,
        "status": facts.status,
        "outcome": facts.outcome.value,
        "milliseconds": round(facts.milliseconds, 1),
        "statements": facts.statements,
    }
    if facts.address is not None:
        line["address"] = str(facts.address)
    for name in _IF_KNOWN:
        if value := getattr(facts, name):
            line[name] = value
    logger.info("request", **line)


_IF_KNOWN = (
    *("view", "account", "key", "action", "ids", "code", "refused", "limited_by", "denied_by", "replay"),
    *("created", "changed"),
)


def write_refused(request_id: str, status: int, code: str) -> None:
    """Write the line of a request that the server refused before it was read whole. None of its text is logged."""
    facts, token = request_facts.begin(request_id)
    try:
        facts.status, facts.code, facts.outcome = status, code, Outcome.REFUSED
        write(facts)
    finally:
        request_facts.end(token)
