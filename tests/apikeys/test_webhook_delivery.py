"""How webhooks are delivered: signed, at least once, retried if they fail, and none held up by another."""

import asyncio
import json
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from uuid import uuid4

import pytest
from django.core import mail
from django.db import connection, transaction
from django.utils import timezone
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from apikeys.models import WebhookDelivery, WebhookEndpoint
from apikeys.webhooks import delivering, keeping, leasing
from apikeys.webhooks.delivering import DELAYS, judge
from apikeys.webhooks.endpoints import pause, resume, rotate_secret, secret_version
from apikeys.webhooks.leasing import Leased, lease
from apikeys.webhooks.models import LEASE
from notpanel.kit import queue
from notpanel.kit.outbound import Answer
from refills.requesting import request_refills
from tests import factories
from tests.coroutines import run
from tests.races import race
from tests.receiver import answer, receiver

pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "whsec_" + "c2VjcmV0" * 4  # of the factory's endpoints
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _quick(settings, monkeypatch, transactional_db):
    settings.WEBHOOK_LOOPBACK = True
    monkeypatch.setattr(delivering, "LINGER", 0.0)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")


@pytest.fixture
def clock(time_machine):
    """Return a clock that keeps running and can be moved forward."""
    time_machine.move_to(timezone.now())
    return time_machine


@pytest.fixture
def hook():
    with receiver() as found:
        yield found


@pytest.fixture
def endpoint(hook):
    return factories.WebhookEndpoint(url=hook.url)


def waiting(endpoint, count=1, **fields):
    now = timezone.now()
    values = {"type": "refill.completed", "body": '{"type":"refill.completed"}', "created_at": now, "next_at": now}
    return [WebhookDelivery.objects.create(endpoint=endpoint, state="waiting", **values | fields) for _ in range(count)]


def deliver():
    run(delivering.deliver())


def attempts_again(delivery):
    """Make the next attempt of a delivery, whenever it is due."""
    WebhookDelivery.objects.filter(pk=delivery.pk, state="waiting").update(next_at=timezone.now())
    deliver()
    delivery.refresh_from_db()


def jobs():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT scheduled_at FROM procrastinate_jobs WHERE task_name = 'apikeys.tasks.deliver_webhooks' ORDER BY id"
        )
        return [at for (at,) in cursor.fetchall()]


# ---- One delivery


def test_a_request_is_delivered_and_verifies_by_the_library(hook, endpoint):
    order = factories.Order(account=endpoint.account)
    [(refill_id, _)] = request_refills(endpoint.account_id, [order.pk])

    deliver()

    [request] = hook.got
    told = Webhook(SECRET).verify(request.body, request.headers)
    assert (told["type"], told["data"]["refill"]) == ("refill.requested", refill_id)
    delivery = WebhookDelivery.objects.get()
    assert request.headers["webhook-id"] == delivery.message_id
    assert request.headers["content-type"] == "application/json"
    assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 60
    assert (delivery.state, delivery.status, delivery.attempts, delivery.next_at) == ("delivered", 204, 1, None)
    assert delivery.milliseconds > 0


def test_a_body_that_was_changed_does_not_verify(hook, endpoint):
    waiting(endpoint)

    deliver()

    [request] = hook.got
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(request.body + b" ", request.headers)


def test_both_secrets_sign_for_a_day_after_a_rotation(hook, endpoint, clock):
    _, secret = rotate_secret(endpoint.account_id, endpoint.pk, secret_version(endpoint))
    waiting(endpoint)
    deliver()
    first = hook.got.pop()
    for each in (SECRET, secret):
        Webhook(each).verify(first.body, first.headers)

    clock.shift(timedelta(hours=24, seconds=1))
    waiting(endpoint)
    deliver()

    second = hook.got.pop()
    Webhook(secret).verify(second.body, second.headers)
    assert len(second.headers["webhook-signature"].split()) == 1


def test_the_id_is_the_same_on_every_attempt_and_the_signature_new(hook, endpoint, clock):
    hook.answer = answer(500)
    [delivery] = waiting(endpoint)
    deliver()
    clock.shift(timedelta(minutes=10))
    hook.answer = None

    attempts_again(delivery)

    first, second = hook.got
    assert hook.ids == [delivery.message_id] * 2
    assert first.headers["webhook-timestamp"] != second.headers["webhook-timestamp"]
    Webhook(SECRET).verify(second.body, second.headers)
    assert (delivery.state, delivery.attempts) == ("delivered", 2)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_only_2xx_is_success(hook, endpoint, status):
    hook.answer = answer(status)
    [delivery] = waiting(endpoint)

    deliver()

    delivery.refresh_from_db()
    assert (delivery.state, delivery.status) == ("delivered", status)


