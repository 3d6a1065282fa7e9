"""Describe the API in OpenAPI 3.1, from its actions and its errors."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from notpanel.api.actions import Action, Example
from notpanel.api.bodies import MEDIA_TYPES
from notpanel.api.errors import SHARED_ERRORS, status_of
from notpanel.api.examples import YOUR_API_KEY
from notpanel.api.parameters import BRACKETS, INVISIBLE, LARGEST_BATCH, QUOTES, SEPARATORS
from notpanel.api.schemas import ERROR, Schema
from notpanel.kit.refusals import Refusal

VERSION = "2.0.0"  # of the API, not of NotPanel

# What is no part of an id, for a character class. The API reads any scalar as text, and a text of nothing else as
# missing (docs/contract.md, "Reading parameters").
_NO_PART = rf"\s\x1c-\x1f\x85#{re.escape(SEPARATORS + QUOTES + BRACKETS)}{INVISIBLE}"
_ID: Schema = {"type": ["string", "integer", "number", "boolean"], "pattern": f"[^{_NO_PART}]"}
_IDS: Schema = {"anyOf": [_ID, {"type": "array", "items": {"type": ["string", "integer", "number", "boolean"]}}]}
_SCALAR: Schema = {"type": ["string", "integer", "number", "boolean", "null"]}
_NO_ID: Schema = {"type": ["string", "null"], "pattern": f"^[{_NO_PART}]*$"}

Headers = Mapping[str, tuple[str, str]]  # from the name of a header to its description and type

_NO_HEADERS: Headers = {}
_REQUEST_ID = {"X-Request-ID": ("The id of this request in our log: the one that you sent, or a random one.", "string")}
RATE_LIMIT_HEADERS = {
    "X-RateLimit-Limit": ("The limit that has the least left, in requests per minute.", "integer"),
    "X-RateLimit-Remaining": ("How many requests are left of it in this window.", "integer"),
    "X-RateLimit-Reset": ("When its next window begins, in Unix seconds.", "integer"),
    "X-RateLimit-Tier-Remaining": ("How many requests are left of your account's limit in this window.", "integer"),
}
_ERROR_CODE = {"X-Error-Code": ("The name of the error for programs. It never changes.", "string")}
_REPLAY = {"X-Idempotent-Replay": ("true: the first answer to this request_id was sent again.", "string")}
_RETRY_AFTER = {"Retry-After": ("On a 429 and a 503: how many seconds to wait.", "integer")}
# The headers that answers with these statuses have in addition.
HEADERS_OF: Mapping[int, Headers] = {
    405: {"Allow": ("The methods that this address allows.", "string")},
    429: {
        "X-RateLimit-DeniedBy": ("On a 429: which limit is spent, ip, key or tier.", "string"),
        **_RETRY_AFTER,
    },
    503: _RETRY_AFTER,
}
# The next two are for actions whose answers are prepared.
_IF_NONE_MATCH: Schema = {
    "name": "If-None-Match",
    "in": "header",
    "description": "The ETag of an answer that you keep.",
    "schema": {"type": "string"},
}
_HEADERS_OF_PREPARED = {
    "ETag": ("Identifies the answer. Only answers that you may keep have one.", "string"),
    "Content-Encoding": ("gzip, if you accept it and the answer has an ETag.", "string"),
}


def describe(actions: Iterable[Action], url: str) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the API at ``url``, such as ``https://panel.example/api/v2``."""
    actions = list(actions)
    server, path = url.removesuffix("/api/v2"), "/api/v2"
    requests = {action.name: request_name(action) for action in actions}
    body = {
        "oneOf": [{"$ref": f"#/components/schemas/{name}"} for name in requests.values()],
        "discriminator": {
            "propertyName": "action",
            "mapping": {action: f"#/components/schemas/{name}" for action, name in requests.items()},
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "NotPanel API",
            "version": VERSION,
            "summary": "Orders, services and refills for resellers' programs.",
            "description": (
                "Every request is a POST to one address. Its body has the parameter action, which says what you want, "
                "and the parameter key, which says who you are. Every answer is JSON. Every error is an object with "
                "the single member error, and has its code in the header X-Error-Code. A key may be set to answer as "
                "most panels do; that is not described here."
            ),
        },
        "servers": [{"url": server}],
        "paths": {
            path: {
                "post": {
                    "operationId": "request",
                    "summary": "Run the action that the body names.",
                    "parameters": [_IF_NONE_MATCH],
                    "requestBody": {
                        "required": True,
                        "content": {
                            media_type: {"schema": body, "examples": _examples(actions, _request)}
                            for media_type in MEDIA_TYPES
                        },
                    },
                    "responses": _responses(actions),
                }
            }
        },
        "components": {
            "schemas": {
                **{request_name(action): request_schema(action) for action in actions},
                **{answer_name(action): dict(action.schema) for action in actions},
                "Error": ERROR,
            }
        },
    }


