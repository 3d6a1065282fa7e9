import pytest
from django.urls import reverse

from apikeys.models import Account, ApiKey


@pytest.fixture
def admin(client, staff):
    client.force_login(staff)
    return client


def test_keys_are_listed_without_what_is_secret(admin, customer):
    for url in (
        reverse("admin:apikeys_apikey_changelist"),
        reverse("admin:apikeys_apikey_change", args=[customer.api_key.pk]),
    ):
        page = admin.get(url).content.decode()

        assert customer.api_key.prefix in page
        assert customer.raw_key not in page
        assert customer.api_key.digest not in page


def test_keys_are_neither_made_nor_changed_nor_deleted_in_the_admin(admin, customer):
    assert admin.get(reverse("admin:apikeys_apikey_add")).status_code == 403
    url = reverse("admin:apikeys_apikey_change", args=[customer.api_key.pk])
    assert admin.post(url, {"name": "mine"}).status_code == 403
    assert admin.get(reverse("admin:apikeys_apikey_delete", args=[customer.api_key.pk])).status_code == 403


def test_a_key_is_revoked_in_the_admin(admin, customer):
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
