"""What stands between a request and a page, and not between a request and the API."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.template.response import SimpleTemplateResponse
from django.urls import resolve

from notpanel.requestlog import is_for_api


def spare_the_api(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Answer requests of the API here: the middleware further in is for sessions, forms and messages."""

    def respond(request: HttpRequest) -> HttpResponse:
        if not is_for_api(request.path_info):
            return get_response(request)
        request.resolver_match = match = resolve(request.path_info)
        response = match.func(request, *match.args, **match.kwargs)
        rendered: HttpResponse = response.render() if isinstance(response, SimpleTemplateResponse) else response
        return rendered

    return respond
