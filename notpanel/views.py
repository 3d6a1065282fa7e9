"""The front door of the site, and its error pages."""

import sys
from collections.abc import Callable
from functools import wraps

import django.views.csrf
from django.apps import apps
from django.core.exceptions import FieldDoesNotExist, PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.templatetags.static import static
from django.urls import reverse
from django.views.decorators.cache import never_cache

from notpanel.api.errors import headers_of, status_of
from notpanel.api.exceptions import as_refusal
from notpanel.kit import request_facts, security_log
from notpanel.kit.addresses import client_address
from notpanel.kit.refusals import ServiceUnavailable
from notpanel.kit.request_facts import DeniedBy


@never_cache
def start(request: HttpRequest) -> HttpResponse:
    """Send staff to the desk, customers to their dashboard, and visitors to the API's pages."""
    user = request.user
    if user.is_authenticated:
        return redirect("admin:index" if user.is_staff else "dashboard:overview")
    return redirect("developers:index")


def robots(request: HttpRequest) -> HttpResponse:
    """Tell search engines to read the API's pages and nothing else."""
    lines = ["User-agent: *", f"Allow: {reverse('developers:index')}", "Disallow: /"]
    return HttpResponse("\n".join(lines) + "\n", content_type="text/plain; charset=utf-8")


def favicon(request: HttpRequest) -> HttpResponse:
    """Redirect browsers that ask for the icon without reading a page, such as one that shows the API's JSON."""
    return redirect(static("notpanel/favicon.ico"))


def not_found(request: HttpRequest, **kwargs: str) -> HttpResponse:
    raise Http404


def of_a_relation(view: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    """Ask ``view``, the admin's for autocompletion, only about fields that refer to another model.

    It fails at the other end of such a field, which has no form.
    """

    @wraps(view)
    def checked(request: HttpRequest) -> HttpResponseBase:
        try:
            model = apps.get_model(request.GET.get("app_label", ""), request.GET.get("model_name", ""))
            field = model._meta.get_field(request.GET.get("field_name", ""))
        except (LookupError, ValueError, FieldDoesNotExist):
            raise PermissionDenied from None  # as Django answers it
        if not field.concrete:
            raise PermissionDenied
        return view(request)

    return checked


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer a request that Django refuses to read, such as a form that is too large."""
    return render(request, "400.html", status=400)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer a form that did not come from one of our pages, and report it."""
    request_facts.add(denied_by=DeniedBy.CSRF)
    # The text after the dash was sent by the client.
    security_log.report("form_refused", because=reason.partition(" - ")[0], address=str(client_address(request)))
    return django.views.csrf.csrf_failure(request, reason)


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer an exception that a page raised: with 503 if PostgreSQL or Redis is unavailable, else with 500."""
    exception = sys.exc_info()[1]
    refusal = as_refusal(exception) if isinstance(exception, Exception) else None
    if not isinstance(refusal, ServiceUnavailable):
        return HttpResponse(render_to_string("500.html"), status=500)
    status = status_of(ServiceUnavailable)
    return HttpResponse(render_to_string("503.html"), status=status, headers=headers_of(refusal))
