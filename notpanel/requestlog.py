"""One log line per request, with an id that the answer carries too, and JSON for every error under /api/."""

import contextvars
import http
import logging
import re
import time
import uuid
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.encoding import escape_uri_path

from notpanel.api import errors

logger = logging.getLogger(__name__)

_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_fields: contextvars.ContextVar[dict[str, object] | None] = contextvars.ContextVar("fields", default=None)

# Errors that Django itself may answer with before a view is reached.
_BY_STATUS = {
    error.status: error
    for error in (
        errors.MalformedBody,
        errors.NotFound,
        errors.MethodNotAllowed,
        errors.BodyTooLarge,
        errors.InternalServerError,
    )
}


def add(**fields: object) -> None:
    """Add fields to the log line of the request under way. Never a key, and nothing a client could write at will."""
    if (line := _fields.get()) is not None:
        line.update(fields)


class RequestIdFilter(logging.Filter):
    """Gives every log record the id of the request under way, or "-"."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = (_fields.get() or {}).get("request_id", "-")
        return True


def middleware(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """The outermost middleware: nothing that goes wrong further in escapes it."""

    def respond(request: HttpRequest) -> HttpResponse:
        sent = request.headers.get("X-Request-ID", "")
        request_id = sent if _SANE_REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex
        fields: dict[str, object] = {"request_id": request_id}
        token = _fields.set(fields)
        started = time.perf_counter()
        try:
            response = get_response(request)
            if is_for_api(request.path) and not _is_of_api(response):
                response = _as_json(response)
            response["X-Request-ID"] = request_id
            milliseconds = (time.perf_counter() - started) * 1000
            logger.info(
                "%s %s %d %.1fms%s",
                # A method or a path may hold anything, a line break too.
                request.method if request.method in http.HTTPMethod.__members__ else "-",
                _path(request),
                response.status_code,
                milliseconds,
                "".join(f" {name}={value}" for name, value in fields.items() if name != "request_id"),
            )
            return response
        finally:
            _fields.reset(token)

    return respond


def _path(request: HttpRequest) -> str:
    """Return the path without the token of a link that resets a password."""
    path = escape_uri_path(request.path)
    token = request.resolver_match.kwargs.get("token") if request.resolver_match else None
    return path.replace(escape_uri_path(token), "…") if token else path


def is_for_api(path: str) -> bool:
    """Return whether a path is the API's, where every answer is JSON."""
    return path == "/api" or path.startswith("/api/")


def _is_of_api(response: HttpResponse) -> bool:
    return response.status_code == 304 or response.headers.get("Content-Type", "").startswith("application/json")


def _as_json(response: HttpResponse) -> HttpResponse:
    """Replace a page that Django made (of a bad Host header, say, or of a failed middleware) with the API's error."""
    error = _BY_STATUS.get(response.status_code, errors.InternalServerError)
    return JsonResponse({"error": error.message}, status=error.status)
