"""The queue of work in the background: procrastinate, whose jobs are rows of our own PostgreSQL.

A job is only a wake-up. What there is to do, which attempt it is and when it is next due stands in a table of the app
that does it. So a job that is lost delays work until the app's sweeper looks, and a job that runs twice does nothing
the second time (docs/decisions/0010-procrastinate.md).
"""

import json
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import OperationalError, connection
from django.db.backends.base.base import BaseDatabaseWrapper
from procrastinate.contrib.django import app
from procrastinate.exceptions import ConnectorException

from notpanel.kit.durations import duration

ALIVE = timedelta(seconds=30)  # a worker says every ten seconds that it is alive

# Set once this process is told to stop. Set in notpanel.server.worker.
stopping = threading.Event()


@dataclass(frozen=True)
class Figures:
    """The state of the queue now."""

    workers: int  # that are alive
    waiting: int  # jobs that are due and that no worker has begun
    oldest: timedelta | None  # how long the oldest of them has been due
    failed: int  # jobs that failed and are still kept

    @property
    def oldest_waits(self) -> str:
        """Return how long the oldest has been due, for people."""
        return "–" if self.oldest is None else duration(self.oldest)


def wake(task: str, *each: dict[str, Any], at: datetime | None = None) -> None:
    """Let a worker run the task once for each set of arguments, from ``at`` on; without ``at``, at once.

    The jobs belong to the current transaction: no worker sees them before it is committed. One statement.
    """
    if not each:
        return
    try:
        app.configure_task(task, schedule_at=at).batch_defer(*each)
    except ConnectorException as error:  # requests and commands handle it as an error of the database
        raise OperationalError(str(error.__cause__ or error)) from error


def wake_unless_due(task: str, arguments: dict[str, Any], at: datetime) -> None:
    """Let a worker run the task from ``at`` on, unless a waiting job already does so by then."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT EXISTS (
                SELECT FROM procrastinate_jobs
                WHERE status = 'todo' AND task_name = %s AND args = %s::jsonb
                    AND (scheduled_at IS NULL OR scheduled_at <= %s)
            )
            """,
            [task, json.dumps(arguments), at],
        )
        [is_due] = cursor.fetchone()
    if not is_due:
        wake(task, arguments, at=at)


def waking(task: str, due: str) -> str:
    """Return SQL that does what ``wake_unless_due`` does, as a part of a WITH that has the parameter ``%(now)s``.

    ``due`` names another part, whose rows have ``next_at``: the worker is woken at the earliest of them. Without rows,
    no job is inserted. The task takes no arguments.
    """
    return f"""
        INSERT INTO procrastinate_jobs (queue_name, task_name, args, scheduled_at)
        SELECT 'default', '{task}', '{{}}', CASE WHEN at > %(now)s::timestamptz THEN at END
        FROM (SELECT min(next_at) AS at FROM {due}) AS earliest
        WHERE at IS NOT NULL AND NOT EXISTS (
            SELECT FROM procrastinate_jobs
            WHERE status = 'todo' AND task_name = '{task}' AND (scheduled_at IS NULL OR scheduled_at <= at)
        )
    """  # noqa: S608  # made of constants


def is_stopping() -> bool:
    """Return whether this process is told to stop. A task that takes long ends early then, between two steps."""
    return stopping.is_set()


def figures(now: datetime, over: BaseDatabaseWrapper | None = None) -> Figures:
    """Return the state of the queue, by one statement over the given connection or that of this thread."""
    with (over or connection).cursor() as cursor:
        cursor.execute(
            """
            SELECT (SELECT count(*) FROM procrastinate_workers WHERE last_heartbeat > %(alive)s),
                count(*) FILTER (WHERE job.status = 'todo'),
                min(coalesce(job.scheduled_at, event.at)) FILTER (WHERE job.status = 'todo'),
                count(*) FILTER (WHERE job.status = 'failed')
            FROM procrastinate_jobs AS job
                LEFT JOIN procrastinate_events AS event ON event.job_id = job.id AND event.type = 'deferred'
            WHERE job.status = 'failed'
                OR job.status = 'todo' AND (job.scheduled_at IS NULL OR job.scheduled_at <= %(now)s)
            """,
            {"alive": now - ALIVE, "now": now},
        )
        workers, waiting, since, failed = cursor.fetchone()
    return Figures(workers, waiting, since and max(now - since, timedelta()), failed)
