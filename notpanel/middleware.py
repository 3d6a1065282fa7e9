"""Every middleware of the project, in the order in which MIDDLEWARE lists them."""

import http
import re
import time
import uuid
from collections.abc import Callable

from django.conf import settings
from django.core.exceptions import MiddlewareNotUsed, SuspiciousOperation
from django.db import DEFAULT_DB_ALIAS, connections
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.response import SimpleTemplateResponse
from django.urls import resolve
from django.utils.encoding import escape_uri_path

from notpanel import request_log
from notpanel.api import errors
from notpanel.kit import replica
from notpanel.kit.addresses import peer_is_trusted

GetResponse = Callable[[HttpRequest], HttpResponse]

_IMPOSSIBLE = re.compile("[\0\ud800-\udfff]")
_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")

# The errors with which Django may answer before a view is reached, by status.
_ERRORS_BY_STATUS = {
    error.status: error
    for error in (
        errors.MalformedBody,
        errors.NotFound,
        errors.MethodNotAllowed,
        errors.BodyTooLarge,
        errors.InternalServerError,
    )
}


def log_requests(get_response: GetResponse) -> GetResponse:
    """Write one log line per request, and turn every error page under /api/ into JSON.

    This is the outermost middleware, so that it also sees what the others answer when they fail.
    """

    def respond(request: HttpRequest) -> HttpResponse:
        sent = request.headers.get("X-Request-ID", "")
        request_id = sent if _SANE_REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex
        token = request_log.begin(request_id)
        started = time.perf_counter()
        try:
            response = get_response(request)
            if is_for_api(request.path) and not _comes_from_api(response):
                response = _as_json(response)
            response["X-Request-ID"] = request_id
            request_log.logger.info(
                "%s %s %d %.1fms%s",
                # A client may send any method and any path, a line break included.
                request.method if request.method in http.HTTPMethod.__members__ else "-",
                request_log.without_token(escape_uri_path(request.path)),
                response.status_code,
                (time.perf_counter() - started) * 1000,
                request_log.fields_as_text(),
            )
            return response
        finally:
            request_log.end(token)

    return respond


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
    """Answer requests to the API here. The middleware further in is for pages, and would only cost time."""

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

    The admin hands what stands in a path, a query string or a form to the database, which would fail.
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
    return path == "/api" or path.startswith("/api/")


def _comes_from_api(response: HttpResponse) -> bool:
    return response.status_code == 304 or response.headers.get("Content-Type", "").startswith("application/json")


def _as_json(response: HttpResponse) -> HttpResponse:
    """Return the API's error in place of a page that Django made, such as the one for a bad Host header."""
    error = _ERRORS_BY_STATUS.get(response.status_code, errors.InternalServerError)
    return JsonResponse({"error": error.message}, status=error.status)
