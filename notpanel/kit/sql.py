"""Run SQL that is written out, for the few statements that every request runs and that need no ORM objects.

The statements are prepared by libpq, which saves the time of two layers of cursors. Everything around them is still
Django's and psycopg's: connections, transactions, errors and types
(docs/decisions/0001-raw-sql-on-the-hot-path.md).
"""

import functools
import itertools
import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import psycopg
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from psycopg import abc, adapt, errors, pq
from psycopg.adapt import AdaptersMap, PyFormat

from notpanel.kit.request_facts import COUNTING, count_statement

IDLE = pq.TransactionStatus.IDLE

Rows = list[tuple[Any, ...]]

_PARAMETER = re.compile(r"%\((\w+)\)([sb])")
_FORMATS = {"s": PyFormat.TEXT, "b": PyFormat.BINARY}


def fetch(statement: str, parameters: Mapping[str, Any], using: str = DEFAULT_DB_ALIAS) -> Rows:
    """Run a statement and return its rows.

    The statement names its parameters ``%(name)s``, or ``%(name)b`` to send one in binary. It must be a constant,
    because each connection keeps it prepared.
    """
    connection = connections[using]
    if _prepares(connection):
        count_statement()
        return _run(connection, statement, parameters)
    with _cursor(connection) as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


def execute(statement: str, parameters: Mapping[str, Any]) -> None:
    """Run a statement, and drop the rows that it returns."""
    fetch(statement, parameters)


# ---- Through a cursor


def _prepares(connection: BaseDatabaseWrapper) -> bool:
    """Connect if need be. Returns whether statements may be prepared.

    They may not be behind PgBouncer, nor where something looks at Django's cursors: the log of statements, which has to
    show the parameters, and wrappers of ``execute`` other than the one that counts statements.
    """
    if connection.queries_logged or connection.execute_wrappers not in ([], COUNTING):
        return False
    connection.ensure_connection()
    return connection.connection.prepare_threshold is not None


def _cursor(connection: BaseDatabaseWrapper) -> CursorWrapper:
    if connection.queries_logged:
        return connection.cursor()  # it writes the parameters into the text
    connection.ensure_connection()
    cursor = psycopg.Cursor(connection.connection)
    cursor.format = pq.Format.BINARY  # of the rows
    return CursorWrapper(cursor, connection)


# ---- Prepared


class _Prepared(NamedTuple):
    """A statement that is prepared on one connection."""

    name: bytes
    parameters: tuple[str, ...]
    formats: tuple[PyFormat, ...]
    transformer: abc.Transformer  # knows the types of the columns


class _Context:
    """Give a Transformer the adapters of a connection, without the connection, which it would keep alive."""

    connection = None

    def __init__(self, adapters: AdaptersMap) -> None:
        self.adapters = adapters


# By connection to PostgreSQL, then by statement. An entry goes when its connection does.
_prepared: WeakKeyDictionary[psycopg.Connection, dict[str, _Prepared]] = WeakKeyDictionary()
_numbers = itertools.count()


def _run(connection: BaseDatabaseWrapper, statement: str, parameters: Mapping[str, Any]) -> Rows:
    connection.validate_no_broken_transaction()
    postgres = connection.connection
    with connection.wrap_database_errors:
        if not postgres.autocommit and _status(connection) == IDLE:
            _execute(postgres, "BEGIN", {})
        return _execute(postgres, statement, parameters)


def _execute(postgres: psycopg.Connection, statement: str, parameters: Mapping[str, Any]) -> Rows:
    try:
        return _execute_prepared(postgres, statement, parameters)
    except (errors.InvalidSqlStatementName, errors.FeatureNotSupported):
        # Somebody deallocated the statement, or changed the type of one of its columns. Nothing was run.
        _prepared.pop(postgres, None)
        if postgres.pgconn.transaction_status != IDLE:  # the error has ended the transaction
            raise
        return _execute_prepared(postgres, statement, parameters)


def _execute_prepared(postgres: psycopg.Connection, statement: str, parameters: Mapping[str, Any]) -> Rows:
    known = _prepared.setdefault(postgres, {})
    prepared = known.get(statement)
    if prepared is None:
        prepared = known[statement] = _prepare(postgres, statement)
    transformer = prepared.transformer
    values = transformer.dump_sequence([parameters[name] for name in prepared.parameters], prepared.formats)
    # libpq waits for the answer without the GIL: other threads go on while this one waits for a lock.
    result = postgres.pgconn.exec_prepared(
        prepared.name,
        values,  # type: ignore[arg-type]  # psycopg sends None as NULL, but its annotation forgets it
        transformer.formats,
        pq.Format.BINARY,
    )
    _check(result)
    transformer.set_pgresult(result, set_loaders=False)
    return transformer.load_rows(0, result.ntuples, tuple)


def _prepare(postgres: psycopg.Connection, statement: str) -> _Prepared:
    """Prepare a statement on a connection. PostgreSQL infers the types of its parameters."""
    text, parameters, formats = _numbered(statement)
    name = b"notpanel_%d" % next(_numbers)
    _check(postgres.pgconn.prepare(name, text))
    description = postgres.pgconn.describe_prepared(name)
    _check(description)
    transformer = adapt.Transformer(_Context(postgres.adapters))
    transformer.set_loader_types([description.ftype(column) for column in range(description.nfields)], pq.Format.BINARY)
    return _Prepared(name, parameters, formats, transformer)


@functools.cache
def _numbered(statement: str) -> tuple[bytes, tuple[str, ...], tuple[PyFormat, ...]]:
    """Return the statement with ``$1`` in place of the first ``%(name)s``, and the parameters' names and formats."""
    formats: dict[str, PyFormat] = {}

    def number(match: re.Match[str]) -> str:
        name, marker = match.groups()
        formats.setdefault(name, _FORMATS[marker])
        return f"${list(formats).index(name) + 1}"

    text = _PARAMETER.sub(number, statement).replace("%%", "%")
    return text.encode(), tuple(formats), tuple(formats.values())


def _check(result: pq.abc.PGresult) -> None:
    """Raise psycopg's error if the statement failed."""
    if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
        raise errors.error_from_result(result)


def _status(connection: BaseDatabaseWrapper) -> int:
    status: int = connection.connection.pgconn.transaction_status
    return status
