"""How endpoints of webhooks are added, listed, removed, paused, rotated and replayed, by programs and by functions."""

import json
from datetime import timedelta

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.utils import timezone
from standardwebhooks.webhooks import Webhook

from apikeys.models import AuditEvent, WebhookDelivery, WebhookEndpoint
from apikeys.refusals import NotReplayable, WebhookNotActive, WebhookNotFound, WebhookRotated, WebhookTestWaits
from apikeys.webhooks import endpoints
from apikeys.webhooks.leasing import lease
from apikeys.webhooks.models import EVENTS
from notpanel.kit import secrets
from tests import factories
from tests.conftest import new_customer
from tests.races import MARKS, race

pytestmark = MARKS

URL = "https://shop.example/hooks"


@pytest.fixture
def customer(transactional_db):
    return new_customer()


@pytest.fixture
def endpoint(customer):
    return factories.WebhookEndpoint(account=customer.account)


def delivery(endpoint, **fields):
    now = timezone.now()
    values = {"type": "refill.completed", "body": "{}", "created_at": now, "state": "failed", "attempted_at": now}
    return WebhookDelivery.objects.create(endpoint=endpoint, **values | fields)


# ---- By programs


def test_a_program_adds_an_endpoint_and_sees_its_secret_once(customer):
    added = customer.post("webhook.add", url=URL, events="refill.rejected, refill.completed").json()

    endpoint = WebhookEndpoint.objects.get()
    secret = added.pop("secret")
    assert Webhook(secret).sign("msg_1", timezone.now(), "{}")
    assert secrets.decrypt(endpoint.encrypted_secret) == secret
    assert secret not in endpoint.encrypted_secret
    assert added == {
        "webhook": endpoint.pk,
        "url": URL,
        "events": ["refill.completed", "refill.rejected"],
        "status": "active",
    }
    assert customer.post("webhook.list").json() == [added]


def test_without_events_an_endpoint_gets_all_of_them(customer):
    assert customer.post("webhook.add", url=URL).json()["events"] == list(EVENTS)


@pytest.mark.parametrize(
    ("parameters", "error", "code"),
    [
        ({}, "Missing required parameter: url", "missing_parameter"),
        ({"url": "http://shop.example/"}, "Invalid webhook URL: it must begin with https://", "invalid_webhook_url"),
        ({"url": "https://shop.example:22/"}, None, "invalid_webhook_url"),
        ({"url": "https://10.0.0.1/"}, "Invalid webhook URL: it must lead to a public address", "invalid_webhook_url"),
        ({"url": "https://[::ffff:1.1.1.1]/"}, None, "invalid_webhook_url"),
        ({"url": URL, "events": "refill.lost"}, "Unknown webhook event", "unknown_webhook_event"),
        ({"url": URL, "events": "webhook.test"}, "Unknown webhook event", "unknown_webhook_event"),
    ],
)
def test_what_is_refused(customer, parameters, error, code):
    response = customer.post("webhook.add", **parameters)

    assert (response.status_code, response["X-Error-Code"]) == (400, code)
    assert error in (response.json()["error"], None)
    assert WebhookEndpoint.objects.count() == 0


def test_a_url_is_added_once(customer):
    customer.post("webhook.add", url=URL)

    assert customer.post("webhook.add", url=URL).json() == {"error": "A webhook with this URL already exists"}
    assert "secret" in new_customer().post("webhook.add", url=URL).json()


def test_an_account_has_five_endpoints_at_most_however_they_race(customer):
    added = race([lambda n=n: customer.post("webhook.add", url=f"{URL}/{n}").json() for n in range(8)])

    refused = [answer for answer in added if "error" in answer]
    assert refused == [{"error": "Webhook limit reached (5 per account)"}] * 3
    assert WebhookEndpoint.objects.count() == 5


def test_the_same_url_at_the_same_time_is_added_once(customer):
    added = race([lambda: customer.post("webhook.add", url=URL).json()] * 4)

    assert sum("secret" in answer for answer in added) == 1


def test_a_program_removes_an_endpoint(customer, endpoint):
    waits = delivery(endpoint, state="waiting", next_at=timezone.now(), attempted_at=None)

    answer = customer.post("webhook.remove", webhook=endpoint.pk.lower()).json()

    assert answer == {"webhook": endpoint.pk, "status": "removed"}
    assert customer.post("webhook.list").json() == []
    endpoint.refresh_from_db(), waits.refresh_from_db()
    assert (endpoint.encrypted_secret, waits.state) == ("", "failed")
    assert "secret" in customer.post("webhook.add", url=endpoint.url).json()


@pytest.mark.parametrize(
    "webhook", ["whk_01HG9XD5V6Q2M8R4T7W1Y3ZKNB", "nonsense", "1", "ord_01HG9XD5V6Q2M8R4T7W1Y3ZKNB"]
)
def test_an_unknown_endpoint_is_not_found(customer, webhook):
    response = customer.post("webhook.remove", webhook=webhook)

    assert (response.status_code, response.json()) == (400, {"error": "Webhook not found"})


def test_the_endpoints_of_others_are_not_found(endpoint):
    other = new_customer()

    assert other.post("webhook.remove", webhook=endpoint.pk).json() == {"error": "Webhook not found"}
    assert other.post("webhook.list").json() == []


def test_the_audit_log_tells_who_did_it(customer):
    endpoint = customer.post("webhook.add", url=URL).json()["webhook"]
    customer.post("webhook.remove", webhook=endpoint)

    added, removed = AuditEvent.objects.filter(kind__startswith="webhook_").order_by("at", "id")
    assert (added.kind, removed.kind) == ("webhook_added", "webhook_removed")
    assert (added.account, added.by_id, added.address) == (customer.account, customer.account.pk, "127.0.0.1")
    assert added.details == {"webhook": endpoint, "key": customer.api_key.prefix, "url": URL, "events": list(EVENTS)}