@pytest.mark.parametrize("status", [300, 301, 302, 307, 400, 401, 404, 409, 429, 500, 503])
def test_any_other_answer_is_tried_again(hook, endpoint, status):
    hook.answer = answer(status, b"no", Location="http://127.0.0.1:9/")
    [delivery] = waiting(endpoint)

    deliver()

    delivery.refresh_from_db()
    assert (delivery.state, delivery.status, delivery.answer) == ("waiting", status, "no")
    assert timedelta(seconds=4) < delivery.next_at - timezone.now() < timedelta(seconds=6)
    assert jobs() == [delivery.next_at]


def test_the_first_500_characters_of_an_answer_are_kept(hook, endpoint):
    hook.answer = answer(500, b"\x00\xff" + "é".encode() * 1000)
    [delivery] = waiting(endpoint)

    deliver()

    delivery.refresh_from_db()
    assert delivery.answer == "�" + "é" * 499


def test_an_endpoint_that_cannot_be_reached_says_why(endpoint):
    endpoint.url = "http://127.0.0.1:9999/"
    endpoint.save()
    [delivery] = waiting(endpoint)

    deliver()

    delivery.refresh_from_db()
    assert (delivery.state, delivery.status, delivery.words) == ("waiting", None, "No connection could be made.")


def test_a_url_that_is_no_longer_allowed_is_not_requested(hook, endpoint, settings):
    settings.WEBHOOK_LOOPBACK = False
    [delivery] = waiting(endpoint)

    deliver()

    delivery.refresh_from_db()
    assert delivery.words == "The URL is not allowed: it must begin with https://."
    assert hook.connections == 0


def test_a_secret_that_cannot_be_decrypted_is_reported(hook, endpoint):
    WebhookEndpoint.objects.update(encrypted_secret="nonsense")
    [delivery] = waiting(endpoint)

    deliver()

    delivery.refresh_from_db()
    assert (delivery.state, delivery.words) == ("waiting", "The secret cannot be decrypted: rotate it.")


def test_an_error_of_ours_is_an_attempt_too(hook, endpoint, monkeypatch):
    monkeypatch.setattr(delivering, "signed_headers", lambda *arguments: 1 / 0)
    [delivery] = waiting(endpoint)

    deliver()

    delivery.refresh_from_db()
    assert (delivery.state, delivery.attempts) == ("waiting", 1)
    assert delivery.words == "It failed because of an error of ours."


# ---- What comes of an attempt


def leased(attempts=1, type="refill.completed"):
    return Leased(uuid4(), type, "{}", attempts, NOW, "whk_", "https://hooks.example/", False, "", "")


def refused(status=500, **headers):
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, b"")


def test_the_attempts_are_spread_over_three_days():
    assert [delay.total_seconds() for delay in DELAYS] == [
        *(0, 5, 5 * 60, 30 * 60),
        *(hours * 3600 for hours in (2, 5, 10, 14, 20, 24)),
    ]


@pytest.mark.parametrize("attempts", range(1, 10))
def test_each_delay_has_jitter(attempts):
    delays = {(judge(leased(attempts), None, "", 1, NOW).next_at - NOW) / DELAYS[attempts] for _ in range(50)}

    assert len(delays) > 40
    assert 0.9 <= min(delays) <= max(delays) <= 1.1


def test_the_tenth_attempt_is_the_last():
    result = judge(leased(10), refused(), "", 1, NOW)

    assert (result.state, result.next_at) == ("failed", None)


def test_a_test_event_is_tried_once():
    assert judge(leased(1, "webhook.test"), refused(), "", 1, NOW).state == "failed"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120),
        ("3600", 3600),
        (format_datetime(NOW + timedelta(minutes=10), usegmt=True), 600),
        ("999999999999999999999", 24 * 3600),
        ("86401", 24 * 3600),
    ],
)
@pytest.mark.parametrize("status", [429, 503, 500])
def test_retry_after_is_respected_up_to_a_day(text, seconds, status):
    next_at = judge(leased(1), refused(status, retry_after=text), "", 1, NOW).next_at

    assert next_at - NOW == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "0", "1", "-5", "soon", "1e9", "Fri, 01 May 2026 11:00:00 GMT", "٣٠"])
def test_a_retry_after_that_is_shorter_or_nonsense_changes_nothing(text):
    next_at = judge(leased(1), refused(503, retry_after=text), "", 1, NOW).next_at

    assert timedelta(seconds=4.5) <= next_at - NOW <= timedelta(seconds=5.5)


# ---- The end of an endpoint


