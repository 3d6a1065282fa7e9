"""A read replica, for what may be some seconds old. Without DATABASE_REPLICA_URL nothing here does anything.

``reads_may_lag`` marks the code whose reads of orders and refills go to the replica. All else, and whatever runs in a
transaction, is read from the primary: accounts, keys, sessions and permissions always.
"""

import logging
import re
import time
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import psycopg
from django.conf import settings
from django.core.exceptions import MiddlewareNotUsed
from django.db import DEFAULT_DB_ALIAS, InterfaceError, OperationalError, connections
from django.db.models import Model
from django.http import HttpRequest, HttpResponse

logger = logging.getLogger(__name__)

ALIAS = "replica"
APPS = ("orders", "refills")  # whose models are read from it
REST = 10  # seconds for which a replica that failed is left alone
COOKIE = "written_at"

_reading: ContextVar[bool] = ContextVar("reading", default=False)
_left_alone_until = 0.0  # of time.monotonic(), in this process

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
        global _left_alone_until
        now = time.monotonic()
        if ALIAS not in connections or now < _left_alone_until:
            return answer(*args, **kwargs)
        if _left_alone_until:
            _left_alone_until = now + REST  # this request tries it again; the others do not wait with it
            if pool := getattr(connections[ALIAS], "pool", None):
                pool.check()  # throws away the connections of before
        token = _reading.set(True)
        try:
            if not_before and not _has_come_to(not_before):
                _reading.set(False)
            answered = answer(*args, **kwargs)
            _left_alone_until = 0
            return answered
        except (OperationalError, InterfaceError) as error:
            if isinstance(error.__cause__, psycopg.errors.QueryCanceled):
                raise  # it took too long, and would on the primary
            # A replica that had to remove a row which was being read is well.
            if not isinstance(error.__cause__, psycopg.errors.SerializationFailure):
                _left_alone_until = time.monotonic() + REST
            logger.warning("The replica did not answer, the primary does: %s", error)
        finally:
            _reading.reset(token)
        return answer(*args, **kwargs)

    return wrapped


# ---- Who has just written must see it: a browser remembers how far the primary's log was after its last write.


def remember_writes(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """The middleware that sends a browser, after whatever may have written, the position for ``not_before``."""
    if ALIAS not in connections:
        raise MiddlewareNotUsed

    def respond(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if request.method == "POST" and settings.SESSION_COOKIE_NAME in request.COOKIES:
            with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
                cursor.execute("SELECT pg_current_wal_insert_lsn()")
                [position] = cursor.fetchone()
            response.set_cookie(
                COOKIE, position, max_age=86_400, secure=settings.SESSION_COOKIE_SECURE, httponly=True, samesite="Lax"
            )
        return response

    return respond


def _has_come_to(position: str) -> bool:
    if not re.fullmatch(r"[0-9A-F]{1,8}/[0-9A-F]{1,8}", position):  # a cookie is what a browser likes to send
        return False
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [position])
        return bool(cursor.fetchone()[0])  # null: it is no replica any more
