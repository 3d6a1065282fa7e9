"""A read replica, for reads that may be some seconds old. Does nothing unless DATABASE_REPLICA_URL is set.

``reads_may_lag`` marks the code that reads orders and refills from the replica. Everything else is read from the
primary: all that runs in a transaction, and accounts, keys, sessions and permissions always.
"""

import logging
import re
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import psycopg
from django.db import DEFAULT_DB_ALIAS, InterfaceError, OperationalError, connections
from django.db.models import Model

from notpanel.kit.circuit_breaker import CircuitBreaker

logger = logging.getLogger(__name__)

ALIAS = "replica"
APPS = ("orders", "refills")  # models of these apps may be read from the replica
REST = 10  # seconds in which nobody asks a replica that failed
COOKIE = "written_at"  # holds the position in the primary's log up to which a browser may have written

_reading: ContextVar[bool] = ContextVar("reading", default=False)
breaker = CircuitBreaker(REST, "replica")

P = ParamSpec("P")
T = TypeVar("T")


class Router:
    """Sends reads within ``reads_may_lag`` to the replica, and everything else to the primary."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str:
        if _reading.get() and model._meta.app_label in APPS:
            # A transaction has to see what it has written.
            return DEFAULT_DB_ALIAS if connections[DEFAULT_DB_ALIAS].in_atomic_block else ALIAS
        return DEFAULT_DB_ALIAS

    def db_for_write(self, model: type[Model], **hints: Any) -> str:
        return DEFAULT_DB_ALIAS

    def allow_relation(self, obj1: Model, obj2: Model, **hints: Any) -> bool:
        return True  # both are the same database

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return db == DEFAULT_DB_ALIAS


def reads_may_lag(answer: Callable[P, T], not_before: str = "") -> Callable[P, T]:
    """Let ``answer`` read from the replica. It must not write, because it is called again if the replica fails.

    If the replica fails, the primary answers. For the next REST seconds nobody asks the replica; then one request
    probes it. An error of the primary, which ``answer`` may ask too, is raised, and trips no breaker. The primary also
    answers if the replica has not yet replayed ``not_before``, a position in the primary's log.
    """

    @wraps(answer)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        if ALIAS not in connections or not breaker.lets_through():
            return answer(*args, **kwargs)
        if breaker.is_open and (pool := getattr(connections[ALIAS], "pool", None)):
            pool.check()  # discards connections from before the failure
        token = _reading.set(True)
        # Django notes there which connection an error came from. At the end of a request it looks at it too.
        replica, had_errors = connections[ALIAS], connections[ALIAS].errors_occurred
        replica.errors_occurred = False
        try:
            if not_before and not _has_replayed(not_before):
                _reading.set(False)
            answered = answer(*args, **kwargs)
            breaker.reset()
            return answered
        except (OperationalError, InterfaceError) as error:
            if not replica.errors_occurred:
                raise
            if isinstance(error.__cause__, psycopg.errors.QueryCanceled):
                raise  # the statement took too long, and would on the primary too
            # A replica cancels a query when it has to remove rows that the query reads. That is no failure.
            if not isinstance(error.__cause__, psycopg.errors.SerializationFailure):
                breaker.trip()
            logger.warning("The replica did not answer; the primary answers instead: %s", error)
        finally:
            replica.errors_occurred |= had_errors
            _reading.reset(token)
        return answer(*args, **kwargs)

    return wrapped


def _has_replayed(position: str) -> bool:
    if not re.fullmatch(r"[0-9A-F]{1,8}/[0-9A-F]{1,8}", position):  # it comes from a cookie, which may hold anything
        return False
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [position])
        return bool(cursor.fetchone()[0])  # null if it is no longer a replica
