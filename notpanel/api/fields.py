"""Describe the members of answers in prose, from the JSON Schema of an action, for the developers' pages."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from notpanel.api.schemas import Schema


class Field(NamedTuple):
    """A member of an answer. ``values`` are all its possible values, if they are known."""

    name: str
    type: str
    always: bool
    description: str
    values: tuple[Any, ...]


class Shape(NamedTuple):
    """One form of an answer, with a title that says when it is given."""

    title: str
    fields: list[Field]


def shapes(schema: Schema) -> list[Shape]:
    """Return the forms of an answer: an object, an array of rows, and an object of them that is keyed by ids."""
    alternatives = list(_alternatives(schema))
    forms = {
        "An object": [each for each in alternatives if "properties" in each],
        "An array; each of its rows": [
            row for each in alternatives if each["type"] == "array" for row in _alternatives(each["items"])
        ],
        "An object keyed by the IDs as sent; each of its values": [
            value
            for each in alternatives
            if "additionalProperties" in each and "properties" not in each
            for value in _alternatives(each["additionalProperties"])
        ],
    }
    return [Shape(title, _fields(records)) for title, records in forms.items() if records]


def _alternatives(schema: Schema) -> Iterator[Schema]:
    """Yield the schemas that ``schema`` is one of, which may be itself."""
    for keyword in ("oneOf", "anyOf"):
        if keyword in schema:
            for each in schema[keyword]:
                yield from _alternatives(each)
            return
    yield schema


def _fields(records: Iterable[Schema], prefix: str = "") -> list[Field]:
    """Return the members of objects that have one of the schemas ``records``, those of their rows included."""
    records = list(records)
    members: dict[str, Schema] = {}
    for each in records:
        for name, schema in each["properties"].items():
            # Of two that differ, one may be without a description.
            members[name] = {**schema, **members.get(name, {})}
    found = []
    for name, schema in members.items():
        always = all(name in each["required"] for each in records)
        found.append(Field(prefix + name, _type(schema), always, schema.get("description", ""), _values(schema)))
        if "properties" in schema.get("items", {}):
            found += _fields([schema["items"]], f"{prefix}{name}[].")
    return found


def _type(schema: Schema) -> str:
    kinds = schema["type"]
    return kinds if isinstance(kinds, str) else " or ".join(kinds)


def _values(schema: Schema) -> tuple[Any, ...]:
    items = schema.get("items", {})
    return tuple(schema.get("enum") or items.get("enum") or ([schema["const"]] if "const" in schema else []))
