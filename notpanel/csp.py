"""The Content-Security-Policy of the pages, by django-csp."""

from csp.middleware import CSPMiddleware
from django.http import HttpRequest
from django.http.response import HttpResponseBase


class PagesPolicy(CSPMiddleware):
    """Leaves the API alone: django-csp puts the policy together for each answer, also where it then leaves it out."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        return response if request.path.startswith("/api/") else super().process_response(request, response)
