"""Connections that do not outlive a failover: what led to the old primary is not used again.

Django finds ``DatabaseWrapper`` here by the name of this module.
"""

import time
from types import TracebackType
from typing import Any

import psycopg
from django.db import OperationalError
from django.db.backends.postgresql import base
from django.db.utils import DatabaseErrorWrapper
from django.utils.functional import cached_property
from psycopg.pq import ConnStatus

# When the pool of an alias was last emptied in this process, by time.monotonic().
_emptied: dict[str, float] = {}


class ErrorWrapper(DatabaseErrorWrapper):
    """Raises Django's errors, and OperationalError for every error that means that the connection is useless."""

    wrapper: "DatabaseWrapper"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, psycopg.DatabaseError) and (_is_of_no_use(error) or self.wrapper.is_lost()):
            self.wrapper.abandon()
            raise OperationalError(*error.args).with_traceback(traceback) from error
        super().__exit__(kind, error, traceback)


def _is_of_no_use(error: psycopg.DatabaseError) -> bool:
    """Return whether the error says that the connection leads to no server that takes writes."""
    # The server became a standby, or was set to read only so that another one can take over. For psycopg this is an
    # InternalError, a bug.
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        return True
    # The server's errors have a code, and psycopg's own a class. An error with neither is libpq's: the server crashed.
    # libpq itself considers a connection intact that it could not write to, as long as it reads something.
    return type(error) is psycopg.DatabaseError and error.sqlstate is None


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection of Django's, which empties the pool of its process once the server is lost."""

    taken_at = 0.0  # when this thread got its connection, by time.monotonic()

    @cached_property
    def wrap_database_errors(self) -> ErrorWrapper:
        return ErrorWrapper(self)

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        connection = super().get_new_connection(conn_params)
        self.taken_at = time.monotonic()
        return connection

    def is_lost(self) -> bool:
        """Return whether there was a connection, and its server has ended it or is gone."""
        return self.connection is not None and self.connection.pgconn.status == ConnStatus.BAD

    def abandon(self) -> None:
        """Close the connection, even if it belongs to a pool, and all others of that pool."""
        self.errors_occurred = True
        if self.connection is not None:
            self.connection.close()
            self.empty_pool()

    def empty_pool(self) -> None:
        """Drop the pool's other connections, which lead where this one led: each would cost a request an error.

        The pool closes a connection that is in use when its request gives it back. When several requests lose their
        connections at once, the first of them empties the pool, and the others leave it.
        """
        if self.pool and self.taken_at > _emptied.get(self.alias, 0.0):
            _emptied[self.alias] = time.monotonic()
            self.pool.drain()
