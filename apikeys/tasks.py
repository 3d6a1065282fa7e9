"""The work of webhooks in the background."""

from django.utils import timezone
from procrastinate.contrib.django import app

from apikeys.webhooks import delivering, keeping


@app.task(name="apikeys.tasks.deliver_webhooks")
async def deliver_webhooks() -> None:
    await delivering.deliver()


@app.periodic(cron="* * * * *")
@app.task(name="apikeys.tasks.sweep_webhooks")
def sweep_webhooks(timestamp: int) -> None:
    keeping.sweep()


@app.periodic(cron="41 3 * * *")
@app.task(name="apikeys.tasks.forget_old_webhooks")
def forget_old_webhooks(timestamp: int) -> None:
    keeping.forget(timezone.now())
