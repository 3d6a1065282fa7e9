"""Which role may do which action in the admin, checked on the server for every path."""

import importlib

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission
from django.urls import reverse

from refills.models import Refill
from tests import factories

support_migration = importlib.import_module("refills.migrations.0002_support")


@pytest.fixture
def support_group(db):
    """Create the group as the migration does: a test that empties the tables removes it."""
    support_migration.create_support(apps, None)
    return Group.objects.get(name="Support")


@pytest.fixture
def log_in(client, support_group):
    def as_role(role):
        if role == "anonymous":
            return client
        account = factories.Account(is_staff=role != "customer", is_superuser=role == "superuser")
        if role == "support":
            account.groups.add(support_group)
        if role == "viewer":
            account.user_permissions.add(Permission.objects.get(codename="view_refill"))
        client.force_login(account)
        return client

    return as_role


ROLES = ("anonymous", "customer", "staff", "viewer", "support", "superuser")
ACTIONS = {
    # action: (method, address, fields, the roles that may do it; "settle" stands for those that may settle)
    "see the dashboard": ("get", "admin:index", {}, "staff viewer support superuser"),
    "see the queue": ("get", "admin:refills_refill_changelist", {}, "viewer support superuser"),
    "export the queue": ("get", "admin:refills_refill_export", {}, "viewer support superuser"),
    "export settled refills": ("get", "admin:refills_refill_export_form", {}, "viewer support superuser"),
    "settle a list": ("get", "admin:refills_refill_list", {}, "settle"),
    "see a refill": ("get", "admin:refills_refill_change", {"refill": True}, "viewer support superuser"),
    "see a refill's log": ("get", "admin:refills_refill_history", {"refill": True}, "viewer support superuser"),
    "add a refill": ("get", "admin:refills_refill_add", {}, ""),
    "edit a refill": ("post", "admin:refills_refill_change", {"refill": True}, ""),
    "delete a refill": ("post", "admin:refills_refill_delete", {"refill": True, "post": "yes"}, ""),
    "settle on the page": ("post", "admin:refills_refill_settle", {"refill": True, "to": "completed"}, "settle"),
    "take a refill": ("post", "admin:refills_refill_claim", {"refill": True, "claim": "take"}, "settle"),
    "see the reasons": ("get", "admin:refills_rejectionreason_changelist", {}, "superuser"),
    "add a reason": ("get", "admin:refills_rejectionreason_add", {}, "superuser"),
    "change a reason": ("get", "admin:refills_rejectionreason_change", {"rejection_reason": True}, "superuser"),
    "delete a reason": ("post", "admin:refills_rejectionreason_delete", {"rejection_reason": True, "post": "yes"}, ""),
    "see orders": ("get", "admin:orders_order_changelist", {}, "support superuser"),
    "see an order": ("get", "admin:orders_order_change", {"order": True}, "support superuser"),
    "edit an order": ("post", "admin:orders_order_change", {"order": True, "status": "refunded"}, ""),
    "delete an order": ("post", "admin:orders_order_delete", {"order": True, "post": "yes"}, ""),
    "add an order": ("get", "admin:orders_order_add", {}, ""),
    "see services": ("get", "admin:orders_service_changelist", {}, "support superuser"),
    "add a service": ("get", "admin:orders_service_add", {}, "superuser"),
    "edit a service": ("post", "admin:orders_service_change", {"service": True}, "superuser"),
    "delete a service": ("post", "admin:orders_service_delete", {"service": True, "post": "yes"}, ""),
    "see accounts": ("get", "admin:apikeys_account_changelist", {}, "support superuser"),
    "see an account": ("get", "admin:apikeys_account_change", {"account": True}, "support superuser"),
    "add an account": ("get", "admin:apikeys_account_add", {}, "superuser"),
    "edit an account": ("post", "admin:apikeys_account_change", {"account": True}, "superuser"),
    "delete an account": ("post", "admin:apikeys_account_delete", {"account": True, "post": "yes"}, ""),
    "set a password": ("get", "admin:auth_user_password_change", {"account": True}, "superuser"),
    "suspend an account": ("post", "admin:apikeys_account_suspend", {"account": True, "reason": "abuse"}, "superuser"),
    "see keys": ("get", "admin:apikeys_apikey_changelist", {}, "superuser"),
    "add a key": ("get", "admin:apikeys_apikey_add", {}, ""),
    "see groups": ("get", "admin:auth_group_changelist", {}, "superuser"),
}


