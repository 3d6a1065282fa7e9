"""``POST /api/v2``: limit, read, authenticate, dispatch, render. It knows no rule.

docs/contract.md, "The order in which a request is judged", is the order of ``ApiView``'s methods.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from notpanel.api.actions import Action
from notpanel.api.bodies import read_pairs
from notpanel.api.dialects import DIALECTS, NOTPANEL, Dialect
from notpanel.api.errors import (
    BodyTooLarge,
    KeyIsReadOnly,
    MalformedBody,
    NotFound,
    UnknownAction,
    UnsupportedContentEncoding,
)
from notpanel.api.openapi import describe
from notpanel.api.parameters import Parameters
from notpanel.api.prepared import Prepared
from notpanel.api.ratelimits import RateLimits
from notpanel.kit import request_facts
from notpanel.kit.addresses import Address, client_address
from notpanel.kit.caller import Caller
from notpanel.kit.refusals import Refusal
from notpanel.kit.rendered import Rendered
from notpanel.kit.request_facts import DeniedBy

LARGEST_BODY = 64 * 1024  # bytes


class AlwaysJson(BaseContentNegotiation):
    """Answers in JSON, whatever the client accepts. bodies.py reads the bodies, not a parser of REST framework."""

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


def content_length(request: Request) -> int:
    """Return the Content-Length in bytes, 0 without one. Raises MalformedBody if it is not a number."""
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not (length.isascii() and length.isdigit()):  # int() takes signs, blanks and underscores
        raise MalformedBody
    return int(length) if len(length) < 20 else 10**20


def refuse_encoded(request: Request) -> None:
    """Raise UnsupportedContentEncoding if the body is compressed."""
    if request.META.get("HTTP_CONTENT_ENCODING", "").strip().lower() not in ("", "identity"):
        raise UnsupportedContentEncoding


class JsonView(APIView):
    """Answers in JSON."""

    authentication_classes = ()
    permission_classes = ()
    parser_classes = ()
    renderer_classes = (JSONRenderer,)
    content_negotiation_class = AlwaysJson


class LimitedView(JsonView):
    """Takes POST alone, and counts each request on its address. Every answer says what is left of the limits."""

    http_method_names = ["post"]

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        self.address = client_address(request)
        request_facts.add(address=self.address)
        self.rate_limits = RateLimits(request)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Count every request on its address, even one with the wrong method."""
        self.rate_limits.count_address(self.address)
        super().initial(request, *args, **kwargs)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Add the headers that every answer has, refusals included."""
        response = super().finalize_response(request, response, *args, **kwargs)
        for name, value in self.rate_limits.headers().items():
            response[name] = value
        response.setdefault("Cache-Control", "no-store")
        return response


def _no_authentication(raw_key: str, address: Address | None) -> Caller:
    raise NotImplementedError


def _not_kept(account_id: int, request_id: str, digest: str, answer: Callable[[], Rendered]) -> tuple[Rendered, bool]:
    raise NotImplementedError


def respond(rendered: Rendered) -> HttpResponse:
    """Send an answer. REST framework's Response would send the same, but negotiate the content first."""
    response = HttpResponse(rendered.body, status=rendered.status, content_type=JSONRenderer.media_type)
    if rendered.code:
        response["X-Error-Code"] = rendered.code
    return response


@method_decorator(sensitive_post_parameters(), name="dispatch")
class ApiView(LimitedView):
    """The v2 API. Its methods stand in the order in which a request passes through them.

    urls.py, which alone knows the apps, passes ``actions`` by their names, and ``authenticate(raw_key, address)``,
    which returns the Caller or raises InvalidApiKey or AccountSuspended. It also passes ``answer_once(account_id,
    request_id, digest, answer)``, which returns the first answer to a request_id and whether it was given before.
    """

    actions: Mapping[str, Action] = {}
    authenticate: Callable[[str, Address | None], Caller] = staticmethod(_no_authentication)
    answer_once: Callable[[int, str, str, Callable[[], Rendered]], tuple[Rendered, bool]] = staticmethod(_not_kept)

    dialect: Dialect = NOTPANEL  # until the key is known

    @sensitive_variables("parameters")
    def post(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        parameters = self.read_body(request)
        caller = self.identify_caller(parameters)
        self.rate_limits.count_caller(caller, count=self.is_counted(parameters))
        action = self.find_action(parameters, caller)
        codes = action.wants_codes(parameters)
        requested = action.read_request(parameters)

        def answer() -> Any:
            return action.handler(caller, parameters)

        if requested is None:
            answered = answer()
            if isinstance(answered, Prepared):
                return answered.respond(request)
            return respond(self.dialect.render(answered, codes=codes))
        rendered, is_replay = self.answer_once(
            caller.account_id, *requested, lambda: self.dialect.render_judged(answer, codes=codes)
        )
        response = respond(rendered)
        if is_replay:
            response["X-Idempotent-Replay"] = "true"
            request_facts.add(replay=True)
        return response

    @sensitive_variables("body")
    def read_body(self, request: Request) -> Parameters:
        """Return the parameters in the body.

        Raises BodyTooLarge, MalformedBody, UnsupportedContentEncoding or UnsupportedMediaType.
        """
        length = content_length(request)
        if length > LARGEST_BODY:
            raise BodyTooLarge
        try:
            body = request.body
        except OSError as error:  # the client hung up
            raise MalformedBody from error
        if len(body) < length:  # the body was cut off, so its last id may be too
            raise MalformedBody
        refuse_encoded(request)
        return Parameters(read_pairs(body, request.META.get("CONTENT_TYPE", "")))

    @sensitive_variables("parameters", "key")
    def identify_caller(self, parameters: Parameters) -> Caller:
        """Return the caller whose key the body has.

        Raises InvalidApiKey, AccountSuspended or ParameterRepeated.
        """
        try:
            key = parameters.text("key")
        except MalformedBody:  # to the client, a key that is not text is a wrong key
            key = ""
        # A key has no blanks. Those in it come from a line that was wrapped when it was copied.
        caller = self.authenticate("".join(key.split()), self.address)
        self.dialect = DIALECTS[caller.answers]
        return caller

    def is_counted(self, parameters: Parameters) -> bool:
        """Return whether the request counts on the limits of the key and the tier. An invalid one does."""
        try:
            action = self.actions.get(parameters.text("action"))
        except Refusal:
            return True
        return action is None or action.counted

    def find_action(self, parameters: Parameters, caller: Caller) -> Action:
        """Return the action that the request names.

        Raises MissingParameter, ParameterRepeated, MalformedBody, UnknownAction or KeyIsReadOnly.
        """
        action = self.actions.get(parameters.required("action"))
        if action is None:
            raise UnknownAction
        request_facts.add(action=action.name)
        if action.writes and caller.read_only:
            request_facts.add(denied_by=DeniedBy.READ_ONLY)
            raise KeyIsReadOnly
        return action


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