def test_410_switches_an_endpoint_off(hook, endpoint):
    hook.answer = answer(410)
    first, later = waiting(endpoint), waiting(endpoint, next_at=timezone.now() + timedelta(hours=1))

    deliver()

    endpoint.refresh_from_db()
    assert (endpoint.state, endpoint.off_because) == ("off", "gone")
    assert [each.state for each in WebhookDelivery.objects.filter(pk__in=[first[0].pk, later[0].pk])] == ["failed"] * 2
    request_refills(endpoint.account_id, [factories.Order(account=endpoint.account).pk])
    assert WebhookDelivery.objects.count() == 2


@pytest.mark.parametrize(("days", "state"), [(2.9, "active"), (3, "off")])
def test_an_endpoint_that_fails_for_three_days_is_switched_off(hook, endpoint, days, state):
    hook.answer = answer(500)
    WebhookEndpoint.objects.update(failing_since=timezone.now() - timedelta(days=days))
    waiting(endpoint)

    deliver()

    endpoint.refresh_from_db()
    assert endpoint.state == state


def test_a_success_ends_the_failing(hook, endpoint):
    hook.answer = answer(500)
    [delivery] = waiting(endpoint)
    deliver()
    endpoint.refresh_from_db()
    assert endpoint.failing_since is not None
    hook.answer = None

    attempts_again(delivery)

    endpoint.refresh_from_db()
    assert endpoint.failing_since is None


def test_its_owner_is_warned_after_a_day_and_told_when_it_is_off(endpoint, clock):
    account = endpoint.account
    account.email = "owner@example.com"
    account.save()
    WebhookEndpoint.objects.update(failing_since=timezone.now() - timedelta(hours=23))
    keeping.sweep()
    assert mail.outbox == []

    clock.shift(timedelta(hours=1, seconds=1))
    keeping.sweep(), keeping.sweep()

    [warning] = mail.outbox
    assert warning.to == ["owner@example.com"]
    assert endpoint.url in warning.body
    WebhookEndpoint.objects.update(state="off", off_because="failing", ended_at=timezone.now())
    keeping.sweep(), keeping.sweep()
    assert [each.subject for each in mail.outbox] == ["Your webhook is failing", "Your webhook is switched off"]
    assert "No delivery succeeded for three days." in mail.outbox[1].body


def test_a_mail_that_cannot_be_sent_is_tried_again(endpoint, settings):
    endpoint.account.email = "owner@example.com"
    endpoint.account.save()
    WebhookEndpoint.objects.update(state="off", off_because="gone", ended_at=timezone.now())
    backend = settings.EMAIL_BACKEND
    settings.EMAIL_BACKEND, settings.EMAIL_HOST, settings.EMAIL_PORT = (
        "django.core.mail.backends.smtp.EmailBackend",
        "127.0.0.1",
        9,
    )
    keeping.sweep()
    settings.EMAIL_BACKEND = backend

    keeping.sweep()

    assert len(mail.outbox) == 1


# ---- Leases


def test_a_lease_without_a_result_ends(hook, endpoint, clock):
    """This is what happens when its worker is killed before, during or after the attempt."""
    [delivery] = waiting(endpoint)
    assert [each.id for each in lease(10, {}, failing=True)] == [delivery.pk]
    deliver()
    assert hook.got == []

    clock.shift(LEASE + timedelta(seconds=1))
    deliver()

    delivery.refresh_from_db()
    assert (hook.ids, delivery.state, delivery.attempts) == ([delivery.message_id], "delivered", 2)


def test_the_result_of_a_lease_that_has_ended_does_not_replace_a_later_one(endpoint, clock):
    [delivery] = waiting(endpoint)
    [slow] = lease(10, {}, failing=True)
    clock.shift(LEASE + timedelta(seconds=1))
    [quick] = lease(10, {}, failing=True)
    leasing.write([judge(quick, refused(200), "", 1, timezone.now())])

    leasing.write([judge(slow, refused(500), "", 1, timezone.now())])

    delivery.refresh_from_db()
    assert (delivery.state, delivery.status) == ("delivered", 200)


def test_what_another_worker_is_leasing_is_skipped(endpoint):
    first, second = waiting(endpoint, 2)

    with transaction.atomic():
        WebhookDelivery.objects.select_for_update().get(pk=first.pk)
        [leased] = race([lambda: lease(10, {}, failing=True)])

    assert [each.id for each in leased] == [second.pk]


def test_no_endpoint_gets_more_than_its_share(endpoint):
    failing = factories.WebhookEndpoint(failing_since=timezone.now())
    waiting(endpoint, 10), waiting(failing, 10)

    first = lease(100, {}, failing=True)
    busy = Counter(each.endpoint for each in first)
    second = lease(100, {endpoint.pk: 1, failing.pk: 1}, failing=True)

    assert busy == {endpoint.pk: leasing.PER_ENDPOINT, failing.pk: 1}
    assert Counter(each.endpoint for each in second) == {endpoint.pk: leasing.PER_ENDPOINT - 1}
    assert lease(100, {endpoint.pk: 9}, failing=False) == []


