"""The accounts' work in the background."""

from django.utils import timezone
from procrastinate.contrib.django import app

from apikeys.idempotency import forget_answers


@app.periodic(cron="41 * * * *")
@app.task(name="apikeys.tasks.forget_old_answers")
def forget_old_answers(timestamp: int) -> None:
    forget_answers(timezone.now())
