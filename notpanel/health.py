"""Whether this process is alive, and whether the site can do its work: ``/healthz`` and ``/readyz``.

A middleware answers both before all others, so they need no Host, are never redirected, counted or logged.
"""

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis
from django.conf import settings
from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper
from django.http import HttpResponse, JsonResponse
from django.utils import timezone

from notpanel.kit import queue
from notpanel.server.checks import Unready, connect, pending_migrations

logger = logging.getLogger(__name__)

KEPT_FOR = 1.0  # seconds in which everybody gets the same answer
NOT_CHECKED = "Not checked, because the database cannot be used."


@dataclass(frozen=True)
class Finding:
    """What one check has found."""

    name: str
    problem: str = ""  # a sentence for the operator, without addresses and names of users: anybody may read it
    refuses_requests: bool = True  # whether requests fail because of it


class Readiness:
    """Makes the checks at most once in KEPT_FOR, in one thread, however many clients ask."""

    def __init__(self) -> None:
        self._findings: list[Finding] = []
        self._until = 0.0  # of time.monotonic()
        self._checking = threading.Lock()

    def findings(self) -> list[Finding]:
        """Return what the latest checks have found. While another thread checks, return the findings before those."""
        if time.monotonic() >= self._until and self._checking.acquire(blocking=not self._findings):
            try:
                if time.monotonic() >= self._until:  # else another thread has checked meanwhile
                    before, self._findings = self._findings, list(check())
                    self._until = time.monotonic() + KEPT_FOR
                    _log_change(before, self._findings)
            finally:
                self._checking.release()
        return self._findings


readiness = Readiness()


def alive() -> HttpResponse:
    """Answer ``/healthz``: this process serves. It asks nothing else."""
    return HttpResponse("ok\n", content_type="text/plain", headers={"Cache-Control": "no-store"})


def ready() -> HttpResponse:
    """Answer ``/readyz``: each check with “ok” or its problem; 503 if requests fail because of one."""
    findings = readiness.findings()
    is_ready = not any(finding.problem and finding.refuses_requests for finding in findings)
    response: Any = JsonResponse(
        {"ready": is_ready} | {finding.name: finding.problem or "ok" for finding in findings},
        status=200 if is_ready else 503,
        headers={"Cache-Control": "no-store"},
    )
    response._has_been_logged = True  # else Django would log a line for each 503
    return response


ANSWERS = {"/healthz": alive, "/readyz": ready}


def check() -> Iterator[Finding]:
    """Yield what each check finds now."""
    try:
        connection = connect()
    except Unready:
        yield Finding("database", "The database cannot be reached.")
        yield from (Finding(name, NOT_CHECKED) for name in ("migrations", "queue"))
    else:
        try:
            yield from _check_database(connection)
        finally:
            connection.close()
    yield Finding("redis", problem_of_redis(), refuses_requests=settings.REDIS_DOWN == "closed")


def _check_database(connection: BaseDatabaseWrapper) -> Iterator[Finding]:
    problems = {"database": problem_of_database, "migrations": problem_of_migrations, "queue": problem_of_queue}
    for name, problem_of in problems.items():
        try:
            yield Finding(name, problem_of(connection))
        except Error as error:
            logger.warning("The check of %s failed: %s", name, error)
            yield Finding(name, "The database refused to answer: the log of the server says why.")


def problem_of_database(connection: BaseDatabaseWrapper) -> str:
    """Return why the database takes no writes, or nothing."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean")
        [is_read_only] = cursor.fetchone()
    return "The database takes no writes: it is a standby, or set to read only." if is_read_only else ""


def problem_of_migrations(connection: BaseDatabaseWrapper) -> str:
    """Return how many migrations are missing, or nothing."""
    pending = len(pending_migrations(connection))
    return f"The database lacks {pending} of the migrations: run `manage.py migrate`." if pending else ""


def problem_of_queue(connection: BaseDatabaseWrapper) -> str:
    """Return that no worker does the jobs that are due, or nothing. Without such a job, no worker is needed."""
    figures = queue.figures(timezone.now(), connection)
    if figures.workers or figures.oldest is None or figures.oldest < queue.ALIVE:
        return ""
    return f"No worker is alive, and the oldest job has waited for {figures.oldest_waits}: start `manage.py work`."


def problem_of_redis() -> str:
    """Return that Redis does not answer, or nothing."""
    if not settings.REDIS_URL:
        return ""
    timeout = settings.REDIS_TIMEOUT
    try:
        with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=timeout, socket_connect_timeout=timeout) as client:
            client.ping()
    except redis.RedisError:
        return "Redis does not answer."
    return ""


def _log_change(before: list[Finding], now: list[Finding]) -> None:
    """Log what has become a problem, and what no longer is one. The requests themselves are not logged."""
    old = {finding.name: finding.problem for finding in before}
    for finding in now:
        if finding.problem and not old.get(finding.name):
            logger.error("Not ready (%s): %s", finding.name, finding.problem)
        elif old.get(finding.name) and not finding.problem:
            logger.warning("Ready again (%s).", finding.name)
