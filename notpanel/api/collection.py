"""Write the examples of the actions as files of requests, for Postman and for editors.

In both files the key and the example ids are variables, so that a developer sets each once.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from notpanel.api.actions import Action, Example
from notpanel.api.examples import VARIABLES, YOUR_API_KEY

POSTMAN_SCHEMA = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"


def postman(actions: Iterable[Action], url: str) -> dict[str, Any]:
    """Return the examples as a Postman collection (v2.1): a folder for each action, the requests as forms."""
    return {
        "info": {
            "name": "NotPanel API",
            "description": "Set the variable api_key, and the IDs to some of yours.",
            "schema": POSTMAN_SCHEMA,
        },
        "variable": [{"key": name, "value": value} for name, value in _variables(url).items()],
        "item": [
            {
                "name": action.title,
                "description": action.summary,
                "item": [_item(action, example) for example in action.examples],
            }
            for action in actions
        ],
    }


def http_file(actions: Iterable[Action], url: str) -> str:
    """Return the examples as an .http file, which the HTTP clients of editors send. The requests are JSON."""
    variables = "\n".join(f"@{name} = {value}" for name, value in _variables(url).items())
    requests = [
        f"### {action.title}: {example.title}\n"
        "POST {{api_url}}\n"
        "Content-Type: application/json\n\n"
        f"{json.dumps(_parameters(action, example), indent=2, ensure_ascii=False)}\n"
        for action in actions
        for example in action.examples
    ]
    return "\n".join(["# Set api_key, and the IDs to some of yours.", variables + "\n", *requests])


def _variables(url: str) -> Mapping[str, str]:
    return {"api_url": url, "api_key": YOUR_API_KEY, **VARIABLES}


def _parameters(action: Action, example: Example) -> dict[str, str]:
    """Return the body of the example's request, with variables in place of its key and ids."""
    parameters = {"key": "{{api_key}}", "action": action.name, **example.parameters}
    for name, value in VARIABLES.items():
        parameters = {each: text.replace(value, f"{{{{{name}}}}}") for each, text in parameters.items()}
    return parameters


def _item(action: Action, example: Example) -> dict[str, Any]:
    request = {
        "method": "POST",
        "url": "{{api_url}}",
        "body": {
            "mode": "urlencoded",
            "urlencoded": [{"key": name, "value": value} for name, value in _parameters(action, example).items()],
        },
    }
    answer = {
        "name": example.title,
        "originalRequest": request,
        "status": "OK",
        "code": 200,
        "header": [{"key": "Content-Type", "value": "application/json"}],
        "body": json.dumps(example.response, indent=2),
    }
    return {"name": example.title, "request": request, "response": [answer]}
