"""/dashboard/webhooks: a customer's endpoints and their deliveries."""

import html
import re
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from apikeys.models import WebhookDelivery, WebhookEndpoint
from apikeys.webhooks.models import EVENTS
from notpanel.kit import secrets
from tests import factories
from tests.conftest import messages_of

pytestmark = pytest.mark.django_db

PASSWORD = "correct-horse-7"
URL = "https://shop.example/hooks"


@pytest.fixture
def account():
    account = factories.Account()
    account.set_password(PASSWORD)
    account.save()
    return account


@pytest.fixture
def client(account):
    client = Client()
    client.force_login(account)
    return client


@pytest.fixture
def endpoint(account):
    return factories.WebhookEndpoint(account=account)


def delivery(endpoint, **fields):
    now = timezone.now()
    values = {"type": "refill.completed", "body": "{}", "created_at": now, "state": "failed", "attempted_at": now}
    return WebhookDelivery.objects.create(endpoint=endpoint, **values | fields)


def path(endpoint, what=""):
    return f"/dashboard/webhooks/{endpoint.pk}/{what}"


def shown_secret(response):
    return html.unescape(re.search(r'id="secret">(.*?)<', response.content.decode())[1])


def add(client, **fields):
    return client.post("/dashboard/webhooks/", {"url": URL, "events": EVENTS, "password": PASSWORD, **fields})


def change(client, endpoint, what, **fields):
    response = client.post(path(endpoint, f"{what}/"), fields)
    endpoint.refresh_from_db()
    return messages_of(response)[-1]


def test_the_secret_of_a_new_endpoint_is_shown_once(client, account):
    response = add(client, events=["refill.completed"])

    endpoint = WebhookEndpoint.objects.get()
    assert shown_secret(response) == secrets.decrypt(endpoint.encrypted_secret)
    assert (endpoint.account, endpoint.url, endpoint.events) == (account, URL, ["refill.completed"])
    assert "no-store" in response["Cache-Control"]
    assert "whsec_" not in client.get(path(endpoint)).content.decode()


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"password": "wrong"}, "This is not your password."),
        ({"url": "http://shop.example/"}, "Invalid webhook URL: it must begin with https://."),
        ({"url": "https://shop.example:22/"}, "its port must be 443, or 1024 or above."),
        ({"events": []}, "This field is required."),
    ],
)
def test_mistakes_are_explained(client, fields, error):
    response = add(client, **fields)

    assert error in html.unescape(response.content.decode())
    assert WebhookEndpoint.objects.count() == 0


def test_the_list_shows_ones_own_endpoints(client, endpoint):
    other = factories.WebhookEndpoint()

    page = client.get("/dashboard/webhooks/").content.decode()

    assert endpoint.url in page
    assert other.url not in page


@pytest.mark.parametrize("what", ["", "test/", "pause/", "resume/", "replay/", "replay-failed/", "remove/"])
def test_the_endpoint_of_another_account_is_not_found(client, what):
    other = factories.WebhookEndpoint()

    assert client.post(path(other, what)).status_code == 404
    other.refresh_from_db()
    assert other.state == "active"


@pytest.mark.parametrize("what", ["", "test/", "remove/"])
def test_the_pages_need_a_sign_in(endpoint, what):
    assert Client().post(path(endpoint, what))["Location"].startswith("/dashboard/sign-in/")


def test_a_get_changes_nothing(client, endpoint):
    assert client.get(path(endpoint, "remove/"))["Location"] == path(endpoint)
    endpoint.refresh_from_db()
    assert endpoint.state == "active"


def test_what_does_not_exist_is_not_done(client, endpoint):
    assert client.post(path(endpoint, "nonsense/")).status_code == 404


def test_pausing_resuming_and_removing(client, endpoint):
    change(client, endpoint, "pause")
    assert endpoint.state == "paused"
    assert "Resume" in client.get(path(endpoint)).content.decode()
    change(client, endpoint, "resume")
    assert endpoint.state == "active"
    assert change(client, endpoint, "remove") == f"{endpoint.url} was removed. Nothing more is posted to it."
    assert endpoint.state == "removed"
    assert client.get(path(endpoint)).status_code == 404


def test_a_rotation_needs_the_password_and_shows_the_new_secret(client, endpoint):
    version = client.get(path(endpoint)).context["version"]
    assert (
        "not your password" in client.post(path(endpoint), {"password": "wrong", "version": version}).content.decode()
    )

    response = client.post(path(endpoint), {"password": PASSWORD, "version": version})

    endpoint.refresh_from_db()
    assert shown_secret(response) == secrets.decrypt(endpoint.encrypted_secret)
    again = client.post(path(endpoint), {"password": PASSWORD, "version": version})
    assert "was rotated in the meantime" in again.content.decode()


def test_a_test_event(client, endpoint):
    change(client, endpoint, "test")
    assert change(client, endpoint, "test") == "A test event is already on its way. See the deliveries below."

    assert WebhookDelivery.objects.get().type == "webhook.test"


def test_the_log_shows_what_was_answered_to_its_owner_alone(client, endpoint):
    delivery(endpoint, status=500, milliseconds=123, attempts=10, answer="<b>out of order</b>")
    delivery(endpoint, milliseconds=10_000, words="There was no answer within 10 seconds.")

    page = client.get(path(endpoint)).content.decode()

    for text in ("500", "after 123 ms", "&lt;b&gt;out of order&lt;/b&gt;", "There was no answer within 10 seconds."):
        assert text in page
    stranger = Client()
    stranger.force_login(factories.Account(is_staff=True, is_superuser=True))
    assert stranger.get(path(endpoint)).status_code == 404


def test_the_log_has_pages(client, endpoint, django_assert_max_num_queries):
    now = timezone.now()
    for minutes in range(60):
        delivery(endpoint, created_at=now - timedelta(minutes=minutes))
    first = client.get(path(endpoint)).context["page"]

    with django_assert_max_num_queries(5):  # the session, the user, the endpoint, the edge, the deliveries
        second = client.get(path(endpoint), {"before": first.older_than}).context["page"]

    assert (len(first.rows), len(second.rows), second.older_than) == (50, 10, None)


def test_one_delivery_is_replayed(client, endpoint):
    failed = delivery(endpoint)

    change(client, endpoint, "replay", delivery=failed.pk)

    failed.refresh_from_db()
    assert failed.state == "waiting"
    assert client.post(path(endpoint, "replay/"), {"delivery": "nonsense"}).status_code == 404


def test_everything_that_failed_since_a_time_is_replayed(client, endpoint):
    delivery(endpoint), delivery(endpoint), delivery(endpoint, created_at=timezone.now() - timedelta(days=2))
    since = (timezone.now() - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M")

    assert change(client, endpoint, "replay-failed", since=since) == "2 deliveries are on their way again."
    assert WebhookDelivery.objects.filter(state="waiting").count() == 2
    assert change(client, endpoint, "replay-failed", since="x") == "Nothing was replayed. Choose a day and a time."


def test_an_endpoint_that_is_off_says_why(client, endpoint):
    WebhookEndpoint.objects.update(state="off", off_because="gone", ended_at=timezone.now())

    assert "It answered 410 Gone." in client.get(path(endpoint)).content.decode()
