"""What a request costs in questions: SQL statements (BEGIN and COMMIT too), and round trips to Redis. Never in time."""

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
    """Yield what then counts all that is asked in the block."""
    work = Work()
    send = AbstractConnection.send_packed_command

    def count_and_send(self: AbstractConnection, *args: Any, **kwargs: Any) -> None:
        work.round_trips += 1
        send(self, *args, **kwargs)

    with patch.object(AbstractConnection, "send_packed_command", count_and_send):
        with CaptureQueriesContext(connection) as queries:
            yield work
        work.statements = len(queries)
