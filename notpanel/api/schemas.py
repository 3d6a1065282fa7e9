"""Pieces of JSON Schema, with which actions describe their answers.

The OpenAPI document names a schema by its title, if it has one. Every field has a description; a test checks that.
"""

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]


def text(description: str, **keywords: Any) -> Schema:
    """Return the schema of a string."""
    return {"type": "string", "description": description, **keywords}


def integer(description: str, **keywords: Any) -> Schema:
    """Return the schema of an integer."""
    return {"type": "integer", "description": description, **keywords}


def boolean(description: str) -> Schema:
    """Return the schema of true or false."""
    return {"type": "boolean", "description": description}


def or_null(schema: Schema) -> Schema:
    """Return the schema of what ``schema`` describes, or null."""
    return {**schema, "type": [schema["type"], "null"]}


def record(
    title: str, description: str, fields: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None
) -> Schema:
    """Return the schema of an object with all of ``fields`` and any of ``optional``.

    It is open: answers may get new members (docs/contract.md), which the programs of today must accept.
    """
    return {
        "title": title,
        "description": description,
        "type": "object",
        "properties": {**fields, **(optional or {})},
        "required": list(fields),
    }


_ERROR_TEXT = text("Why the request was refused, in words. Texts may carry figures, so programs compare codes.")
_ROW_ERROR = {"error": text("Why it was refused, in words.")}
_ROW_CODE = {"code": text("The code of the error, if the request had codes=1.")}

ERROR = record("Error", "A refused request. The header X-Error-Code has the code of the error.", {"error": _ERROR_TEXT})
# What a member of a batch that is keyed by ids has instead of an answer.
REFUSED = record("Refused", "One ID of a batch that was refused.", _ROW_ERROR, _ROW_CODE)


def row(name: str, schema: Schema) -> Schema:
    """Return the schema of a row of a batch: ``schema`` with the id as it was sent, under ``name``."""
    # The id comes in any form that notpanel/kit/public_id.py reads: an integer of JSON as an integer.
    sent = {"type": ["string", "integer"], "description": f"The ID of the {name}, as you sent it."}
    return {
        **schema,
        "title": schema["title"] + "Row",
        "properties": {name: sent, **schema["properties"]},
        "required": [name, *schema["required"]],
    }


def rows(name: str, schema: Schema, **keywords: Any) -> Schema:
    """Return the schema of the answer to a batch: a row for each id, either of ``schema`` or refused."""
    refused = record(f"Refused{name.title()}", f"A row of a batch whose {name} was refused.", _ROW_ERROR, _ROW_CODE)
    return {"type": "array", **keywords, "items": {"anyOf": [row(name, schema), row(name, refused)]}}
