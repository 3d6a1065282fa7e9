"""Middleware that knows accounts. It runs for pages only, after Django's AuthenticationMiddleware."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from apikeys import acting

GetResponse = Callable[[HttpRequest], HttpResponse]


def remember_who_acts(get_response: GetResponse) -> GetResponse:
    """Let the audit log say who did something, and from which address."""

    def respond(request: HttpRequest) -> HttpResponse:
        with acting.through(request):
            return get_response(request)

    return respond
