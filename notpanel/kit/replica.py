"""A read replica, for what may be some seconds old. Without DATABASE_REPLICA_URL nothing here does anything.

``reads_may_lag`` marks the code whose reads of orders and refills go to the replica. All else, and whatever runs in a
transaction, is read from the primary: accounts, keys, sessions and permissions always.
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
APPS = ("orders", "refills")  # whose models are read from it
REST = 10  # seconds for which a replica that failed is left alone
COOKIE = "written_at"

_reading: ContextVar[bool] = ContextVar("reading", default=False)
breaker = CircuitBreaker(REST)

P = ParamSpec("P")
T = TypeVar("T")


class Router:
    """Sends reads to the replica within ``reads_may_lag``, and all else to the primary."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str:
        if _reading.get() and model._meta.app_label in APPS:
            # A transaction reads what it has written itself.
            return DEFAULT_DB_ALIAS if connections[DEFAULT_DB_ALIAS].in_atomic_block else ALIAS
        return DEFAULT_DB_ALIAS

    def db_for_write(self, model: type[Model], **hints: Any) -> str:
        return DEFAULT_DB_ALIAS

    def allow_relation(self, obj1: Model, obj2: Model, **hints: Any) -> bool:
        return True  # it is one database, twice

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return db == DEFAULT_DB_ALIAS


def reads_may_lag(answer: Callable[P, T], not_before: str = "") -> Callable[P, T]:
    """Have the replica serve what ``answer`` reads; it must not write, for it is called again if the replica fails.

    If the replica does not answer, the primary does, and for REST seconds all but one request ask the primary at once.
    If the replica has not come as far as ``not_before``, a position in the primary's log, it is not asked either.
    """

    @wraps(answer)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        if ALIAS not in connections or not breaker.lets_through():
            return answer(*args, **kwargs)
        if breaker.is_open and (pool := getattr(connections[ALIAS], "pool", None)):
            pool.check()  # discards the connections from before the failure
        token = _reading.set(True)
        try:
            if not_before and not _has_come_to(not_before):
                _reading.set(False)
            answered = answer(*args, **kwargs)
            breaker.reset()
            return answered
        except (OperationalError, InterfaceError) as error:
            if isinstance(error.__cause__, psycopg.errors.QueryCanceled):
                raise  # it took too long, and would on the primary
            # A replica that had to remove a row which was being read is well.
            if not isinstance(error.__cause__, psycopg.errors.SerializationFailure):
                breaker.trip()
            logger.warning("The replica did not answer, the primary does: %s", error)
        finally:
            _reading.reset(token)
        return answer(*args, **kwargs)

    return wrapped


def _has_come_to(position: str) -> bool:
    if not re.fullmatch(r"[0-9A-F]{1,8}/[0-9A-F]{1,8}", position):  # a cookie is what a browser likes to send
        return False
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [position])
        return bool(cursor.fetchone()[0])  # null: it is no replica any more