def arguments_of(fields, refill):
    """Remove the kinds of objects from the fields. Returns the keys of the refill's objects of those kinds."""
    objects = {
        "refill": refill,
        "order": refill.order,
        "service": refill.service,
        "account": refill.account,
        "rejection_reason": refill.reason,
    }
    return [thing.pk for kind, thing in objects.items() if fields.pop(kind, False)]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("action", ACTIONS)
def test_each_role_can_do_its_actions_only(log_in, role, action):
    method, name, fields, allowed = ACTIONS[action]
    fields, allowed = dict(fields), allowed.replace("settle", "support superuser").split()
    refill = factories.Refill()
    refill.reason = factories.RejectionReason()
    arguments = arguments_of(fields, refill)

    response = getattr(log_in(role), method)(reverse(name, args=arguments), fields)

    if role in allowed:
        assert response.status_code in (200, 302)
        assert "/login/" not in response.headers.get("Location", "")
    else:
        assert response.status_code == 403 or "/login/" in response.headers["Location"]
    refill.refresh_from_db()
    assert (refill.status == "completed") == (role in allowed and action == "settle on the page")
    assert (refill.claimed_by is not None) == (role in allowed and action == "take a refill")
    refill.account.refresh_from_db()
    assert refill.account.is_active == (not (role in allowed and action == "suspend an account"))


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("action", ACTIONS)
def test_head_answers_as_get_does(log_in, role, action):
    """On every page, also with a 405, a 403 or a redirect."""
    _, name, fields, _ = ACTIONS[action]
    refill = factories.Refill()
    refill.reason = factories.RejectionReason()
    url = reverse(name, args=arguments_of(dict(fields), refill))
    client = log_in(role)

    head, get = client.head(url), client.get(url)

    assert head.status_code == get.status_code
    assert head.get("Location") == get.get("Location")
    assert head.get("Content-Type") == get.get("Content-Type")
    assert b"".join(head) == b""


@pytest.mark.parametrize("role", ["staff", "viewer", "support", "superuser"])
@pytest.mark.parametrize(
    ("action", "status"), [("approve", "approved"), ("complete", "completed"), ("reject", "rejected")]
)
def test_settling_a_selection(log_in, role, action, status):
    refill = factories.Refill()
    body = {"action": action, "_selected_action": [refill.pk], "confirmed": "yes", "words": "Why."}

    log_in(role).post(reverse("admin:refills_refill_changelist"), body)

    refill.refresh_from_db()
    assert refill.status == (status if role in ("support", "superuser") else "pending")


def test_staff_without_the_permission_to_settle_see_no_buttons(log_in):
    refill = factories.Refill()
    client = log_in("viewer")

    for url in (reverse("admin:refills_refill_changelist"), reverse("admin:refills_refill_change", args=[refill.pk])):
        text = client.get(url).content.decode()
        assert 'name="to"' not in text
        assert 'name="claim"' not in text


def test_the_support_group_has_these_permissions_only(support_group):
    assert sorted(support_group.permissions.values_list("codename", flat=True)) == [
        "settle_refill",
        "view_account",
        "view_order",
        "view_refill",
        "view_service",
    ]


def test_staff_who_may_only_view_an_account_see_neither_password_nor_permissions(log_in):
    account = factories.Account(username="shop")
    account.set_password("secret")
    account.save()

    text = log_in("support").get(reverse("admin:apikeys_account_change", args=[account.pk])).content.decode()

    assert "shop" in text
    assert account.password not in text
    assert "algorithm" not in text
    assert "Superuser" not in text


def test_no_path_of_the_admin_writes_a_status(log_in):
    """Even a superuser gets no form with the status of a refill or an order."""
    refill = factories.Refill()
    client = log_in("superuser")

    for name, pk in (("refills_refill", refill.pk), ("orders_order", refill.order_id)):
        response = client.post(reverse(f"admin:{name}_change", args=[pk]), {"status": "rejected"})
        assert response.status_code == 403
    assert Refill.objects.get().status == "pending"
