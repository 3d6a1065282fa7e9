"""The audit log: who did what to an account, from where and when."""

import re

import pytest
from django.contrib.auth.models import Group, Permission
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apikeys.accounts import set_active
from apikeys.keys import create_api_key
from apikeys.models import Account, AuditEvent
from tests import factories
from tests.conftest import post

PASSWORD = "correct-horse-7"
NEW = {"new_password1": "another-horse-8", "new_password2": "another-horse-8"}


@pytest.fixture
def account(db):
    account = factories.Account(username="anna", email="anna@example.com")
    account.set_password(PASSWORD)
    account.save()
    return account


@pytest.fixture
def events(db):
    """Return a function that returns what was recorded since its last call."""
    seen = [0]

    def new():
        found = list(AuditEvent.objects.filter(pk__gt=seen[0]).order_by("pk"))
        seen[0] = max([seen[0], *(event.pk for event in found)])
        return [
            (event.kind, event.account and event.account.username, event.by and event.by.username) for event in found
        ]

    return new


def details_of(kind):
    return AuditEvent.objects.filter(kind=kind).latest("pk").details


@pytest.mark.parametrize("path", ["/dashboard/sign-in/", "/admin/login/"])
def test_signing_in_failing_and_signing_out(client, account, events, path):
    Account.objects.filter(pk=account.pk).update(is_staff=True)
    events()

    client.post(path, {"username": "anna", "password": "guess"}, REMOTE_ADDR="198.51.100.7")
    client.post(path, {"username": "my-secret-pass", "password": ""}, REMOTE_ADDR="198.51.100.7")
    client.post(path, {"username": "my-secret-pass", "password": "anna"}, REMOTE_ADDR="198.51.100.7")
    client.post(path, {"username": "anna", "password": PASSWORD}, REMOTE_ADDR="198.51.100.7")
    client.post("/dashboard/sign-out/", REMOTE_ADDR="198.51.100.7")

    assert {event.address for event in AuditEvent.objects.order_by("-pk")[:4]} == {"198.51.100.7"}
    assert events() == [
        ("sign_in_failed", "anna", None),
        ("sign_in_failed", None, None),
        ("signed_in", "anna", "anna"),
        ("signed_out", "anna", "anna"),
    ]


def test_a_lock_is_recorded_once(client, account, events, settings):
    settings.ATTEMPTS_PER_NAME = 2
    events()

    for _ in range(4):
        client.post("/dashboard/sign-in/", {"username": "anna", "password": "guess"})

    failed = ("sign_in_failed", "anna", None)
    assert events() == [failed, failed, ("locked", "anna", None)]
    assert details_of("locked") == {"limit": "sign-in:name"}


def test_wrong_and_new_passwords(client, account, events, settings):
    settings.ATTEMPTS_PER_NAME = 1
    client.force_login(account)
    events()

    client.post("/dashboard/password/", {"old_password": PASSWORD, **NEW})
    client.post("/dashboard/password/", {"old_password": "guess", **NEW})

    assert events() == [
        ("password_changed", "anna", "anna"),
        ("proof_failed", "anna", "anna"),
        ("locked", "anna", "anna"),
    ]


def test_a_reset_by_mail_and_a_password_given_by_staff(client, account, events, staff, mailoutbox, monkeypatch):
    monkeypatch.setattr("apikeys.forms.MAIL_AFTER", 0)
    events()
    client.post("/dashboard/password/reset/", {"email": "anna@example.com"})
    while not mailoutbox:
        pass
    [link] = re.findall(r"http://testserver(/\S+)", mailoutbox[0].body)
    client.post(client.get(link, follow=True).redirect_chain[-1][0], NEW)
    assert events() == [("password_reset", "anna", None)]

    client.force_login(staff)
    password = {"password1": PASSWORD, "password2": PASSWORD, "usable_password": "true"}
    url = reverse("admin:auth_user_password_change", args=[account.pk])
    client.post(url, password)
    client.post(url, {"usable_password": "false", "unset-password": "yes"})
    changed = ("password_changed", "anna", "agent")
    assert events() == [("signed_in", "agent", "agent"), changed, changed]


def test_a_rehashed_password_is_not_a_new_one(client, account, events, settings):
    settings.PASSWORD_HASHERS = [
        "django.contrib.auth.hashers.ScryptPasswordHasher",
        "django.contrib.auth.hashers.MD5PasswordHasher",
    ]
    events()

    client.post("/dashboard/sign-in/", {"username": "anna", "password": PASSWORD})

    assert events() == [("signed_in", "anna", "anna")]
    assert Account.objects.get().password.startswith("scrypt")


def test_the_life_of_a_key(client, account, events):
    client.force_login(account)
    events()
    form = {"name": "shop", "allowed_networks": "10.0.0.0/8", "expires_on": "2040-01-01", "password": PASSWORD}

    client.post("/dashboard/api/", form)
    key = account.api_keys.get()
    client.post(f"/dashboard/api/{key.pk}/change/", form | {"name": "till"})
    client.post(f"/dashboard/api/{key.pk}/", {"prefix": key.prefix, "password": PASSWORD})
    client.post(f"/dashboard/api/{key.pk}/revoke/")
    client.post(f"/dashboard/api/{key.pk}/revoke/")

    assert events() == [(kind, "anna", "anna") for kind in ("key_created", "key_changed", "key_rotated", "key_revoked")]
    assert details_of("key_created")["key"] == details_of("key_rotated")["was"] == key.prefix
    assert details_of("key_changed")["name"] == "till"


def test_commands_are_recorded_without_an_actor(account, events, capsys):
    events()

    call_command("createapikey", "anna")

    assert events() == [("key_created", "anna", None)]
    assert AuditEvent.objects.latest("pk").address is None


