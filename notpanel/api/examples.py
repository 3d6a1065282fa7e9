"""Write a request as a program, in each of the languages that the developers' pages show."""

import functools
import json
from collections.abc import Callable, Mapping
from urllib.parse import quote

from django.conf import settings

YOUR_API_KEY = "YOUR_API_KEY"
# A visitor who is signed in sees ids of their own instead: an order, a refill, and orders that may be refilled.
ORDER, REFILL = "ord_01HG9X7KJP4NV8QZ2M6T3W5YBC", "ref_01HG9XAZQM7C2V4K8R5T1W9YDE"
REFILLABLE_ORDER, ANOTHER_REFILLABLE_ORDER = "ord_01HG9X7KJP4NV8QZ2M6T3W5YBE", "ord_01HG9X7KJP4NV8QZ2M6T3W5YBF"
# These belong to nobody, so everybody sees them.
UNKNOWN_ORDER, UNKNOWN_REFILL = "ord_01HG9X7KJP4NV8QZ2M6T3W5YBD", "ref_01HG9XAZQM7C2V4K8R5T1W9YDF"
NEW_REFILL = "ref_01HG9XC4T2B8N6K1V5R9W3QYMA"
WEBHOOK = "whk_01HG9XD5V6Q2M8R4T7W1Y3ZKNB"
# The names of the ids that developers replace with their own in the files of requests (notpanel/api/collection.py).
VARIABLES = {
    "order": ORDER,
    "refill": REFILL,
    "refillable_order": REFILLABLE_ORDER,
    "another_refillable_order": ANOTHER_REFILLABLE_ORDER,
    "webhook": WEBHOOK,
}
FORM = "application/x-www-form-urlencoded"
# Programs that the pages print and the tests run unchanged: the files' folder and name in templates/developers.
RECEIVERS, LOOPS = "receivers/receiver", "loops/again"
EXTENSIONS = {"JavaScript": "mjs", "Python": "py", "PHP": "php", "Ruby": "rb"}


def in_every_language(url: str, parameters: Mapping[str, str]) -> dict[str, str]:
    """Return the programs that POST ``parameters`` to ``url``, keyed by the names of their languages."""
    return {language: write(url, parameters) for language, write in LANGUAGES.items()}


@functools.cache
def printed(programs: str) -> dict[str, str]:
    """Return ``programs`` (RECEIVERS or LOOPS), keyed by the names of their languages."""
    directory = settings.BASE_DIR / "templates" / "developers"
    return {language: (directory / f"{programs}.{ext}").read_text() for language, ext in EXTENSIONS.items()}


def curl(url: str, parameters: Mapping[str, str]) -> str:
    body = "&".join(f"{name}={quote(value, safe=',')}" for name, value in parameters.items())
    return f'curl -X POST {url} \\\n  -H "Content-Type: {FORM}" \\\n  -d "{body}"'


def javascript(url: str, parameters: Mapping[str, str]) -> str:
    return f"""const res = await fetch({json.dumps(url)}, {{
  method: "POST",
  headers: {{ "Content-Type": "{FORM}" }},
  body: new URLSearchParams({{
{_members(parameters, "    {name}: {value},", json.dumps)}
  }}),
}});
const data = await res.json();
console.log(data);"""


def python(url: str, parameters: Mapping[str, str]) -> str:
    return f"""import requests

res = requests.post(
    {json.dumps(url)},
    data={{
{_members(parameters, '        "{name}": {value},', json.dumps)}
    }},
)
print(res.json())"""


def php(url: str, parameters: Mapping[str, str]) -> str:
    return f"""<?php
$body = http_build_query([
{_members(parameters, "    '{name}' => {value},", _php_string)}
]);
$response = file_get_contents({_php_string(url)}, false, stream_context_create([
    'http' => [
        'method' => 'POST',
        'header' => "Content-Type: {FORM}\\r\\n",
        'content' => $body,
        'ignore_errors' => true,
    ],
]));
print_r(json_decode($response, true));"""


LANGUAGES: dict[str, Callable[[str, Mapping[str, str]], str]] = {
    "curl": curl,
    "JavaScript": javascript,
    "Python": python,
    "PHP": php,
}


def _members(parameters: Mapping[str, str], line: str, write: Callable[[str], str]) -> str:
    return "\n".join(line.format(name=name, value=write(value)) for name, value in parameters.items())


def _php_string(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
