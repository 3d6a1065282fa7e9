"""The API's public pages, made from the list of actions. urls.py passes them what they need from the apps."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import URLPattern, path, reverse
from django.utils.cache import add_never_cache_headers
from django.views.decorators.http import require_safe

from notpanel.api import collection, examples, fields, openapi
from notpanel.api.actions import Action
from notpanel.api.dialects import NOTPANEL
from notpanel.api.errors import SHARED_ERRORS, RateLimitExceeded, status_of
from notpanel.api.parameters import LARGEST_BATCH, Parameters
from notpanel.api.ratelimits import key_limit, met_first, reached_with
from notpanel.api.view import LARGEST_BODY
from notpanel.kit.caller import Caller
from notpanel.kit.refusals import AccountSuspended, InvalidApiKey, Refusal

# Takes the id of an account. Returns ids that belong to it, keyed by the example ids that they replace.
OwnIds = Callable[[int], Mapping[str, str]]


class Developers:
    """The pages. ``own_ids`` finds ids of a signed-in visitor to show in the examples."""

    def __init__(self, actions: tuple[Action, ...], own_ids: OwnIds) -> None:
        self.actions = {action.name: action for action in actions}
        self.own_ids = own_ids

    @property
    def urls(self) -> list[URLPattern]:
        """Return the URL patterns of the pages."""
        pages = [
            path(f"{name}/", self._page(name), name=name)
            for name in ("authentication", "rate-limits", "errors", "missing", "moving", "changelog")
        ]
        return [
            path("", require_safe(self.index), name="index"),
            *pages,
            path("webhooks/", require_safe(self.webhooks), name="webhooks"),
            path("trying-again/", require_safe(self.trying_again), name="trying-again"),
            path("reference/", require_safe(self.reference), name="reference"),
            path("postman.json", require_safe(self.postman), name="postman"),
            path("notpanel.http", require_safe(self.http_file), name="http-file"),
            path("<str:name>/", require_safe(self.action), name="action"),
        ]

    def index(self, request: HttpRequest) -> HttpResponse:
        """Show a start in three steps, and what holds for all actions."""
        sent = {"key": examples.YOUR_API_KEY, "action": "balance"}
        return self._render(request, "index", {"programs": examples.in_every_language(api_url(request), sent)})

    def trying_again(self, request: HttpRequest) -> HttpResponse:
        """Show when to send a request again, and programs that do."""
        return self._render(request, "trying-again", {"loops": examples.printed(examples.LOOPS)})

    def action(self, request: HttpRequest, name: str) -> HttpResponse:
        """Show an action: its parameters, its examples with their answers, and its errors."""
        action = self.actions.get(name)
        if action is None:
            raise Http404
        own = self.own_ids(request.user.pk) if request.user.is_authenticated else {}
        shown = []
        for example in action.examples:
            parameters = {name: _replace_example_ids(value, own) for name, value in example.parameters.items()}
            sent = {"key": examples.YOUR_API_KEY, "action": action.name, **parameters}
            is_own = parameters != example.parameters
            response = (
                _answer_for_visitor(action, request, parameters) if is_own and action.shown_live else example.response
            )
            shown.append(
                {
                    "title": example.title,
                    "parameters": parameters,
                    "programs": examples.in_every_language(api_url(request), sent),
                    "response": _replace_example_ids(json.dumps(response, indent=2), own),
                }
            )
        return self._render(
            request,
            "action",
            {
                "action": action,
                "examples": shown,
                "shapes": fields.shapes(action.schema),
                "errors": _error_rows(action.errors, action),
                "shared_errors": _error_rows(action.shared_errors, action),
            },
        )

    def webhooks(self, request: HttpRequest) -> HttpResponse:
        """Show the events that webhooks receive, and programs that verify them."""
        event = {
            "type": "refill.completed",
            "timestamp": "2026-05-01T12:00:00.123Z",
            "data": {
                "refill": examples.REFILL,
                "number": 12,
                "order": examples.ORDER,
                "order_number": 34,
                "status": "completed",
                "delivered": 1000,
            },
        }
        context = {
            "example_event": json.dumps(event, indent=2),
            "receivers": examples.printed(examples.RECEIVERS),
            "undo_seconds": settings.UNDO_SECONDS,
        }
        return self._render(request, "webhooks", context)

    def reference(self, request: HttpRequest) -> HttpResponse:
        """Show the OpenAPI document."""
        document = openapi.describe(self.actions.values(), api_url(request))
        operation = document["paths"]["/api/v2"]["post"]
        schemas = document["components"]["schemas"]
        context = {
            "document": document,
            "operation": operation,
            "bodies": {name: openapi.request_name(action) for name, action in self.actions.items()},
            "answers": [openapi.answer_name(action) for action in self.actions.values()],
            "headers": {
                name: header
                for response in operation["responses"].values()
                for name, header in response["headers"].items()
            },
            "schemas": {name: json.dumps(schema, indent=2) for name, schema in schemas.items()},
        }
        return self._render(request, "reference", context)

    def postman(self, request: HttpRequest) -> HttpResponse:
        """Return the examples as a Postman collection. Postman in a browser, on another site, may read it too."""
        made = collection.postman(self.actions.values(), api_url(request))
        return JsonResponse(made, headers={"Access-Control-Allow-Origin": "*"})

    def http_file(self, request: HttpRequest) -> HttpResponse:
        """Return the examples as an .http file."""
        made = collection.http_file(self.actions.values(), api_url(request))
        return HttpResponse(made, content_type="text/plain; charset=utf-8")

    def _page(self, name: str) -> Callable[[HttpRequest], HttpResponse]:
        """Return the view of a page that needs nothing but its template."""
        return require_safe(lambda request: self._render(request, name, {}))

    def _render(self, request: HttpRequest, name: str, context: dict[str, Any]) -> HttpResponse:
        shared = {
            "actions": self.actions.values(),
            "api_url": api_url(request),
            "page_name": name,
            "limits": {
                "ip": settings.RATE_LIMIT_IP,
                "tiers": [
                    {
                        "name": tier,
                        "key": key_limit(tier),
                        "account": limit,
                        "first": met_first(tier),
                        "reached": reached_with(tier),
                    }
                    for tier, limit in settings.RATE_LIMIT_TIERS.items()
                ],
            },
            "largest_batch": LARGEST_BATCH,
            "largest_body": LARGEST_BODY // 1024,
            "all_errors": _error_rows(SHARED_ERRORS),
            "errors_of_keys": _error_rows((InvalidApiKey, AccountSuspended)),
            "errors_of_limits": _error_rows((RateLimitExceeded,)),
            "limit_headers": {**openapi.RATE_LIMIT_HEADERS, **openapi.HEADERS_OF[429]},
        }
        response = render(request, f"developers/{name}.html", shared | context)
        if request.user.is_authenticated:  # the page shows their own ids
            add_never_cache_headers(response)
        return response


def api_url(request: HttpRequest) -> str:
    """Return the URL of the API, on the host name with which the visitor came."""
    return request.build_absolute_uri(reverse("api-v2"))


def _error_rows(errors: Iterable[type[Refusal]], action: Action | None = None) -> list[dict[str, Any]]:
    """Return the rows of a table of errors. With ``action``, their texts name its parameters."""
    return [
        {
            "status": status_of(error),
            "text": action.text_of(error) if action else error.example_text(),
            "code": error.code(),
            "cause": error.cause,
        }
        for error in errors
    ]


def _answer_for_visitor(action: Action, request: HttpRequest, parameters: Mapping[str, str]) -> Any:
    """Return the action's real answer to the visitor. The caller has no key: actions that only read need none."""
    user: Any = request.user
    visitor = Caller(account_id=user.pk, tier=user.tier, api_key_id=0, api_key_prefix="", limit_per_minute=None)
    try:
        return NOTPANEL.as_data(action.handler(visitor, Parameters(parameters.items())))
    except Refusal as refusal:
        return {"error": refusal.text}


def _replace_example_ids(text: str, own: Mapping[str, str]) -> str:
    for example_id, own_id in own.items():
        text = text.replace(example_id, own_id)
    return text
