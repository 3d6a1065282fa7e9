"""How long sessions and jobs of the queue are kept."""

from datetime import timedelta

from django.conf import settings

from notpanel.kit.retention import Kept

SESSIONS = Kept(
    "sessions that have ended",
    kept_for=timedelta,  # their end is in the row
    old="SELECT session_key AS id FROM django_session WHERE expire_date < %(before)s ORDER BY expire_date",
    delete="DELETE FROM django_session WHERE session_key IN (SELECT id FROM old)",
)
# The queue deletes the events of a job with it. No index is needed: jobs that succeed are deleted as they end.
JOBS = Kept(
    "jobs that failed or were cancelled",
    kept_for=lambda: timedelta(days=settings.FAILED_JOB_DAYS),
    old="""
        SELECT id FROM procrastinate_jobs AS job
        WHERE status IN ('succeeded', 'failed', 'cancelled', 'aborted')
            AND (SELECT max(at) FROM procrastinate_events WHERE job_id = job.id) < %(before)s
        ORDER BY id
    """,
    delete="DELETE FROM procrastinate_jobs WHERE id IN (SELECT id FROM old)",
)
# Other workers take over their jobs at once: ``take_up_jobs_of_dead_workers``.
WORKERS = Kept(
    "workers that were killed",
    kept_for=lambda: timedelta(days=1),
    old="SELECT id FROM procrastinate_workers WHERE last_heartbeat < %(before)s ORDER BY last_heartbeat",
    delete="DELETE FROM procrastinate_workers WHERE id IN (SELECT id FROM old)",
)
ALL = (SESSIONS, JOBS, WORKERS)
