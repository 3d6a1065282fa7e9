"""The API's public pages, made from the registry of actions: they know no app but through what urls.py hands them."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import URLPattern, path, reverse
from django.utils.cache import add_never_cache_headers
from django.views.decorators.http import require_safe

from notpanel.api import examples, openapi
from notpanel.api.actions import Action
from notpanel.api.errors import SHARED_ERRORS, RateLimitExceeded, status_of
from notpanel.api.parameters import LARGEST_BATCH, Parameters
from notpanel.api.view import LARGEST_BODY
from notpanel.kit.caller import AccountSuspended, Caller, InvalidApiKey
from notpanel.kit.refusals import Refusal

# Given an account's id: its own ids, by the id of the examples that each is shown instead of.
OwnIds = Callable[[int], Mapping[str, str]]


class Developers:
    """The pages. ``actions`` is the registry; ``own_ids`` knows ids of the visitor's own for the examples."""

    def __init__(self, actions: tuple[Action, ...], own_ids: OwnIds) -> None:
        self.actions = {action.name: action for action in actions}
        self.own_ids = own_ids

    @property
    def urls(self) -> list[URLPattern]:
        pages = [
            path(f"{name}/", self._page(name), name=name)
            for name in ("authentication", "rate-limits", "errors", "changelog")
        ]
        return [
            path("", self._page("index"), name="index"),
            *pages,
            path("reference/", require_safe(self.reference), name="reference"),
            path("<str:name>/", require_safe(self.action), name="action"),
        ]

    def action(self, request: HttpRequest, name: str) -> HttpResponse:
        """Show an action: its parameters, its examples, what it answers, its errors."""
        action = self.actions.get(name)
        if action is None:
            raise Http404
        own = self.own_ids(request.user.pk) if request.user.is_authenticated else {}
        shown = []
        for example in action.examples:
            parameters = {name: _with_own_ids(value, own) for name, value in example.parameters.items()}
            sent = {"key": examples.YOUR_API_KEY, "action": action.name, **parameters}
            is_own = parameters != example.parameters
            response = _answer(action, request, parameters) if is_own and action.shown_live else example.response
            shown.append(
                {
                    "title": example.title,
                    "parameters": parameters,
                    "programs": examples.in_every_language(api_url(request), sent),
                    "response": _with_own_ids(json.dumps(response, indent=2), own),
                }
            )
        return self._render(
            request,
            "action",
            {
                "action": action,
                "examples": shown,
                "errors": _rows(action.errors, action),
                "shared_errors": _rows(action.shared_errors, action),
            },
        )

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

    def _page(self, name: str) -> Callable[[HttpRequest], HttpResponse]:
        return require_safe(lambda request: self._render(request, name, {}))

    def _render(self, request: HttpRequest, name: str, context: dict[str, Any]) -> HttpResponse:
        shared = {
            "actions": self.actions.values(),
            "api_url": api_url(request),
            "page_name": name,
            "limits": {
                "ip": settings.RATE_LIMIT_IP,
                "key": settings.RATE_LIMIT_KEY,
                "tiers": settings.RATE_LIMIT_TIERS,
            },
            "largest_batch": LARGEST_BATCH,
            "largest_body": LARGEST_BODY // 1024,
            "all_errors": _rows(SHARED_ERRORS),
            "errors_of_keys": _rows((InvalidApiKey, AccountSuspended)),
            "errors_of_limits": _rows((RateLimitExceeded,)),
            "limit_headers": {**openapi.RATE_LIMIT_HEADERS, **openapi.HEADERS_OF[429]},
        }
        response = render(request, f"developers/{name}.html", shared | context)
        if request.user.is_authenticated:  # nothing of theirs is kept
            add_never_cache_headers(response)
        return response


def api_url(request: HttpRequest) -> str:
    """Return the address of the API as this visitor would write it."""
    return request.build_absolute_uri(reverse("api-v2"))


def _rows(found: Iterable[type[Refusal]], action: Action | None = None) -> list[dict[str, Any]]:
    """Return the rows of a table of errors, those of an action with the names of its parameters."""
    return [
        {
            "status": status_of(error),
            "text": action.text_of(error) if action else error.example_text(),
            "cause": error.cause,
        }
        for error in found
    ]


def _answer(action: Action, request: HttpRequest, parameters: Mapping[str, str]) -> Any:
    """Return what the action answers to the visitor, without a key: nothing that only reads looks at it."""
    user: Any = request.user
    visitor = Caller(account_id=user.pk, tier=user.tier, api_key_id=0, api_key_prefix="", limit_per_minute=None)
    try:
        return action.handler(visitor, Parameters(parameters))
    except Refusal as refusal:
        return {"error": refusal.text}


def _with_own_ids(text: str, own: Mapping[str, str]) -> str:
    for example_id, own_id in own.items():
        text = text.replace(example_id, own_id)
    return text
