"""What keeps the queue itself in order, and what is deleted every day."""

import logging

from django.utils import timezone
from procrastinate import JobContext
from procrastinate.contrib.django import app
from procrastinate.utils import utcnow

from notpanel.kit import retention
from notpanel.kit.queue import ALIVE

logger = logging.getLogger(__name__)


@app.periodic(cron="* * * * *")
@app.task(pass_context=True)
async def take_up_jobs_of_dead_workers(context: JobContext, timestamp: int) -> None:
    """Give the jobs of workers that were killed to others: procrastinate leaves them as they were."""
    manager = context.app.job_manager
    for job in await manager.get_stalled_jobs(seconds_since_heartbeat=ALIVE.total_seconds()):
        await manager.retry_job(job, retry_at=utcnow())
    await manager.prune_stalled_workers(ALIVE.total_seconds())


@app.periodic(cron="23 3 * * *")
@app.task(name="notpanel.tasks.forget")
def forget(timestamp: int) -> None:
    """Delete what has been kept for long enough. What fails is in the log, and is tried again the next day."""
    for outcome in retention.forget(timezone.now()):
        if outcome.count:
            logger.info("Deleted %d %s.", outcome.count, outcome.kept.what)
