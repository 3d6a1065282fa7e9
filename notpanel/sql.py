"""Statements written out, for the few places where every request passes and the ORM's objects are not needed."""

from collections.abc import Mapping
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections


def fetch(statement: str, parameters: Mapping[str, Any], using: str = DEFAULT_DB_ALIAS) -> list[tuple[Any, ...]]:
    """Return the rows of a statement, which names its parameters ``%(name)s``."""
    with connections[using].cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall()


def execute(statement: str, parameters: Mapping[str, Any]) -> None:
    """Run a statement that returns no rows."""
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute(statement, parameters)