def request_schema(action: Action) -> dict[str, Any]:
    """Return the JSON Schema of the body of the action's requests."""
    key, name, *needed = action.required
    schema: dict[str, Any] = {
        "type": "object",
        "title": action.title,
        "description": action.summary,
        "properties": {
            key.name: {"type": key.type, "description": key.description},
            name.name: {"type": name.type, "const": action.name, "description": name.description},
            **{each.name: {"type": each.type, "description": each.description} for each in needed},
        },
        "required": [each.name for each in action.required],
    }
    if action.ids:
        schema["properties"] |= {each.name: {"description": each.description} for each in action.ids.parameters}
        schema["oneOf"] = [
            {
                "title": f"Up to {LARGEST_BATCH}: {given.name}" if given.is_list else f"One: {given.name}",
                "properties": {
                    each.name: _NO_ID if each != given else _IDS if each.is_list else _ID
                    for each in action.ids.parameters
                },
                "required": [given.name],
            }
            for given in action.ids.parameters
        ]
    schema["properties"] |= {option.name: {**_SCALAR, "description": option.description} for option in action.options}
    return schema


def _responses(actions: list[Action]) -> dict[str, Any]:
    by_status: dict[int, list[type[Refusal]]] = {}
    for error in dict.fromkeys([*(error for action in actions for error in action.errors), *SHARED_ERRORS]):
        by_status.setdefault(status_of(error), []).append(error)
    answers = [{"$ref": f"#/components/schemas/{answer_name(action)}"} for action in actions]
    return {
        "200": _response(
            "Success. Rows of a batch may still have errors of their own.",
            {"anyOf": answers},
            _examples(actions, lambda action, example: example.response),
            optional={**_HEADERS_OF_PREPARED, **_REPLAY},
        ),
        "304": {
            "description": "The answer is the one whose ETag you sent as If-None-Match. There is no body.",
            "headers": _headers(_REQUEST_ID, RATE_LIMIT_HEADERS | _HEADERS_OF_PREPARED),
        },
        **{
            str(status): _refused(found, HEADERS_OF.get(status, _NO_HEADERS))
            for status, found in sorted(by_status.items())
        },
    }


def _refused(errors: list[type[Refusal]], headers: Headers) -> dict[str, Any]:
    """Return the response with one of ``errors``, which share a status. Its examples are named by their codes."""
    response = _response(
        errors[0].cause if len(errors) == 1 else "Refused: error says why.",
        {"$ref": "#/components/schemas/Error"},
        {error.code(): {"summary": error.cause, "value": {"error": error.example_text()}} for error in errors},
        _ERROR_CODE | dict(headers),
    )
    response["headers"]["X-Error-Code"]["schema"]["enum"] = [error.code() for error in errors]
    return response


def _response(
    description: str, schema: Schema, shown: Schema, required: Headers = _NO_HEADERS, optional: Headers = _NO_HEADERS
) -> dict[str, Any]:
    return {
        "description": description,
        "headers": _headers({**_REQUEST_ID, **required}, {**RATE_LIMIT_HEADERS, **optional}),
        "content": {"application/json": {"schema": schema, "examples": shown}},
    }


def _headers(required: Headers, optional: Headers) -> dict[str, Any]:
    return {
        name: {"description": meaning, "required": name in required, "schema": {"type": kind}}
        for name, (meaning, kind) in {**required, **optional}.items()
    }


def _examples(actions: list[Action], value: Callable[[Action, Example], Any]) -> dict[str, Any]:
    return {
        f"{action.name}-{number}": {"summary": f"{action.title}: {example.title}", "value": value(action, example)}
        for action in actions
        for number, example in enumerate(action.examples, 1)
    }


def _request(action: Action, example: Example) -> dict[str, str]:
    return {"key": YOUR_API_KEY, "action": action.name, **example.parameters}


def request_name(action: Action) -> str:
    """Return the name of the schema of the action's requests."""
    return _title(action) + "Request"


def answer_name(action: Action) -> str:
    """Return the name of the schema of the action's answers."""
    return _title(action) + "Answer"


def _title(action: Action) -> str:
    return re.sub("[_.]", "", action.name.title())
