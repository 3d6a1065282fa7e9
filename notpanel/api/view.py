"""``POST /api/v2``: limit, authenticate, dispatch, render. It knows no action and no rule of its own."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.http import HttpResponse
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters
from rest_framework.exceptions import ParseError, UnsupportedMediaType
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import FormParser, JSONParser, MultiPartParser
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from notpanel import request_log
from notpanel.api.actions import Action
from notpanel.api.errors import BodyTooLarge, MalformedBody, NotFound, UnknownAction
from notpanel.api.openapi import describe
from notpanel.api.parameters import Parameters
from notpanel.api.prepared import Prepared
from notpanel.api.ratelimits import RateLimits
from notpanel.kit.addresses import Address, client_address
from notpanel.kit.caller import Caller

LARGEST_BODY = 64 * 1024  # bytes


class JsonWhateverIsAccepted(BaseContentNegotiation):
    """The API speaks JSON only, also to clients that say that they would rather have a web page."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return next((parser for parser in parsers if _media_type(request) == parser.media_type), None)

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


def _media_type(request: Request) -> str:
    """Return the media type of the body; one that names none is taken for the documented one."""
    return (request.content_type or "").partition(";")[0].strip().lower() or FormParser.media_type


class JsonView(APIView):
    authentication_classes = ()
    permission_classes = ()
    parser_classes = (FormParser, MultiPartParser, JSONParser)
    renderer_classes = (JSONRenderer,)
    content_negotiation_class = JsonWhateverIsAccepted


def _no_authentication(raw_key: str, address: Address | None) -> Caller:
    raise NotImplementedError


@method_decorator(sensitive_post_parameters(), name="dispatch")
class ApiView(JsonView):
    """The v2 API. ``actions`` and ``authenticate`` are given by urls.py, which alone knows the apps.

    ``authenticate(raw_key, address)`` returns the Caller, or raises InvalidApiKey or AccountSuspended.
    """

    http_method_names = ["post"]

    actions: Mapping[str, Action] = {}
    authenticate: Callable[[str, Address | None], Caller] = staticmethod(_no_authentication)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        request._request.encoding = "utf-8"  # whatever the client says: some codecs take a second for 64 KiB
        self.address = client_address(request)
        self.rate_limits = RateLimits(request)
        self.rate_limits.count_address(self.address)
        super().initial(request, *args, **kwargs)

    def post(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        body = self.parse(request)
        key = body.get("key")
        caller = self.authenticate(key if isinstance(key, str) else "", self.address)
        request_log.add(account=caller.account_id, key=caller.api_key_prefix)
        self.rate_limits.count_caller(caller)
        parameters = Parameters(body)
        action = self.actions.get(parameters.required("action"))
        if action is None:
            raise UnknownAction
        request_log.add(action=action.name)
        answer = action.handler(caller, parameters)
        return answer.respond(request) if isinstance(answer, Prepared) else Response(answer)

    def parse(self, request: Request) -> Mapping[str, Any]:
        """Return the parameters in the body. Raises BodyTooLarge, MalformedBody or UnsupportedMediaType."""
        try:
            length = int(request.META.get("CONTENT_LENGTH") or 0)
            if length > LARGEST_BODY:
                raise BodyTooLarge
            if len(request.body) < length:  # it was cut off on its way, and so may its last id be
                raise MalformedBody
            body = request.data
        except (UnsupportedMediaType, ParseError):
            raise
        except (ValueError, LookupError, RecursionError, OSError) as error:
            # Not UTF-8, an unknown charset, JSON a thousand levels deep, a client that hung up.
            raise MalformedBody from error
        if not isinstance(body, Mapping):
            raise MalformedBody
        return body

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        for name, value in self.rate_limits.headers().items():
            response[name] = value
        response.setdefault("Cache-Control", "no-store")
        return response


class OpenApiView(JsonView):
    """``GET /api/openapi.json``: the API described in OpenAPI. ``actions`` is given by urls.py."""

    actions: Sequence[Action] = ()

    def get(self, request: Request) -> Response:
        url = request.build_absolute_uri(reverse("api-v2"))
        # Whoever reads it from another site, as tools in a browser do, may.
        return Response(describe(self.actions, url), headers={"Access-Control-Allow-Origin": "*"})


class NotFoundView(JsonView):
    """The answer for every other address under /api/."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise NotFound
