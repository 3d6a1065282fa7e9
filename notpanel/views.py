"""The front door of the site, and its error pages."""

import sys

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.views.decorators.cache import never_cache

from notpanel.api.errors import headers_of, status_of
from notpanel.api.exceptions import as_refusal
from notpanel.kit.refusals import ServiceUnavailable


@never_cache
def start(request: HttpRequest) -> HttpResponse:
    """Send staff to the desk, customers to their dashboard, and visitors to the API's pages."""
    user = request.user
    if user.is_authenticated:
        return redirect("admin:index" if user.is_staff else "dashboard:overview")
    return redirect("developers:index")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer a request that Django refuses to read, such as a form that is too large."""
    return render(request, "400.html", status=400)


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer an exception that a page raised: with 503 if PostgreSQL or Redis is unavailable, else with 500."""
    exception = sys.exc_info()[1]
    refusal = as_refusal(exception) if isinstance(exception, Exception) else None
    if not isinstance(refusal, ServiceUnavailable):
        return HttpResponse(render_to_string("500.html"), status=500)
    status = status_of(ServiceUnavailable)
    return HttpResponse(render_to_string("503.html"), status=status, headers=headers_of(refusal))