def test_rights_and_names(client, staff, account, events):
    client.force_login(staff)
    group = Group.objects.create(name="Night shift")
    permission = Permission.objects.get(codename="view_account")
    form = {"username": "anna", "tier": "standard", "email": "new@example.com", "is_staff": "on", "groups": group.pk}
    url = reverse("admin:apikeys_account_change", args=[account.pk])
    events()

    client.post(url, form | {"user_permissions": permission.pk})
    assert events() == [
        ("rights_changed", "anna", "agent"),
        ("account_changed", "anna", "agent"),
        ("rights_changed", "anna", "agent"),
        ("rights_changed", "anna", "agent"),
    ]
    recorded = [event.details for event in AuditEvent.objects.order_by("-pk")[:4]]
    assert recorded == [
        {"added": {"permissions": ["view_account"]}},
        {"added": {"groups": ["Night shift"]}},
        {"changed": ["email"]},
        {"is_staff": True},
    ]

    client.post(url, form | {"user_permissions": permission.pk})
    assert events() == []
    group.user_set.clear()
    assert details_of("rights_changed") == {"removed": {"groups": ["Night shift"]}}


def test_groups(client, staff, events):
    client.force_login(staff)
    permission = Permission.objects.get(codename="view_account")
    events()

    client.post(reverse("admin:auth_group_add"), {"name": "Evening shift", "permissions": [permission.pk]})
    assert details_of("group_changed") == {"group": "Evening shift", "added": ["view_account"]}
    group = Group.objects.get(name="Evening shift")
    client.post(reverse("admin:auth_group_change", args=[group.pk]), {"name": "Evening shift", "permissions": []})
    client.post(reverse("admin:auth_group_delete", args=[group.pk]), {"post": "yes"})

    changed = ("group_changed", None, "agent")
    assert set(events()) == {changed}
    assert details_of("group_changed") == {"group": "Evening shift", "done": "deleted"}


def test_a_suspension_has_its_own_log_and_is_not_recorded_twice(staff, account, events):
    events()
    set_active(account, False, staff, "chargeback")
    assert events() == []


def test_a_change_and_its_event_are_saved_together(account, monkeypatch):
    def fail(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr(AuditEvent, "record", fail)
    api_key = account.api_keys
    with pytest.raises(ZeroDivisionError):
        create_api_key(account)
    account.email = "other@example.com"
    with pytest.raises(ZeroDivisionError):
        account.save()

    assert not api_key.exists()
    assert Account.objects.get().email == "anna@example.com"


def test_nothing_secret_is_recorded(client, account, events):
    client.force_login(account)
    page = client.post("/dashboard/api/", {"name": "shop", "password": PASSWORD})
    raw_key = re.search(r"np_[\w-]{43}", page.content.decode())[0]
    client.post("/dashboard/sign-in/", {"username": raw_key, "password": PASSWORD})
    Client().post("/dashboard/sign-in/", {"username": PASSWORD, "password": raw_key})

    recorded = str(list(AuditEvent.objects.values()))
    assert PASSWORD not in recorded
    assert raw_key not in recorded
    assert account.api_keys.get().digest not in recorded


def test_requests_to_the_api_write_and_read_no_event(customer):
    post(key=customer.raw_key, action="services")  # the first records when the key was used

    with CaptureQueriesContext(connection) as queries:
        post(key=customer.raw_key, action="services")
        post(key="np_" + "x" * 43, action="services")

    assert "audit" not in str(queries.captured_queries)


@pytest.mark.parametrize("change", ["UPDATE apikeys_auditevent SET kind = 'locked'", "DELETE FROM apikeys_auditevent"])
def test_the_database_refuses_to_change_or_delete_an_event(account, change):
    with pytest.raises(DatabaseError, match="never changed"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(change)


class TestAdmin:
    url = "/admin/apikeys/auditevent/"

    def test_superusers_read_it_and_change_nothing(self, client, staff, account):
        client.force_login(staff)
        event = AuditEvent.objects.filter(account=account).latest("pk")

        page = client.get(self.url).content.decode()
        assert "Account created" in page
        assert client.get(f"{self.url}{event.pk}/change/").status_code == 200
        assert client.get(f"{self.url}add/").status_code == 403
        assert client.post(f"{self.url}{event.pk}/change/", {"kind": "locked"}).status_code == 403
        assert client.post(f"{self.url}{event.pk}/delete/", {"post": "yes"}).status_code == 403

    def test_the_page_shows_the_details_as_text(self, client, staff, account):
        client.force_login(staff)
        AuditEvent.record("rights_changed", account, {"added": {"groups": ["Night", "Day"]}, "name": "", "n": None})

        assert "added: groups Night, Day<" in client.get(self.url).content.decode()

    def test_nobody_else_reads_it_whatever_their_permissions(self, client, account):
        agent = factories.Account(is_staff=True)
        agent.user_permissions.set(Permission.objects.all())
        client.force_login(agent)

        assert client.get(self.url).status_code == 403
        assert client.get(f"{self.url}{AuditEvent.objects.latest('pk').pk}/change/").status_code == 403

    def test_it_is_searched_by_who_was_affected_and_by_who_acted(self, client, staff, account):
        client.force_login(staff)
        other = factories.Account(username="berta")
        client.post(
            reverse("admin:auth_user_password_change", args=[other.pk]),
            {"usable_password": "false", "unset-password": "yes"},
        )

        def found(term):
            result = client.get(self.url, {"q": term}).context["cl"].result_list
            return {(event.account.username, event.by and event.by.username) for event in result}

        assert found("berta") == {("berta", None), ("berta", "agent")}
        assert ("berta", "agent") in found("agent")
        assert found("nobody") == set()
