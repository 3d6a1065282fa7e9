"""The queue: jobs belong to the transaction of the row that they are about."""

from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from notpanel.kit import queue
from tests.work import counted

TASK = "refills.tasks.follow_supplier"


@pytest.fixture(autouse=True)
def _empty(db):
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")
        cursor.execute("DELETE FROM procrastinate_workers")


def test_a_job_is_gone_with_its_transaction():
    with transaction.atomic():
        queue.wake(TASK, {"supplier": 1})
        transaction.set_rollback(True)

    assert queue.figures(timezone.now()).waiting == 0


def test_many_jobs_are_one_statement():
    with counted() as work:
        queue.wake(TASK, *({"supplier": number} for number in range(50)))

    assert work.statements == 1
    assert queue.figures(timezone.now() + timedelta(seconds=1)).waiting == 50


def test_a_job_that_is_not_due_yet_does_not_wait():
    now = timezone.now()
    queue.wake(TASK, {"supplier": 1}, at=now + timedelta(minutes=5))

    assert queue.figures(now).waiting == 0
    later = queue.figures(now + timedelta(minutes=7))
    assert (later.waiting, later.oldest) == (1, timedelta(minutes=2))


def test_one_job_is_enough_for_what_is_due_by_then():
    now = timezone.now()
    queue.wake_unless_due(TASK, {"supplier": 1}, now + timedelta(minutes=5))
    queue.wake_unless_due(TASK, {"supplier": 1}, now + timedelta(minutes=6))
    queue.wake_unless_due(TASK, {"supplier": 1}, now + timedelta(minutes=4))
    queue.wake_unless_due(TASK, {"supplier": 2}, now + timedelta(minutes=6))

    assert queue.figures(now + timedelta(minutes=10)).waiting == 3


def test_the_figures_tell_of_workers_that_are_alive_and_of_jobs_that_failed():
    queue.wake(TASK, {"supplier": 1})
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET status = 'failed'")
        cursor.execute("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now()), (now() - interval '1 hour')")

    figures = queue.figures(timezone.now())

    assert (figures.workers, figures.waiting, figures.oldest, figures.failed) == (1, 0, None, 1)
