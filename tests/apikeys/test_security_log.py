"""The security events: what is audited, and what strangers and programs do, in a logger of their own."""

import logging

import pytest
from django.db import transaction
from django.test import Client

from apikeys.accounts import set_active
from apikeys.keys import ApiKeyDetails, create_api_key, revoke_api_key, rotate_api_key
from apikeys.models import AuditEvent
from tests import factories
from tests.conftest import new_customer, post

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def account():
    account = factories.Account(username="anna")
    account.set_password("right-horse-7")
    account.save()
    return account


def sign_in(client, name="anna", password="right-horse-7"):
    return client.post("/dashboard/sign-in/", {"username": name, "password": password}, headers={"X-Request-ID": "r1"})


def events(log):
    return [(event["event"], event["level"]) for event in log.security]


def test_an_event_says_who_did_what_from_where_in_which_request(account, client, log):
    sign_in(client)

    [event] = [event for event in log.security if event["event"] == "signed_in"]
    assert event.pop("time")
    assert event == {
        "level": "info",
        "logger": "notpanel.security",
        "event": "signed_in",
        "request_id": "r1",
        "account": account.pk,
        "by": account.pk,
        "address": "127.0.0.1",
    }


def test_a_wrong_password(account, client, log):
    sign_in(client, password="wrong-horse-7")

    assert events(log) == [("sign_in_failed", "warning")]
    assert log.requests[0]["denied_by"] == "sign_in"
    assert "horse" not in log.text


def test_a_password_in_the_field_of_the_name_is_not_logged(account, client, log):
    sign_in(client, name="right-horse-7", password="x")

    assert events(log) == [("sign_in_failed", "warning")]
    assert "horse" not in log.text


def test_a_limit_of_attempts_and_what_comes_after(account, client, log, settings):
    settings.ATTEMPTS_PER_NAME = 1
    for _ in range(2):
        sign_in(client, password="wrong")

    assert events(log) == [("sign_in_failed", "warning"), ("locked", "warning"), ("attempt_refused", "warning")]
    assert [event.get("limit") for event in log.security] == [None, "sign-in:name", "sign-in:name"]
    assert (log.requests[1]["outcome"], log.requests[1]["limited_by"]) == ("limited", "sign-in:name")


def test_the_life_of_a_key(account, log):
    key, raw_key = create_api_key(account, ApiKeyDetails(name="shop-secret"))
    raw_keys = [raw_key, rotate_api_key(key, key.prefix)]
    revoke_api_key(key)

    assert events(log) == [("key_created", "info"), ("key_rotated", "info"), ("key_revoked", "info")]
    assert [event["key"] for event in log.security] == [raw_keys[0][:11], raw_keys[1][:11], raw_keys[1][:11]]
    assert not [raw_key for raw_key in raw_keys if raw_key in log.text]
    assert "shop-secret" not in log.text  # the name is not logged, because its owner chose it


def test_a_suspension_and_a_key_of_the_suspended_account(log):
    customer, by = new_customer(), factories.Account(is_superuser=True)
    log.clear()

    set_active(customer.account, active=False, by=by, reason="did not pay")
    customer.post("services")

    suspended, refused = log.security
    assert (suspended["event"], suspended["account"], suspended["by"]) == (
        "account_suspended",
        customer.account.pk,
        by.pk,
    )
    assert (refused["event"], refused["because"], refused["account"]) == (
        "key_refused",
        "suspended",
        customer.account.pk,
    )
    assert refused["key"] == customer.api_key.prefix


def test_an_unknown_key_but_not_a_missing_one(log):
    post(key="np_" + "x" * 43, action="services")
    post(action="services")

    [event] = log.security
    assert (event["event"], event["because"], event["address"]) == ("key_refused", "unknown_key", "127.0.0.1")


def test_a_host_that_is_not_ours(log):
    Client().get("/", headers={"Host": "elsewhere.example"})

    assert events(log) == [("host_refused", "warning")]
    assert "elsewhere" not in log.text


def test_a_form_that_is_not_ours(account, log):
    client = Client(enforce_csrf_checks=True)

    assert client.post("/dashboard/sign-in/", headers={"Origin": "https://elsewhere.example"}).status_code == 403

    [event] = log.security
    assert (event["event"], event["because"]) == ("form_refused", "Origin checking failed")
    assert log.requests[0]["denied_by"] == "csrf"
    assert "elsewhere" not in log.text


def test_what_is_rolled_back_is_not_logged(account, log):
    with transaction.atomic():
        AuditEvent.record("key_created", account)
        transaction.set_rollback(True)

    assert events(log) == []


def test_many_at_once_are_one_event_of_each_kind(account, log):
    others = factories.Account.create_batch(3)
    log.clear()

    AuditEvent.record_all([*(("account_created", other, {}) for other in others), ("invited", account, {})])

    created, invited = log.security
    assert (created["event"], created["accounts"]) == ("account_created", 3)
    assert (invited["event"], invited["account"]) == ("invited", account.pk)


def test_events_are_written_whatever_the_level_of_the_log(account, client, log):
    root = logging.getLogger()
    before = root.level
    root.setLevel("CRITICAL")
    try:
        sign_in(client)
    finally:
        root.setLevel(before)

    assert ("signed_in", "info") in events(log)
    assert not log.requests
