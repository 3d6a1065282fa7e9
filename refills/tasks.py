"""The refills' work in the background."""

from django.utils import timezone
from procrastinate.contrib.django import app

from refills import figures, following, mailing


@app.task(name="refills.tasks.follow_supplier")
def follow_supplier(supplier: int) -> None:
    following.follow(supplier)


@app.periodic(cron="* * * * *")
@app.task(name="refills.tasks.sweep")
def sweep(timestamp: int) -> None:
    following.sweep()


@app.periodic(cron="* * * * *")
@app.task(name="refills.tasks.mail_settlements")
def mail_settlements(timestamp: int) -> None:
    mailing.mail_settlements()


@app.periodic(cron="* * * * *")
@app.task(name="refills.tasks.fold_figures")
def fold_figures(timestamp: int) -> None:
    figures.fold(timezone.now())
