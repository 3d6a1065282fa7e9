"""Statements written out, for the few places where every request passes and the ORM's objects are not needed."""

from collections.abc import Mapping
from typing import Any

import psycopg
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.utils import CursorWrapper


def fetch(statement: str, parameters: Mapping[str, Any], using: str = DEFAULT_DB_ALIAS) -> list[tuple[Any, ...]]:
    """Return the rows of a statement, which names its parameters ``%(name)s``, or ``%(name)b`` for a binary one."""
    with _cursor(using) as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall()


def execute(statement: str, parameters: Mapping[str, Any]) -> None:
    """Run a statement that returns no rows."""
    with _cursor(DEFAULT_DB_ALIAS) as cursor:
        cursor.execute(statement, parameters)


def _cursor(using: str) -> CursorWrapper:
    # Not Django's own, which writes the parameters into the text: psycopg prepares what a connection runs often, and
    # PostgreSQL plans it once. But where statements are logged, to be read, they shall hold them.
    connection = connections[using]
    if connection.queries_logged:
        return connection.cursor()
    connection.ensure_connection()
    cursor = psycopg.Cursor(connection.connection)
    cursor.format = psycopg.pq.Format.BINARY  # of the rows
    return CursorWrapper(cursor, connection)
