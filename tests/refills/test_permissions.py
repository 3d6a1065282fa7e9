"""Which role may do which action in the admin, checked on the server for every path."""

import importlib
from ipaddress import ip_network

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group, Permission
from django.db import transaction
from django.urls import reverse
from django.utils import timezone

from apikeys import staff
from apikeys.keys import create_api_key
from apikeys.models import AuditEvent
from apikeys.panel_keys import create_panel_key
from refills.models import Dispatch, Refill, SupplierText
from tests import factories
from tests.conftest import end

roles_migration = importlib.import_module("refills.migrations.0009_roles")
suppliers_migration = importlib.import_module("refills.migrations.0011_answers_of_suppliers")


@pytest.fixture
def roles(db):
    """Create the groups as the migration does: a test that empties the tables removes them."""
    roles_migration.create_roles(apps, None)
    suppliers_migration.extend_roles(apps, None)
    return {group.name.lower(): group for group in Group.objects.filter(name__in=["Support", "Lead"])}


@pytest.fixture
def log_in(client, roles):
    def as_role(role):
        if role == "anonymous":
            return client
        account = factories.Account(is_staff=role != "customer", is_superuser=role == "superuser")
        if role in roles:
            account.groups.add(roles[role])
        if role == "viewer":
            account.user_permissions.add(Permission.objects.get(codename="view_refill"))
        client.force_login(account)
        return client

    return as_role