# ---- Pausing, rotating, trying


@pytest.mark.parametrize(
    "call",
    [
        endpoints.endpoint_of,
        endpoints.remove_endpoint,
        endpoints.pause,
        endpoints.resume,
        endpoints.send_test,
        lambda account, endpoint: endpoints.rotate_secret(account, endpoint, "first"),
        lambda account, endpoint: endpoints.replay_failed(account, endpoint, timezone.now()),
        lambda account, endpoint: endpoints.replay(account, endpoint, delivery(WebhookEndpoint.objects.get()).pk),
    ],
)
def test_nothing_is_done_with_the_endpoint_of_another_account(endpoint, call):
    with pytest.raises(WebhookNotFound):
        call(factories.Account().pk, endpoint.pk)


def test_a_form_that_is_sent_twice_rotates_the_secret_once(endpoint):
    """Otherwise the secret with which the receiver verifies would be gone at once."""
    version = endpoints.secret_version(endpoint)
    _, secret = endpoints.rotate_secret(endpoint.account_id, endpoint.pk, version)

    with pytest.raises(WebhookRotated):
        endpoints.rotate_secret(endpoint.account_id, endpoint.pk, version)

    endpoint.refresh_from_db()
    assert secrets.decrypt(endpoint.encrypted_secret) == secret
    assert secrets.decrypt(endpoint.encrypted_old_secret) == "whsec_" + "c2VjcmV0" * 4


def test_a_pause_does_not_resume_what_is_off(endpoint):
    WebhookEndpoint.objects.update(state="off", off_because="gone", ended_at=timezone.now())

    endpoints.pause(endpoint.account_id, endpoint.pk)
    endpoint.refresh_from_db()
    assert endpoint.state == "off"

    endpoints.resume(endpoint.account_id, endpoint.pk)
    endpoint.refresh_from_db()
    assert (endpoint.state, endpoint.off_because, endpoint.ended_at) == ("active", "", None)


def test_only_one_test_event_is_sent_at_a_time(endpoint):
    endpoints.send_test(endpoint.account_id, endpoint.pk)

    with pytest.raises(WebhookTestWaits):
        endpoints.send_test(endpoint.account_id, endpoint.pk)

    [sent] = WebhookDelivery.objects.all()
    body = json.loads(sent.body)
    assert (body["type"], body["data"]) == ("webhook.test", {"webhook": endpoint.pk})


def test_no_test_event_is_sent_to_a_paused_endpoint(endpoint):
    endpoints.pause(endpoint.account_id, endpoint.pk)

    with pytest.raises(WebhookNotActive):
        endpoints.send_test(endpoint.account_id, endpoint.pk)


# ---- Replaying


@pytest.mark.parametrize("state", ["failed", "delivered"])
def test_one_delivery_is_replayed(endpoint, state):
    once = delivery(endpoint, state=state, attempts=10)

    endpoints.replay(endpoint.account_id, endpoint.pk, once.pk)

    [leased] = lease(10, {}, failing=True)
    assert (leased.id, leased.attempts) == (once.pk, 1)


def test_what_waits_for_a_late_attempt_is_replayed_at_once(endpoint):
    put_off = delivery(endpoint, state="waiting", next_at=timezone.now() + timedelta(hours=5), attempts=6)

    assert endpoints.replay_failed(endpoint.account_id, endpoint.pk, timezone.now() - timedelta(days=1)) == 1

    assert [each.id for each in lease(10, {}, failing=True)] == [put_off.pk]


def test_what_is_being_attempted_or_may_not_be_sent_yet_is_not_replayed(endpoint):
    delivery(endpoint, state="waiting", next_at=timezone.now(), attempted_at=None)
    [leased] = lease(10, {}, failing=True)
    unsent = delivery(endpoint, state="waiting", next_at=timezone.now() + timedelta(seconds=30), attempted_at=None)

    for each in (leased.id, unsent.pk):
        with pytest.raises(NotReplayable):
            endpoints.replay(endpoint.account_id, endpoint.pk, each)
    assert endpoints.replay_failed(endpoint.account_id, endpoint.pk, timezone.now() - timedelta(days=1)) == 0


def test_everything_that_failed_since_a_time_is_replayed(endpoint):
    now = timezone.now()
    delivery(endpoint, created_at=now - timedelta(hours=3))
    delivery(endpoint, state="delivered")
    delivery(factories.WebhookEndpoint(account=endpoint.account))
    expected = {delivery(endpoint, created_at=now - timedelta(hours=hours)).pk for hours in (0, 1, 2)}

    assert endpoints.replay_failed(endpoint.account_id, endpoint.pk, now - timedelta(hours=2)) == 3

    assert {each.id for each in lease(10, {}, failing=True)} == expected


# ---- Secrets


def test_the_secrets_are_reencrypted(settings, endpoint):
    endpoints.rotate_secret(endpoint.account_id, endpoint.pk, "first")
    before = WebhookEndpoint.objects.get()
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode()]

    call_command("encryptkeysanew")

    settings.SECRET_KEY = "another one"
    after = WebhookEndpoint.objects.get()
    assert secrets.decrypt(after.encrypted_old_secret) == "whsec_" + "c2VjcmV0" * 4
    assert after.encrypted_secret != before.encrypted_secret
    assert secrets.decrypt(after.encrypted_secret)


def test_a_secret_that_cannot_be_decrypted_is_reported(endpoint):
    WebhookEndpoint.objects.update(encrypted_secret="nonsense")

    with pytest.raises(CommandError, match=f"must rotate them: {endpoint.pk}"):
        call_command("encryptkeysanew")
