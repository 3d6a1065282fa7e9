"""Pieces of JSON Schema, with which actions describe their answers."""

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

# An answer repeats an id as the client sent it, in any form that notpanel/kit/public_id.py reads: an integer of JSON as
# an integer.
AS_SENT: Schema = {"type": ["string", "integer"]}


def record(fields: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """Return the schema of an object with all of ``fields``, any of ``optional``, and no other members."""
    return {
        "type": "object",
        "properties": {**fields, **(optional or {})},
        "required": list(fields),
        "additionalProperties": False,
    }


ERROR = record({"error": {"type": "string"}})
# What a row of a batch has instead of an answer; the code if the request had codes=1.
REFUSED = record({"error": {"type": "string"}}, {"code": {"type": "string"}})


def row(name: str, schema: Schema) -> Schema:
    """Return the schema of a row of a batch: ``schema`` with the id as it was sent, under ``name``."""
    return {
        **schema,
        "properties": {name: AS_SENT, **schema["properties"]},
        "required": [name, *schema["required"]],
    }
