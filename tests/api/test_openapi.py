"""GET /api/openapi.json follows the list of actions, and the running API follows it."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from django.test import Client
from openapi_spec_validator import validate

from notpanel.api.errors import status_of
from notpanel.api.openapi import answer_name, describe, request_name
from notpanel.api.schemas import record, row, text
from notpanel.urls import ACTIONS
from tests import factories
from tests.conftest import new_customer
from tests.server import MARKS

pytestmark = MARKS

HERE = Path(__file__).parent


@pytest.fixture
def document(db):
    return Client().get("/api/openapi.json").json()


def schema(document, name):
    return {"$ref": f"#/components/schemas/{name}", "components": document["components"]}


def resolve(document, found):
    name = found.get("$ref", "").rpartition("/")[2]
    return document["components"]["schemas"][name] if name else found


def walk(node, path=""):
    """Yield every object of a document, with its path."""
    if isinstance(node, dict):
        yield path, node
    for name, child in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from walk(child, f"{path}/{name}")


def close(node):
    """Return the document with its records closed, so that validation finds members that it does not describe."""
    if isinstance(node, list):
        return [close(each) for each in node]
    if not isinstance(node, dict):
        return node
    closed = {name: close(child) for name, child in node.items()}
    return {"additionalProperties": False, **closed} if "required" in node and "if" not in node else closed


def test_the_document_is_valid(document):
    validate(document)

    assert document["openapi"].startswith("3.1")
    assert document["servers"] == [{"url": "http://testserver"}]


def test_there_is_one_path_and_the_action_discriminates_its_bodies(document):
    [(path, methods)] = document["paths"].items()
    assert (path, list(methods)) == ("/api/v2", ["post"])
    content = methods["post"]["requestBody"]["content"]
    assert set(content) == {"application/x-www-form-urlencoded", "multipart/form-data", "application/json"}
    for body in content.values():
        assert body["schema"]["discriminator"]["propertyName"] == "action"
        assert set(body["schema"]["discriminator"]["mapping"]) == {action.name for action in ACTIONS}
        assert len(body["schema"]["oneOf"]) == len(ACTIONS)


def test_the_document_lists_every_error_of_every_action_under_its_status(document):
    responses = document["paths"]["/api/v2"]["post"]["responses"]

    for error in {error for action in ACTIONS for error in action.errors}:
        example = responses[str(status_of(error))]["content"]["application/json"]["examples"][error.code()]
        assert example["value"] == {"error": error.example_text()}


@pytest.mark.parametrize(
    ("status", "headers"),
    [("405", {"Allow"}), ("429", {"X-RateLimit-DeniedBy", "Retry-After"}), ("503", {"Retry-After"})],
)
def test_each_error_status_has_its_headers(document, status, headers):
    found = document["paths"]["/api/v2"]["post"]["responses"][status]["headers"]

    assert headers == {name for name, header in found.items() if header["required"]} - {"X-Request-ID", "X-Error-Code"}
    assert found["X-Error-Code"]["required"]


def test_every_request_needs_a_key_and_an_action(document):
    requests = [schema for name, schema in document["components"]["schemas"].items() if name.endswith("Request")]

    assert [schema["required"][:2] for schema in requests] == [["key", "action"]] * len(ACTIONS)
    assert document["paths"]["/api/v2"]["post"]["requestBody"]["required"] is True


def test_the_document_describes_conditional_requests(document):
    operation = document["paths"]["/api/v2"]["post"]

    assert [(parameter["name"], parameter["in"]) for parameter in operation["parameters"]] == [
        ("If-None-Match", "header")
    ]
    for status in ("200", "304"):
        assert {"ETag", "Content-Encoding"} <= operation["responses"][status]["headers"].keys()


def test_answers_may_have_new_members_but_need_the_old_ones():
    described = row("order", record("Made", "", {"a": text("")}, {"b": text("")}))

    def is_valid(answer):
        return jsonschema.Draft202012Validator(described).is_valid(answer)

    assert is_valid({"order": "1", "a": "x"})
    assert is_valid({"order": "1", "a": "x", "b": "y", "c": "new"})
    assert not is_valid({"order": "1", "a": "x", "b": 1})
    assert not is_valid({"a": "x"})
    assert not is_valid({"order": "1"})


def test_no_answer_is_closed(document):
    assert [found for _, found in walk(document) if found.get("additionalProperties") is False] == []


def test_every_field_and_every_named_schema_has_a_description(document):
    schemas = document["components"]["schemas"]
    fields = {
        f"{path}/{name}": field
        for path, found in walk(schemas)
        if "description" in found or "title" in found  # the branches of a condition need no description
        for name, field in found.get("properties", {}).items()
    }

    bare = [name for name, field in fields.items() if not resolve(document, field).get("description")]
    bare += [name for name, found in schemas.items() if not found.get("description")]

    assert bare == []
    assert len(fields) > 100


def test_two_different_schemas_cannot_have_one_name():
    one, other = (record("Made", "", {name: text("")}) for name in ("a", "b"))
    actions = [replace(ACTIONS[0], schema={"anyOf": [one, other]})]

    with pytest.raises(ValueError, match="Two schemas are named Made"):
        describe(actions, "https://panel.example/api/v2")


def test_every_answer_is_named_after_its_action(document):
    for action in ACTIONS:
        assert "$ref" not in document["components"]["schemas"][answer_name(action)]


def test_the_examples_match_the_schemas(document):
    """No example has a member that the document leaves out."""
    operation = document["paths"]["/api/v2"]["post"]
    by_name = {action.name: action for action in ACTIONS}
    closed = close(document)

    for body in operation["requestBody"]["content"].values():
        for example in body["examples"].values():
            jsonschema.validate(example["value"], schema(document, request_name(by_name[example["value"]["action"]])))
    for name, example in operation["responses"]["200"]["content"]["application/json"]["examples"].items():
        jsonschema.validate(example["value"], schema(closed, answer_name(by_name[name.rpartition("-")[0]])))


@pytest.mark.parametrize(
    "body",
    [
        {"order": "1", "orders": "2"},
        {},
        {"order": ""},
        {"orders": " , "},
        {"order": {}},
        {"order": None},
        {"orders": [{}]},
    ],
)
def test_bodies_that_the_api_refuses_do_not_match_the_schema(document, customer, body):
    body = {"key": customer.raw_key, "action": "refill", **body}

    assert Client().post("/api/v2", json.dumps(body), content_type="application/json").status_code == 400
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(body, schema(document, "RefillRequest"))


def test_other_sites_may_read_the_document(db):
    response = Client().get("/api/openapi.json")

    assert response["Access-Control-Allow-Origin"] == "*"
    assert response["Content-Type"] == "application/json"


def test_the_document_cannot_be_posted_to(db):
    response = Client().post("/api/openapi.json")

    assert (response.status_code, response.json()) == (405, {"error": "Method not allowed"})


def test_schemathesis_finds_no_mismatch(transactional_db, server, tmp_path):
    customer = new_customer()
    for number in range(1, 4):
        factories.Order(account=customer.account, number=number)
    command = [Path(sys.executable).parent / "schemathesis", "--config-file", HERE / "schemathesis.toml", "run"]
    command += [f"{server}/api/openapi.json", "--checks", "all", "--max-examples", "100", "--no-color"]
    environment = {"API_KEY": customer.raw_key, "SCHEMATHESIS_HOOKS": "tests.api.schemathesis_hooks"}
    root = str(HERE.parent.parent)

    run = subprocess.run(
        command,
        cwd=tmp_path,  # where it stores what it found
        env=os.environ | environment | {"PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert int(re.search(r"(\d+) generated", run.stdout)[1]) > 200
