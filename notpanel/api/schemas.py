"""The pieces of JSON Schema that the descriptions of actions are made of."""

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

# An id in any form that is read, see notpanel/kit/public_id.py: it stands in answers as it was sent.
AS_SENT: Schema = {"type": "string"}


def record(fields: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """Return the schema of an object that has all of ``fields``, maybe those of ``optional``, and nothing else."""
    return {
        "type": "object",
        "properties": {**fields, **(optional or {})},
        "required": list(fields),
        "additionalProperties": False,
    }


ERROR = record({"error": {"type": "string"}})


def row(name: str, schema: Schema) -> Schema:
    """Return the schema of a batch's row: the id as it was sent under ``name``, and what ``schema`` has."""
    return {
        **schema,
        "properties": {name: AS_SENT, **schema["properties"]},
        "required": [name, *schema["required"]],
    }
