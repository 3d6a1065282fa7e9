"""Describe the API in OpenAPI 3.1, from its actions and its errors."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from notpanel.api.actions import Action, Example
from notpanel.api.bodies import MEDIA_TYPES
from notpanel.api.errors import SHARED_ERRORS, status_of
from notpanel.api.examples import YOUR_API_KEY
from notpanel.api.parameters import BRACKETS, INVISIBLE, QUOTES, SEPARATORS, Parameter
from notpanel.api.schemas import ERROR, Schema
from notpanel.kit.refusals import Refusal

VERSION = "2.0.0"  # of the API, not of NotPanel

# The characters that are never part of an id, for a character class. The API reads any scalar as text, and text that
# has nothing else as missing (docs/contract.md, "Reading parameters").
_NO_PART = rf"\s\x1c-\x1f\x85#{re.escape(SEPARATORS + QUOTES + BRACKETS)}{INVISIBLE}"
_SCALARS = ["string", "integer", "number", "boolean"]
_SCALAR: Schema = {"type": [*_SCALARS, "null"]}
_SCALARS_OR_LIST: Schema = {"type": [*_SCALARS, "null", "array"], "items": {"type": _SCALARS}}
_ID: Schema = {"type": _SCALARS, "pattern": f"[^{_NO_PART}]"}
_IDS: Schema = {"type": [*_SCALARS, "array"], "pattern": f"[^{_NO_PART}]"}
_NO_ID: Schema = {"type": ["string", "null"], "pattern": f"^[{_NO_PART}]*$"}

Headers = Mapping[str, tuple[str, str]]  # from the name of a header to its description and type

_NO_HEADERS: Headers = {}
_REQUEST_ID = {"X-Request-ID": ("The id of this request in our log: the one that you sent, or a random one.", "string")}
RATE_LIMIT_HEADERS = {
    "X-RateLimit-Limit": ("The limit that has the least left, in requests per minute.", "integer"),
    "X-RateLimit-Remaining": ("How many requests that limit has left in this window.", "integer"),
    "X-RateLimit-Reset": ("When its next window begins, in Unix seconds.", "integer"),
    "X-RateLimit-Tier-Remaining": ("How many requests your account's limit has left in this window.", "integer"),
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
                            # Clients made by openapi-python-client send the last of these: a form, which can have
                            # lists.
                            for media_type in reversed(MEDIA_TYPES)
                        },
                    },
                    "responses": _responses(actions),
                }
            }
        },
        "components": {
            "schemas": {
                **{request_name(action): request_schema(action) for action in actions},
                **_answer_schemas(actions),
            }
        },
    }


def request_schema(action: Action) -> dict[str, Any]:
    """Return the JSON Schema of the body of the action's requests."""
    key, name, *needed = action.required
    schema: dict[str, Any] = {
        "type": "object",
        "description": f"{action.title}. {action.summary}",
        "properties": {
            key.name: {"type": key.type, "description": key.description},
            name.name: {"type": name.type, "const": action.name, "description": name.description},
            **{each.name: {"type": each.type, "description": each.description} for each in needed},
        },
        "required": [each.name for each in action.required],
    }
    if action.ids:
        schema["properties"] |= {
            each.name: {**(_SCALARS_OR_LIST if each.is_list else _SCALAR), "description": each.description}
            for each in action.ids.parameters
        }
        schema |= _exactly_one(list(action.ids.parameters))
    schema["properties"] |= {
        option.name: {**(_SCALARS_OR_LIST if option.is_list else _SCALAR), "description": option.description}
        for option in action.options
    }
    return schema


def _exactly_one(parameters: list[Parameter]) -> dict[str, Any]:
    """Return the schema of bodies in which one of ``parameters`` has ids. Generators of types ignore if and else."""
    first, *others = parameters
    given = {"required": [first.name], "properties": {first.name: _IDS if first.is_list else _ID}}
    if not others:
        return given
    otherwise = _exactly_one(others)
    otherwise["properties"] = {first.name: _NO_ID, **otherwise.get("properties", {})}
    return {"if": given, "then": {"properties": {each.name: _NO_ID for each in others}}, "else": otherwise}


def _answer_schemas(actions: list[Action]) -> dict[str, Any]:
    """Return the schemas of the answers by their names, and beside them the titled schemas that they contain.

    Raises ValueError if two different schemas have the same title.
    """
    titled: dict[str, Any] = {}

    def refer(schema: Any) -> Any:
        if isinstance(schema, list):
            return [refer(each) for each in schema]
        if not isinstance(schema, Mapping):
            return schema
        plain = {keyword: refer(value) for keyword, value in schema.items() if keyword != "title"}
        if "title" not in schema:
            return plain
        if titled.setdefault(schema["title"], plain) != plain:
            raise ValueError(f"Two schemas are named {schema['title']}.")
        return {"$ref": f"#/components/schemas/{schema['title']}"}

    answers = {
        answer_name(action): {"description": f"The answer to {action.name}.", **refer(action.schema)}
        for action in actions
    }
    refer(ERROR)
    return answers | titled  # a record that is a whole answer has its name as its title


def _members_needed(schema: Schema) -> int:
    """Return the largest number of required members of an object in ``schema``."""
    inner = [*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else [])]
    return max(len(schema.get("required", ())), *map(_members_needed, inner), 0)


def _responses(actions: list[Action]) -> dict[str, Any]:
    by_status: dict[int, list[type[Refusal]]] = {}
    for error in dict.fromkeys([*(error for action in actions for error in action.errors), *SHARED_ERRORS]):
        by_status.setdefault(status_of(error), []).append(error)
    # Programs try the answers in this order and take the first that fits, so the one with most required members is
    # first.
    by_need = sorted(actions, key=lambda action: _members_needed(action.schema), reverse=True)
    answers = [{"$ref": f"#/components/schemas/{answer_name(action)}"} for action in by_need]
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