ROLES = ("anonymous", "customer", "staff", "viewer", "support", "lead", "superuser")
ACTIONS = {
    # action: (method, address, fields, the roles that may do it; "settle" stands for those that may settle)
    "see the dashboard": ("get", "admin:index", {}, "staff viewer support lead superuser"),
    "see the queue": ("get", "admin:refills_refill_changelist", {}, "viewer support lead superuser"),
    "export the queue": ("get", "admin:refills_refill_export", {}, "viewer support lead superuser"),
    "export settled refills": ("get", "admin:refills_refill_export_form", {}, "viewer support lead superuser"),
    "settle a list": ("get", "admin:refills_refill_list", {}, "settle"),
    "see a refill": ("get", "admin:refills_refill_change", {"refill": True}, "viewer support lead superuser"),
    "see a refill's log": ("get", "admin:refills_refill_history", {"refill": True}, "viewer support lead superuser"),
    "add a refill": ("get", "admin:refills_refill_add", {}, ""),
    "edit a refill": ("post", "admin:refills_refill_change", {"refill": True}, ""),
    "delete a refill": ("post", "admin:refills_refill_delete", {"refill": True, "post": "yes"}, ""),
    "settle on the page": ("post", "admin:refills_refill_settle", {"refill": True, "to": "completed"}, "settle"),
    "take a refill": ("post", "admin:refills_refill_claim", {"refill": True, "claim": "take"}, "settle"),
    "see the reasons": ("get", "admin:refills_rejectionreason_changelist", {}, "lead superuser"),
    "add a reason": ("get", "admin:refills_rejectionreason_add", {}, "lead superuser"),
    "change a reason": ("get", "admin:refills_rejectionreason_change", {"rejection_reason": True}, "lead superuser"),
    "delete a reason": ("post", "admin:refills_rejectionreason_delete", {"rejection_reason": True, "post": "yes"}, ""),
    "see orders": ("get", "admin:orders_order_changelist", {}, "support lead superuser"),
    "see an order": ("get", "admin:orders_order_change", {"order": True}, "support lead superuser"),
    "edit an order": ("post", "admin:orders_order_change", {"order": True, "status": "refunded"}, ""),
    "delete an order": ("post", "admin:orders_order_delete", {"order": True, "post": "yes"}, ""),
    "add an order": ("get", "admin:orders_order_add", {}, ""),
    "see services": ("get", "admin:orders_service_changelist", {}, "support lead superuser"),
    "add a service": ("get", "admin:orders_service_add", {}, "superuser"),
    "edit a service": ("post", "admin:orders_service_change", {"service": True}, "superuser"),
    "delete a service": ("post", "admin:orders_service_delete", {"service": True, "post": "yes"}, ""),
    "see accounts": ("get", "admin:apikeys_account_changelist", {}, "support lead superuser"),
    "see an account": ("get", "admin:apikeys_account_change", {"account": True}, "support lead superuser"),
    "add an account": ("get", "admin:apikeys_account_add", {}, "superuser"),
    "edit an account": ("post", "admin:apikeys_account_change", {"account": True}, "superuser"),
    "delete an account": ("post", "admin:apikeys_account_delete", {"account": True, "post": "yes"}, ""),
    "set a password": ("get", "admin:auth_user_password_change", {"account": True}, "superuser"),
    "suspend an account": (
        "post",
        "admin:apikeys_account_suspend",
        {"account": True, "reason": "abuse"},
        "lead superuser",
    ),
    "request refills": ("post", "admin:refills_refill_request", {"account": True}, "support lead superuser"),
    "make an agent": ("get", "admin:apikeys_account_new_agent", {}, "superuser"),
    "invite an agent": ("post", "admin:apikeys_account_invite", {"account": True}, "superuser"),
    "end an agent's account": ("post", "admin:apikeys_account_leave", {"account": True}, "superuser"),
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
    fields, allowed = dict(fields), allowed.replace("settle", "support lead superuser").split()
    refill = factories.Refill()
    refill.reason = factories.RejectionReason()
    arguments = arguments_of(fields, refill)

    response = getattr(log_in(role), method)(reverse(name, args=arguments), fields)
    end(response)

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


@pytest.mark.parametrize("role", ["anonymous", "viewer", "superuser"])
@pytest.mark.parametrize("action", ACTIONS)
def test_head_answers_as_get_does(log_in, role, action):
    """This holds for every page, including those that answer 405, 403 or a redirect."""
    _, name, fields, _ = ACTIONS[action]
    refill = factories.Refill()
    refill.reason = factories.RejectionReason()
    url = reverse(name, args=arguments_of(dict(fields), refill))
    client = log_in(role)

    head, get = client.head(url), client.get(url)
    end(head)
    end(get)

    assert head.status_code == get.status_code
    assert head.get("Location") == get.get("Location")
    assert head.get("Content-Type") == get.get("Content-Type")
    assert b"".join(head) == b""


@pytest.mark.parametrize("role", ["staff", "viewer", "support", "lead", "superuser"])
@pytest.mark.parametrize(
    ("action", "status"), [("approve", "approved"), ("complete", "completed"), ("reject", "rejected")]
)
def test_settling_a_selection(log_in, role, action, status):
    refill = factories.Refill()
    body = {"action": action, "_selected_action": [refill.pk], "confirmed": "yes", "words": "Why."}

    log_in(role).post(reverse("admin:refills_refill_changelist"), body)

    refill.refresh_from_db()
    assert refill.status == (status if role in ("support", "lead", "superuser") else "pending")


def test_staff_without_the_permission_to_settle_see_no_buttons(log_in):
    refill = factories.Refill()
    client = log_in("viewer")

    for url in (reverse("admin:refills_refill_changelist"), reverse("admin:refills_refill_change", args=[refill.pk])):
        text = client.get(url).content.decode()
        assert 'name="to"' not in text
        assert 'name="claim"' not in text


SUPPORT = [
    "request_refill",
    "settle_refill",
    "view_account",
    "view_dispatch",
    "view_order",
    "view_refill",
    "view_service",
]
LEAD = [
    "add_rejectionreason",
    "add_suppliertext",
    "change_rejectionreason",
    "change_suppliertext",
    "delete_suppliertext",
    "reopen_refill",
    "suspend_account",
    "view_agent_figures",
    "view_rejectionreason",
    "view_supplier",
    "view_suppliertext",
]


@pytest.mark.parametrize(("role", "codenames"), [("support", SUPPORT), ("lead", SUPPORT + LEAD)])
def test_each_role_has_these_permissions_only(roles, role, codenames):
    assert sorted(roles[role].permissions.values_list("codename", flat=True)) == sorted(codenames)


def test_the_roles_are_those_that_the_form_of_new_agents_offers(roles):
    assert {role.lower() for role in staff.ROLES} == roles.keys()


# What each role may do in the admin in addition to the role before it: names of addresses, with a ! for a POST.
REACHED = {
    "staff": "",
    "support": """
        apikeys_account_change apikeys_account_changelist apikeys_account_changelist!
        apikeys_account_history apikeys_account_history! orders_order_change orders_order_changelist
        orders_order_changelist! orders_order_history orders_order_history! orders_service_change
        orders_service_changelist orders_service_changelist! orders_service_history orders_service_history!
        refills_refill_change refills_refill_changelist refills_refill_changelist! refills_refill_claim
        refills_refill_claim! refills_refill_export refills_refill_export! refills_refill_export_form
        refills_refill_export_form! refills_refill_history refills_refill_history! refills_refill_list
        refills_refill_list! refills_refill_next refills_refill_next! refills_refill_note
        refills_refill_note! refills_refill_presence refills_refill_presence! refills_refill_queue
        refills_refill_queue! refills_refill_reopen refills_refill_request refills_refill_request!
        refills_refill_settle refills_refill_settle! refills_refill_snooze refills_refill_snooze!
        refills_refill_undo refills_refill_undo! refills_dispatch_change refills_dispatch_changelist
        refills_dispatch_changelist! refills_dispatch_history refills_dispatch_history! refills_refill_dispatch
        refills_refill_dispatch!
    """,
    "lead": """
        apikeys_account_suspend apikeys_account_suspend! refills_refill_reopen! refills_rejectionreason_add
        refills_rejectionreason_add! refills_rejectionreason_change refills_rejectionreason_change!
        refills_rejectionreason_changelist refills_rejectionreason_changelist!
        refills_rejectionreason_history refills_rejectionreason_history! orders_supplier_change
        orders_supplier_changelist orders_supplier_changelist! orders_supplier_history orders_supplier_history!
        refills_suppliertext_add refills_suppliertext_add! refills_suppliertext_change refills_suppliertext_change!
        refills_suppliertext_changelist refills_suppliertext_changelist! refills_suppliertext_delete
        refills_suppliertext_delete! refills_suppliertext_history refills_suppliertext_history!
    """,
    "superuser": """
        apikeys_account_add apikeys_account_add! apikeys_account_change! apikeys_account_invite
        apikeys_account_invite! apikeys_account_leave apikeys_account_leave! apikeys_account_new_agent
        apikeys_account_new_agent! apikeys_account_reset_second_factor apikeys_account_reset_second_factor!
        apikeys_apikey_change apikeys_apikey_changelist apikeys_apikey_changelist! apikeys_apikey_history
        apikeys_apikey_history! apikeys_auditevent_change apikeys_auditevent_changelist
        apikeys_auditevent_changelist! apikeys_auditevent_history apikeys_auditevent_history! auth_group_add
        auth_group_add! auth_group_change auth_group_change! auth_group_changelist auth_group_changelist!
        auth_group_delete auth_group_delete! auth_group_history auth_group_history!
        auth_user_password_change auth_user_password_change! orders_service_add orders_service_add!
        orders_service_change! orders_supplier_add orders_supplier_add! orders_supplier_change!
        apikeys_panelkey_change apikeys_panelkey_changelist apikeys_panelkey_changelist! apikeys_panelkey_history
        apikeys_panelkey_history!
    """,
}


def addresses():
    """Return the address of every page of the apps in the admin, by its name, with the arguments that it takes."""

    def walk(patterns):
        for pattern in patterns:
            if hasattr(pattern, "url_patterns"):
                yield from walk(pattern.url_patterns)
            elif pattern.name and pattern.name.startswith(("apikeys_", "auth_", "orders_", "refills_")):
                yield pattern.name, list(pattern.pattern.converters)

    return dict(walk(admin.site.get_urls()))


def is_refused(method, url, **fields):
    """Return whether a request is refused. What it does is rolled back."""
    with transaction.atomic():
        response = method(url, fields)
        end(response)
        status = response.status_code
        transaction.set_rollback(True)
    return status in (403, 405)


def test_each_role_reaches_its_addresses_and_no_others(log_in):
    """This covers every address of the admin. List a new one above."""
    refill = factories.Refill(status="rejected", reason=factories.RejectionReason())
    supplier = factories.Supplier()
    now = timezone.now()
    dispatch = Dispatch.objects.create(
        refill=refill, supplier=supplier, state="waiting", on_approval=False, asked_at=now, next_at=now
    )
    panel_key, _ = create_panel_key("books", [ip_network("203.0.113.0/24")])
    objects = {
        "refills_refill": refill,
        "refills_rejectionreason": refill.reason,
        "orders_order": refill.order,
        "orders_service": refill.service,
        "auth_group": Group.objects.get(name="Lead"),
        "apikeys_apikey": create_api_key(refill.account)[0],
        "apikeys_panelkey": panel_key,
        "orders_supplier": supplier,
        "refills_dispatch": dispatch,
        "refills_suppliertext": SupplierText.objects.create(text="Not today", action="person"),
        "apikeys_auditevent": AuditEvent.objects.earliest("pk"),
    }
    expected: set[str] = set()

    for role, more in REACHED.items():
        client = log_in(role)
        reached = set()
        for name, arguments in addresses().items():
            thing = objects.get("_".join(name.split("_")[:2]), refill.account)
            key = refill.account_id if arguments == ["account_id"] else thing.pk
            url = reverse(f"admin:{name}", args=[key for _ in arguments])
            if not is_refused(client.get, url):
                reached.add(name)
            if not is_refused(client.post, url, reason="abuse", active="no"):
                reached.add(f"{name}!")
        expected |= set(more.split())
        assert reached == expected, role
        expected |= reached


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
