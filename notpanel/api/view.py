"""``POST /api/v2``: limit, read, authenticate, dispatch, render. It knows no rule.

docs/contract.md, "The order in which a request is judged", is the order of ``ApiView``'s methods.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
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


class AlwaysJson(BaseContentNegotiation):
    """Answers in JSON, and ignores what the client accepts."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return next((parser for parser in parsers if _media_type(request) == parser.media_type), None)

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


def _media_type(request: Request) -> str:
    """Return the media type of the body. Without a Content-Type it is the documented one, a form."""
    return (request.content_type or "").partition(";")[0].strip().lower() or FormParser.media_type


class JsonView(APIView):
    """Reads forms and JSON, and answers in JSON."""

    authentication_classes = ()
    permission_classes = ()
    parser_classes = (FormParser, MultiPartParser, JSONParser)
    renderer_classes = (JSONRenderer,)
    content_negotiation_class = AlwaysJson


def _no_authentication(raw_key: str, address: Address | None) -> Caller:
    raise NotImplementedError


@method_decorator(sensitive_post_parameters(), name="dispatch")
class ApiView(JsonView):
    """The v2 API. Its methods stand in the order in which a request passes through them.

    urls.py, which alone knows the apps, passes ``actions`` by their names, and ``authenticate(raw_key, address)``,
    which returns the Caller or raises InvalidApiKey or AccountSuspended.
    """

    http_method_names = ["post"]

    actions: Mapping[str, Action] = {}
    authenticate: Callable[[str, Address | None], Caller] = staticmethod(_no_authentication)

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        # Ignore the client's charset: some codecs take a second for 64 KiB. REST framework reads this before initial().
        request.encoding = "utf-8"
        self.address = client_address(request)
        self.rate_limits = RateLimits(request)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Count every request on its address, even one with the wrong method."""
        self.rate_limits.count_address(self.address)
        super().initial(request, *args, **kwargs)

    @sensitive_variables("body")
    def post(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        body = self.read_body(request)
        caller = self.identify_caller(body)
        self.rate_limits.count_caller(caller)
        parameters = Parameters(body)
        action = self.find_action(parameters)
        answer = action.handler(caller, parameters)
        return answer.respond(request) if isinstance(answer, Prepared) else Response(answer)

    @sensitive_variables("body")
    def read_body(self, request: Request) -> Mapping[str, Any]:
        """Return the members of the body. Raises BodyTooLarge, MalformedBody or UnsupportedMediaType."""
        try:
            length = int(request.META.get("CONTENT_LENGTH") or 0)
            if length > LARGEST_BODY:
                raise BodyTooLarge
            if len(request.body) < length:  # the body was cut off, so its last id may be too
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

    @sensitive_variables("body", "key")
    def identify_caller(self, body: Mapping[str, Any]) -> Caller:
        """Return the caller whose key the body has. Raises InvalidApiKey or AccountSuspended."""
        key = body.get("key")
        caller = self.authenticate(key if isinstance(key, str) else "", self.address)
        request_log.add(account=caller.account_id, key=caller.api_key_prefix)
        return caller

    def find_action(self, parameters: Parameters) -> Action:
        """Return the action that the request names. Raises MissingParameter, MalformedBody or UnknownAction."""
        action = self.actions.get(parameters.required("action"))
        if action is None:
            raise UnknownAction
        request_log.add(action=action.name)
        return action

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Add the headers that every answer has, a refusal too."""
        response = super().finalize_response(request, response, *args, **kwargs)
        for name, value in self.rate_limits.headers().items():
            response[name] = value
        response.setdefault("Cache-Control", "no-store")
        return response


class OpenApiView(JsonView):
    """``GET /api/openapi.json``: the API described in OpenAPI. urls.py passes ``actions``."""

    actions: Sequence[Action] = ()

    def get(self, request: Request) -> Response:
        url = request.build_absolute_uri(reverse("api-v2"))
        # Tools that run in a browser, on another site, may read it too.
        return Response(describe(self.actions, url), headers={"Access-Control-Allow-Origin": "*"})


class NotFoundView(JsonView):
    """Answers every other address under /api/ with 404."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise NotFound
