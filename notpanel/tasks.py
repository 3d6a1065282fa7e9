"""What keeps the queue itself in order."""

from typing import Any

from procrastinate import JobContext
from procrastinate.contrib.django import app
from procrastinate.utils import utcnow

from notpanel.kit.queue import ALIVE

KEPT_FOR = 7 * 24  # hours, of jobs that failed


@app.periodic(cron="* * * * *")
@app.task(pass_context=True)
async def take_up_jobs_of_dead_workers(context: JobContext, timestamp: int) -> None:
    """Give the jobs of workers that were killed to others: procrastinate leaves them as they were."""
    manager = context.app.job_manager
    for job in await manager.get_stalled_jobs(seconds_since_heartbeat=ALIVE.total_seconds()):
        await manager.retry_job(job, retry_at=utcnow())
    await manager.prune_stalled_workers(ALIVE.total_seconds())


@app.periodic(cron="23 3 * * *")
@app.task(pass_context=True)
async def forget_old_jobs(context: JobContext, timestamp: int) -> None:
    """Delete jobs that failed some days ago. Those that succeeded are deleted as they end."""
    everything: dict[str, Any] = {"include_failed": True, "include_cancelled": True, "include_aborted": True}
    await context.app.job_manager.delete_old_jobs(KEPT_FOR, **everything)
