import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apikeys.keys import revoke_api_key
from apikeys.models import Account, ApiKey
from tests import factories


@pytest.fixture
def admin(client, staff):
    client.force_login(staff)
    return client


def test_the_list_of_keys_shows_no_secret(admin, customer):
    for url in (
        reverse("admin:apikeys_apikey_changelist"),
        reverse("admin:apikeys_apikey_change", args=[customer.api_key.pk]),
    ):
        page = admin.get(url).content.decode()

        assert customer.api_key.prefix in page
        assert customer.raw_key not in page
        assert customer.api_key.digest not in page


def test_the_admin_neither_creates_nor_changes_nor_deletes_keys(admin, customer):
    assert admin.get(reverse("admin:apikeys_apikey_add")).status_code == 403
    url = reverse("admin:apikeys_apikey_change", args=[customer.api_key.pk])
    assert admin.post(url, {"name": "mine"}).status_code == 403
    assert admin.get(reverse("admin:apikeys_apikey_delete", args=[customer.api_key.pk])).status_code == 403


def test_staff_revoke_a_key_in_the_admin(admin, customer):
    admin.post(
        reverse("admin:apikeys_apikey_changelist"), {"action": "revoke", "_selected_action": [customer.api_key.pk]}
    )

    assert customer.post("services").status_code == 401
    assert ApiKey.objects.get().revoked_at


def test_an_account_is_added_with_its_tier(admin):
    admin.post(
        reverse("admin:apikeys_account_add"),
        {
            "username": "shop",
            "tier": "agency",
            "usable_password": "true",
            "password1": "kX93-bnq",
            "password2": "kX93-bnq",
        },
    )

    assert Account.objects.get(username="shop").tier == "agency"


@pytest.fixture
def agent_with(db):
    """Return a function that signs in an agent with the permissions given, and returns the agent's client."""

    def sign_in(*codenames):
        agent = factories.Account(is_staff=True)
        agent.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        client = Client()
        client.force_login(agent)
        return client

    return sign_in


def test_revoking_a_key_needs_the_permission_to_change_keys(agent_with, customer):
    url = reverse("admin:apikeys_apikey_changelist")
    revoke = {"action": "revoke", "_selected_action": [customer.api_key.pk]}

    agent_with("view_apikey").post(url, revoke)
    assert customer.post("services").status_code == 200

    agent_with("view_apikey", "change_apikey").post(url, revoke)
    assert customer.post("services").status_code == 401


def test_keys_that_were_revoked_before_are_not_counted(admin, customers):
    keys = [customers().api_key for _ in range(3)]
    revoke_api_key(keys[0])

    response = admin.post(
        reverse("admin:apikeys_apikey_changelist"),
        {"action": "revoke", "_selected_action": [key.pk for key in keys]},
        follow=True,
    )

    assert "Revoked: 2." in response.content.decode()
    logged = LogEntry.objects.filter(content_type__model="apikey").values_list("object_id", flat=True)
    assert set(logged) == {str(key.pk) for key in keys[1:]}


def test_an_account_is_not_suspended_without_a_reason(admin, customer):
    url = reverse("admin:apikeys_account_change", args=[customer.account.pk])
    form = admin.get(url).context["adminform"].form
    assert "is_active" not in form.fields

    values = {name: value for name, value in form.initial.items() if value is not None}
    response = admin.post(url, {"username": values["username"], "tier": "agency", "email": ""})

    assert response.status_code == 302
    account = Account.objects.get(pk=customer.account.pk)
    assert (account.tier, account.is_active) == ("agency", True)


def test_an_account_is_not_deleted(admin, customer):
    assert admin.post(reverse("admin:apikeys_account_delete", args=[customer.account.pk])).status_code == 403


def test_an_account_that_does_not_exist_redirects_to_the_start_page(admin):
    assert admin.get(reverse("admin:apikeys_account_change", args=["nobody"])).status_code == 302


def test_agents_who_may_only_view_see_neither_password_nor_permissions(agent_with, customer):
    url = reverse("admin:apikeys_account_change", args=[customer.account.pk])

    fields = agent_with("view_account").get(url).context["adminform"].fieldsets

    shown = {name for _, options in fields for name in options["fields"]}
    assert shown.isdisjoint({"password", "user_permissions", "groups", "is_superuser"})
    assert {"username", "tier", "is_active"} <= shown
    assert "password" in str(agent_with("view_account", "change_account").get(url).context["adminform"].fieldsets)


def test_keys_are_found_by_their_prefix_and_by_their_account(admin, customer, customers):
    other = customers()
    for term in (customer.api_key.prefix, customer.account.username):
        page = admin.get(reverse("admin:apikeys_apikey_changelist"), {"q": term}).content.decode()
        assert customer.api_key.prefix in page
        assert other.api_key.prefix not in page


def test_the_list_of_keys_does_not_read_digests(admin, customer):
    with CaptureQueriesContext(connection) as queries:
        admin.get(reverse("admin:apikeys_apikey_changelist"))
        admin.get(reverse("admin:apikeys_apikey_change", args=[customer.api_key.pk]))

    assert '"prefix"' in str(queries.captured_queries)
    assert '"digest"' not in str(queries.captured_queries)
