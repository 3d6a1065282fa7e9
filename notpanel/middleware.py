"""Every middleware of the project, in the order in which MIDDLEWARE lists them."""

import posixpath
import re
import time
import uuid
from collections.abc import Callable

from django.conf import settings
from django.core.exceptions import DisallowedHost, MiddlewareNotUsed, SuspiciousOperation
from django.db import DEFAULT_DB_ALIAS, connections
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.template.response import SimpleTemplateResponse
from django.urls import resolve

from notpanel import health, metrics, request_log, request_metrics
from notpanel.api import errors
from notpanel.kit import replica, request_facts, security_log
from notpanel.kit.addresses import client_address, peer_is_trusted
from notpanel.kit.refusals import Refusal, ServiceUnavailable

GetResponse = Callable[[HttpRequest], HttpResponse]

# An id that looks like a key, a secret of a webhook, or a token that sets a password is not taken.
_SANE_REQUEST_ID = re.compile(
    r"(?!.*(?:npp?_|whsec_)[A-Za-z0-9_-]{8})(?!.*[0-9a-z]{6,7}-[0-9a-f]{32})[A-Za-z0-9][A-Za-z0-9._:-]{0,63}"
)
# Matched before anything that Django and WhiteNoise serve, so that no spelling of the API's addresses gets a page.
_API_PATH = re.compile(r"/api(?![A-Za-z0-9_-])", re.IGNORECASE | re.ASCII)
_IMPOSSIBLE = re.compile("[\0\ud800-\udfff]")

# The errors with which Django may answer before a view is reached, by status.
_ERRORS_BY_STATUS: dict[int, type[Refusal]] = {
    errors.status_of(error): error
    for error in (
        errors.MalformedBody,
        errors.NotFound,
        errors.MethodNotAllowed,
        errors.BodyTooLarge,
        errors.UnknownHost,
        errors.InternalServerError,
        ServiceUnavailable,
    )
}


def answer_health_checks(get_response: GetResponse) -> GetResponse:
    """Answer ``/healthz`` and ``/readyz``. A check needs no Host, and leaves no line in the log."""

    def respond(request: HttpRequest) -> HttpResponse:
        if (answer := health.ANSWERS.get(request.path_info)) and request.method in ("GET", "HEAD"):
            response = answer()
            response["Content-Length"] = str(len(response.content))
            return response
        return get_response(request)

    return respond


def answer_metrics(get_response: GetResponse) -> GetResponse:
    """Answer ``/metrics`` to the holder of METRICS_TOKEN, as early as health checks. Unused if no token is set."""
    if not settings.METRICS_TOKEN:
        raise MiddlewareNotUsed

    def respond(request: HttpRequest) -> HttpResponse:
        if request.path_info == metrics.PATH and request.method == "GET":
            return metrics.answer(request.META.get("HTTP_AUTHORIZATION", ""))
        return get_response(request)

    return respond


def log_requests(get_response: GetResponse) -> GetResponse:
    """Write one log line per request, count it, and turn every error page under /api/ into JSON.

    From here on, an address of the API has its one spelling: ``//API/v2`` is ``/api/v2``.
    All requests but health checks pass through here, so that it also sees what the others answer when they fail.
    """

    def respond(request: HttpRequest) -> HttpResponse:
        spell_api_path(request)
        sent = request.META.get("HTTP_X_REQUEST_ID", "")
        request_id = sent if _SANE_REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex
        facts, token = request_facts.begin(request_id)
        started = time.perf_counter()
        try:
            response = get_response(request)
            if is_for_api(request.path_info) and not _comes_from_api(response):
                response = _as_json(response)
            response["X-Request-ID"] = request_id
            request_log.complete(facts, request, response)
            facts.milliseconds = (time.perf_counter() - started) * 1000
            request_metrics.count(facts)
            request_log.write(facts)
            return response
        finally:
            request_facts.end(token)

    return respond


def refuse_unknown_hosts(get_response: GetResponse) -> GetResponse:
    """Answer 421 to a Host that is not one of ALLOWED_HOSTS. Django would log a traceback for each.

    This stands before SecurityMiddleware, which asks for the host too, and so adds the headers itself.
    """

    def respond(request: HttpRequest) -> HttpResponse:
        try:
            request.get_host()
        except DisallowedHost:
            security_log.report("host_refused", address=str(client_address(request)))
            response: HttpResponse
            if is_for_api(request.path_info):
                response = error_in_json(errors.UnknownHost)
            else:
                response = HttpResponse(render_to_string("421.html"), status=errors.UnknownHost.status)
            for name, value in _HEADERS_FOR_AN_UNKNOWN_HOST.items():
                response[name] = value
            response["Content-Length"] = str(len(response.content))
            return response
        return get_response(request)

    return respond


