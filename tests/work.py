"""Count the work of a call: its SQL statements (BEGIN and COMMIT included) and its round trips to Redis."""

from collections.abc import Iterator
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
