"""Count the work of a call: its SQL statements (BEGIN and COMMIT included), and round trips to PostgreSQL and Redis."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from django.db import connection
from django.test.utils import CaptureQueriesContext
from redis.connection import AbstractConnection


@dataclass
class Work:
    statements: int = 0
    round_trips: int = 0


@contextmanager
def counted() -> Iterator[Work]:
    """Yield a Work that has the counts of the block once the block has ended."""
    work = Work()
    send = AbstractConnection.send_packed_command

    def count_and_send(self: AbstractConnection, *args: Any, **kwargs: Any) -> None:
        work.round_trips += 1
        send(self, *args, **kwargs)

    with patch.object(AbstractConnection, "send_packed_command", count_and_send):
        with CaptureQueriesContext(connection) as queries:
            yield work
        work.statements = len(queries)


def round_trips_to_postgresql(call: Callable[[], Any]) -> int:
    """Make a call, and return how often its connection asked PostgreSQL, as libpq traces what it sends.

    ``counted`` logs the statements, and statements that are logged take another way to PostgreSQL.
    """
    connection.ensure_connection()
    pgconn = connection.connection.pgconn
    with tempfile.TemporaryFile() as trace:
        pgconn.trace(trace.fileno())
        try:
            call()
        finally:
            pgconn.untrace()
        trace.seek(0)
        sent = [line.split(b"\t") for line in trace.read().splitlines()]
    # A question ends with one of these two messages.
    return sum(fields[1:2] == [b"F"] and fields[3] in (b"Sync", b"Query") for fields in sent)
