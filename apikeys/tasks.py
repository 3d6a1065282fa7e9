"""The accounts' work in the background: webhooks, and what is kept for a while only."""

from django.utils import timezone
from procrastinate.contrib.django import app

from apikeys.idempotency import KEPT_FOR
from apikeys.retention import ANSWERS
from apikeys.webhooks import delivering, keeping
from notpanel.kit import retention


@app.task(name="apikeys.tasks.deliver_webhooks")
async def deliver_webhooks() -> None:
    await delivering.deliver()


@app.periodic(cron="* * * * *")
@app.task(name="apikeys.tasks.sweep_webhooks")
def sweep_webhooks(timestamp: int) -> None:
    keeping.sweep()


@app.periodic(cron="41 * * * *")
@app.task(name="apikeys.tasks.forget_old_answers")
def forget_old_answers(timestamp: int) -> None:
    """Delete old answers every hour, because those of a busy day would be too many at once."""
    now = timezone.now()
    retention.delete(ANSWERS, now - KEPT_FOR, now)