def test_what_has_waited_longest_comes_first(endpoint):
    other = factories.WebhookEndpoint()
    [late] = waiting(other, next_at=timezone.now() - timedelta(hours=1))
    waiting(endpoint, 10)

    assert [each.id for each in lease(1, {}, failing=True)] == [late.pk]


def test_the_endpoints_that_fail_wait_while_they_hold_half_of_the_worker(endpoint):
    WebhookEndpoint.objects.update(failing_since=timezone.now())
    waiting(endpoint)

    assert lease(10, {}, failing=False) == []
    assert len(lease(10, {}, failing=True)) == 1


@pytest.mark.parametrize("state", ["paused", "off", "removed"])
def test_nothing_is_sent_to_an_endpoint_that_is_not_active(hook, endpoint, state):
    waiting(endpoint)
    ended = {"off": {"ended_at": NOW, "off_because": "gone"}, "removed": {"ended_at": NOW, "encrypted_secret": ""}}
    WebhookEndpoint.objects.update(state=state, **ended.get(state, {}))

    deliver()

    assert (hook.got, jobs()) == ([], [])


def test_what_happened_during_a_pause_is_sent_after_it(hook, endpoint):
    pause(endpoint.account_id, endpoint.pk)
    request_refills(endpoint.account_id, [factories.Order(account=endpoint.account).pk])
    deliver()
    assert hook.got == []

    resume(endpoint.account_id, endpoint.pk)
    deliver()

    assert len(hook.got) == 1


def test_two_workers_share_the_work(hook):
    for _ in range(40):
        waiting(factories.WebhookEndpoint(url=f"{hook.url}/{uuid4()}"), 3)
    barrier = threading.Barrier(2)

    def work():
        barrier.wait()
        run(delivering.Deliverer().run())

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(hook.ids) == len(set(hook.ids)) == 120
    assert WebhookDelivery.objects.filter(state="delivered", attempts=1).count() == 120


def test_a_second_job_lets_the_first_look(hook, endpoint, monkeypatch):
    monkeypatch.setattr(delivering, "LINGER", 3.0)
    monkeypatch.setattr(delivering, "LOOK_EVERY", 30.0)

    async def both():
        first = asyncio.create_task(delivering.deliver())
        await asyncio.sleep(0.5)
        await asyncio.to_thread(in_thread, lambda: waiting(endpoint))
        await delivering.deliver()  # returns at once
        while not hook.got:
            await asyncio.sleep(0.02)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)

    run(asyncio.wait_for(both(), 10))


def in_thread(call):
    call()
    connection.close()


def test_a_worker_that_is_told_to_stop_begins_nothing(hook, endpoint):
    waiting(endpoint)
    queue.stopping.set()
    try:
        deliver()
    finally:
        queue.stopping.clear()

    assert hook.got == []


# ---- From time to time


def test_the_sweeper_wakes_a_worker_whose_job_was_lost(endpoint):
    waiting(endpoint, next_at=timezone.now() + timedelta(hours=1))
    keeping.sweep()
    assert jobs() == []
    waiting(endpoint)

    keeping.sweep()

    assert len(jobs()) == 1


# ---- Under load (docs/measurements/webhooks.md has it in full)


def test_endpoints_that_hang_delay_no_others():
    """Of 100 endpoints, 5 hang with many events due: every other one gets its events within seconds."""
    release = threading.Event()
    at = {}
    with receiver() as hook, receiver() as black_hole:
        black_hole.answer = lambda handler: release.wait(30)
        hook.answer = lambda handler: (at.setdefault(handler.path, time.time()), answer(204)(handler))
        for number in range(5):
            waiting(factories.WebhookEndpoint(url=f"{black_hole.url}/{number}"), 20)
        others = [factories.WebhookEndpoint(url=f"{hook.url}/{number}") for number in range(95)]
        begun = time.time()
        for each in others:
            waiting(each)
        worker = threading.Thread(target=deliver)
        worker.start()
        while len(at) < 95 and time.time() < begun + 20:
            time.sleep(0.05)
        release.set()
        queue.stopping.set()
        worker.join()
        queue.stopping.clear()

    assert len(at) == 95
    assert max(at.values()) - begun < 5


def test_what_is_sent_is_json(hook, endpoint):
    request_refills(endpoint.account_id, [factories.Order(account=endpoint.account).pk])

    deliver()

    assert set(json.loads(hook.got[0].body)) == {"type", "timestamp", "data"}
