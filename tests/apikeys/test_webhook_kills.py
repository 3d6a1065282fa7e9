"""Real workers that are killed (SIGKILL) lose no webhook. docs/measurements/webhooks.md has it with thousands."""

import collections
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta

from django.db import connection
from django.db.models import F
from standardwebhooks.webhooks import Webhook

from apikeys.models import WebhookDelivery
from apikeys.webhooks.models import LEASE
from refills.requesting import request_refills
from tests import factories
from tests.receiver import answer, receiver
from tests.server import BASE_DIR, MARKS, database_url

pytestmark = MARKS

EVENTS = 60


class Worker:
    def __init__(self):
        environment = {"DATABASE_URL": database_url(), "WEBHOOK_LOOPBACK": "on"}
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "work"],
            cwd=BASE_DIR,
            env=os.environ | environment,
            stderr=subprocess.DEVNULL,
        )

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(30)


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_killed_worker_loses_nothing_and_repeats_only_what_it_was_sending(transactional_db):
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")
        cursor.execute("DELETE FROM procrastinate_workers")

    def slowly(handler):
        time.sleep(0.2)
        answer(204)(handler)

    with receiver() as hook:
        hook.answer = slowly
        accounts = [factories.WebhookEndpoint(url=f"{hook.url}/{number}").account for number in range(20)]
        orders = [factories.Order(account=account) for account in accounts for _ in range(EVENTS // 20)]
        for order in orders:
            request_refills(order.account_id, [order.pk])
        first = Worker()
        wait_for(lambda: len(hook.got) > EVENTS // 3)
        first.stop(signal.SIGKILL)
        under_way = WebhookDelivery.objects.filter(state="waiting", attempts=1).count()
        # The leases end at once; the second worker finds a job, as the sweeper would leave it.
        WebhookDelivery.objects.filter(state="waiting").update(next_at=F("next_at") - LEASE - timedelta(seconds=1))
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('default', %s)",
                ["apikeys.tasks.deliver_webhooks"],
            )
        second = Worker()
        try:
            wait_for(lambda: not WebhookDelivery.objects.exclude(state="delivered").exists())
        finally:
            status = second.stop()

    for request in hook.got:
        Webhook("whsec_" + "c2VjcmV0" * 4).verify(request.body, request.headers)
    times = collections.Counter(hook.ids)
    assert set(times) == {delivery.message_id for delivery in WebhookDelivery.objects.all()}
    assert len(times) == EVENTS
    assert max(times.values()) <= 2
    assert sum(count - 1 for count in times.values()) <= under_way
    assert status == 0
