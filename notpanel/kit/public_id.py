"""The ids that clients see: ``ord_`` or ``ref_`` and a ULID, stored as a uuid.

Every model with such an id also has a ``number``, because many v2 clients hold ids as integers. Wherever an id is
read, its number is taken as well (docs/contract.md, "Ids").
"""

import functools
import re
import uuid
from collections.abc import Iterable
from typing import Any, Self, TypeVar

from django.core.exceptions import ValidationError
from django.db import models
from ulid import ULID

LONGEST = 64  # characters of an id as clients may send it
LARGEST_NUMBER = 2**63 - 1  # the largest bigint of PostgreSQL
_ULID = re.compile("[0-7][0-9A-HJKMNP-TV-Z]{25}")  # 128 bits in Crockford's base 32
# From the digits of Crockford's base 32 to those that int() reads.
_AS_INT_READS = str.maketrans("0123456789ABCDEFGHJKMNPQRSTVWXYZ", "0123456789abcdefghijklmnopqrstuv")

M = TypeVar("M", bound=models.Model)


def generate(prefix: str) -> str:
    """Return a new id such as ``ord_01HG9X7KJP4N…``. Ids sort by the time at which they were generated."""
    return f"{prefix}_{ULID()}"


def parse(prefix: str, text: str) -> str | int | None:
    """Read an id that a client sent.

    Returns the id in its canonical form (the ULID in upper case), the number as an int, or None if ``text`` cannot be
    an id.
    """
    text = text.strip()
    if not text.isascii() or len(text) > LONGEST:
        return None
    if text.isdigit():
        if text[0] == "0":  # a piece of a number that was split at its thousands separators
            return None
        number = int(text)
        return number if number <= LARGEST_NUMBER else None
    head, _, tail = text.partition("_")
    if head.lower() != prefix or not _ULID.fullmatch(tail.upper()):
        return None
    return f"{prefix}_{tail.upper()}"


@functools.lru_cache(2048)  # a batch converts each of its ids several times
def to_uuid(identifier: str) -> uuid.UUID:
    """Return the uuid under which the database stores an id that ``parse`` or ``generate`` returned."""
    return uuid.UUID(int=int(identifier.rpartition("_")[2].translate(_AS_INT_READS), 32))


def from_uuid(prefix: str, value: uuid.UUID) -> str:
    """Return the id that the database stores as ``value``."""
    return f"{prefix}_{ULID.from_bytes(value.bytes)}"


def uuids_and_numbers(references: Iterable[str | int | None]) -> tuple[list[uuid.UUID], list[int]]:
    """Return what ``parse`` returned as the parameters of a statement: ids as the database has them, and numbers."""
    names = set(references)
    return (
        [to_uuid(name) for name in names if isinstance(name, str)],
        [name for name in names if isinstance(name, int)],
    )


class PublicIdField(models.UUIDField):
    """A ULID with a prefix: text such as ``ord_01HG…`` in Python, a uuid in the database."""

    # These tell django-stubs the type of the values.
    _pyi_private_set_type: str
    _pyi_private_get_type: str  # type: ignore[assignment]
    _pyi_lookup_exact_type: str

    description = "A ULID with a prefix, stored as a uuid"

    def __init__(self, *args: Any, prefix: str, **kwargs: Any) -> None:
        self.prefix = prefix
        kwargs.setdefault("default", functools.partial(generate, prefix))
        kwargs.setdefault("editable", False)
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> tuple[str, str, Any, Any]:
        name, path, args, kwargs = super().deconstruct()
        del kwargs["default"], kwargs["editable"]
        return name, path, args, {**kwargs, "prefix": self.prefix}

    def from_db_value(self, value: uuid.UUID | None, expression: Any, connection: Any) -> str | None:
        return None if value is None else from_uuid(self.prefix, value)

    def to_python(self, value: Any) -> str | None:
        if value is None:
            return None
        if isinstance(value, uuid.UUID):
            return self.from_db_value(value, None, None)
        identifier = parse(self.prefix, str(value))
        if not isinstance(identifier, str):
            raise ValidationError(f"“{value}” is not an id that starts with {self.prefix}_.", code="invalid")
        return identifier

    def get_prep_value(self, value: Any) -> uuid.UUID | None:
        if value is None or isinstance(value, uuid.UUID):
            return value
        identifier = self.to_python(value)
        return None if identifier is None else to_uuid(identifier)

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        return value if prepared else self.get_prep_value(value)

    def value_to_string(self, obj: models.Model) -> str:
        return str(self.value_from_object(obj))


class PublicIdQuerySet(models.QuerySet[M]):
    """The queryset of models that have a PublicIdField as their primary key, and a ``number``."""

    def named(self, references: Iterable[str | int | None]) -> Self:
        """Return the rows that ``references`` name: ids and numbers, as ``parse`` returned them; None names none."""
        names = set(references)
        ids = sorted(name for name in names if isinstance(name, str))
        numbers = sorted(name for name in names if isinstance(name, int))
        if not numbers:
            return self.filter(pk__in=ids)
        if not ids:
            return self.filter(number__in=numbers)
        return self.filter(models.Q(pk__in=ids) | models.Q(number__in=numbers))