_HEADERS_FOR_AN_UNKNOWN_HOST = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def drop_untrusted_proto(get_response: GetResponse) -> GetResponse:
    """Drop X-Forwarded-Proto unless one of ``TRUSTED_PROXIES`` sent it. Django would believe any client."""
    if not settings.TRUSTED_PROXIES:
        raise MiddlewareNotUsed

    def respond(request: HttpRequest) -> HttpResponse:
        if "HTTP_X_FORWARDED_PROTO" in request.META and not peer_is_trusted(request):
            del request.META["HTTP_X_FORWARDED_PROTO"]
        return get_response(request)

    return respond


def short_circuit_api(get_response: GetResponse) -> GetResponse:
    """Answer requests to the API here. Middleware further in is for pages, and would only cost time."""

    def respond(request: HttpRequest) -> HttpResponse:
        if not is_for_api(request.path_info):
            return get_response(request)
        request.resolver_match = match = resolve(request.path_info)
        response = match.func(request, *match.args, **match.kwargs)
        rendered: HttpResponse = response.render() if isinstance(response, SimpleTemplateResponse) else response
        return rendered

    return respond


def add_admin_policy(get_response: GetResponse) -> GetResponse:
    """Give pages of the admin a Content-Security-Policy of their own: unfold's need inline scripts, and eval."""
    policy = "; ".join(" ".join([name, *sources]) for name, sources in settings.ADMIN_CONTENT_SECURITY_POLICY.items())

    def respond(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if request.path_info.startswith("/admin/"):
            response.headers.setdefault("Content-Security-Policy", policy)
        return response

    return respond


def refuse_impossible_text(get_response: GetResponse) -> GetResponse:
    """Answer 400 to text for the admin that PostgreSQL cannot hold: a NUL, or half of a surrogate pair.

    The admin passes what is in a path, a query string or a form to the database, which would fail.
    """

    def respond(request: HttpRequest) -> HttpResponse:
        if request.path_info.startswith("/admin/"):
            sent = [request.path_info]
            for name, texts in (*request.GET.lists(), *request.POST.lists()):
                sent += [name, *map(str, texts)]
            if any(_IMPOSSIBLE.search(text) for text in sent):
                raise SuspiciousOperation("The request has a NUL or half of a surrogate pair.")
        return get_response(request)

    return respond


def remember_writes(get_response: GetResponse) -> GetResponse:
    """After a POST, give a browser that is signed in the position of the primary's log, in a cookie.

    ``replica.reads_may_lag`` then shows it no list that is older than its own changes.
    """
    if replica.ALIAS not in connections:
        raise MiddlewareNotUsed

    def respond(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if request.method == "POST" and settings.SESSION_COOKIE_NAME in request.COOKIES:
            with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
                cursor.execute("SELECT pg_current_wal_insert_lsn()")
                [position] = cursor.fetchone()
            response.set_cookie(
                replica.COOKIE,
                position,
                max_age=86_400,
                secure=settings.SESSION_COOKIE_SECURE,
                httponly=True,
                samesite="Lax",
            )
        return response

    return respond


def is_for_api(path: str) -> bool:
    """Return whether the path belongs to the API, where every answer is JSON."""
    return path.startswith("/api") and _API_PATH.match(path) is not None


def spell_api_path(request: HttpRequest) -> None:
    """Give a request for the API the path in its one spelling: no doubled slashes, no dots, in lower case.

    Clients glue ``https://host/`` and ``/api/v2`` together. Other paths are left as they are.
    """
    path = request.path_info
    if path in ("/api/v2", "/api/v2/"):
        return
    spelled = posixpath.normpath("/" + path.lstrip("/"))
    if not _API_PATH.match(spelled):
        return
    if path.endswith("/"):
        spelled += "/"
    spelled = spelled.lower()
    request.path = request.path.removesuffix(path) + spelled
    request.path_info = request.META["PATH_INFO"] = spelled


def _comes_from_api(response: HttpResponse) -> bool:
    return response.status_code == 304 or response.headers.get("Content-Type", "").startswith("application/json")


def _as_json(response: HttpResponse) -> HttpResponse:
    """Return the API's error in place of a page that Django made, such as the one for a bad Host header."""
    return error_in_json(_ERRORS_BY_STATUS.get(response.status_code, errors.InternalServerError))


def error_in_json(error: type[Refusal]) -> JsonResponse:
    """Return the answer to an error of the API that a middleware found."""
    return JsonResponse({"error": error.message}, status=errors.status_of(error), headers=errors.headers_of(error()))
