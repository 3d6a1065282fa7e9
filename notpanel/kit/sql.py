"""Run SQL that is written out, for the few statements that every request runs and that need no ORM objects."""

from collections.abc import Mapping
from typing import Any

import psycopg
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.utils import CursorWrapper


def fetch(statement: str, parameters: Mapping[str, Any], using: str = DEFAULT_DB_ALIAS) -> list[tuple[Any, ...]]:
    """Run a statement and return its rows.

    The statement names its parameters ``%(name)s``, or ``%(name)b`` to send one in binary.
    """
    with _cursor(using) as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall()


def execute(statement: str, parameters: Mapping[str, Any]) -> None:
    """Run a statement that returns no rows."""
    with _cursor(DEFAULT_DB_ALIAS) as cursor:
        cursor.execute(statement, parameters)


def _cursor(using: str) -> CursorWrapper:
    # Django's cursor writes the parameters into the text of the statement. psycopg's sends them apart from it, so that
    # a statement which a connection runs often is prepared, and PostgreSQL plans it once. Where statements are logged,
    # Django's is used after all, because a log is for reading and has to show the parameters.
    connection = connections[using]
    if connection.queries_logged:
        return connection.cursor()
    connection.ensure_connection()
    cursor = psycopg.Cursor(connection.connection)
    cursor.format = psycopg.pq.Format.BINARY  # of the rows
    return CursorWrapper(cursor, connection)
