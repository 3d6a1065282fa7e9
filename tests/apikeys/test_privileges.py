"""Nobody on the staff gets rights that no superuser gave them, and there is always a superuser left."""

import re

import pytest
from django.contrib.auth.models import Group, Permission
from django.contrib.messages import get_messages
from django.db import transaction
from django.urls import reverse

from apikeys.accounts import set_active
from apikeys.models import Account
from apikeys.refusals import LastSuperuser, OnlySuperusers
from tests import factories, races

PASSWORD = "a-quite-long-password-7"
RIGHTS = {"is_staff": "on", "is_superuser": "on", "is_active": "on"}


@pytest.fixture
def agent(client, db):
    """Sign in an agent who has every permission on accounts, groups and permissions. Returns the account."""
    agent = factories.Account(username="agent", is_staff=True)
    agent.user_permissions.set(Permission.objects.filter(content_type__app_label__in=["apikeys", "auth"]))
    client.force_login(agent)
    return agent


@pytest.fixture
def boss(db):
    boss = factories.Account(username="boss", email="boss@example.com", is_staff=True, is_superuser=True)
    boss.set_password("of-the-boss-99")
    boss.save()
    return boss


def url(name, account):
    return reverse(f"admin:{name}", args=[account.pk])


def rights_of(account):
    account = Account.objects.get(pk=account.pk)
    groups, permissions = account.groups.count(), account.user_permissions.count()
    return account.is_staff, account.is_superuser, account.is_active, groups, permissions


def crafted(account, **more):
    """Return everything that a form of an account might ever have."""
    return {
        "username": account.username,
        "email": "stolen@example.com",
        "tier": "agency",
        "password": PASSWORD,
        "password1": PASSWORD,
        "password2": PASSWORD,
        "usable_password": "true",
        "groups": [Group.objects.get_or_create(name="Powerful")[0].pk],
        "user_permissions": list(Permission.objects.values_list("pk", flat=True)),
        "_save": "Save",
        **RIGHTS,
        **more,
    }


@pytest.mark.parametrize("whose", ["own", "customer"])
def test_nobody_gives_rights_to_themselves_or_to_a_customer(client, agent, whose):
    account = agent if whose == "own" else factories.Account()
    before = rights_of(account)

    client.post(url("apikeys_account_change", account), crafted(account))

    assert rights_of(account) == before


def test_a_customers_account_is_still_changed(client, agent):
    customer = factories.Account()

    assert client.post(url("apikeys_account_change", customer), crafted(customer)).status_code == 302
    assert client.post(url("auth_user_password_change", customer), crafted(customer)).status_code == 302

    customer.refresh_from_db()
    assert (customer.email, customer.tier) == ("stolen@example.com", "agency")
    assert customer.check_password(PASSWORD)


def test_an_account_that_is_added_has_no_rights(client, agent):
    posted = crafted(agent) | {"username": "new"}

    assert client.post(reverse("admin:apikeys_account_add"), posted).status_code == 302
    assert rights_of(Account.objects.get(username="new")) == (False, False, True, 0, 0)


@pytest.mark.parametrize("rank", ["boss", "colleague", "superuser without the desk", "own"])
@pytest.mark.parametrize("address", ["apikeys_account_change", "auth_user_password_change", "apikeys_account_suspend"])
def test_accounts_of_staff_are_not_touched(client, agent, boss, rank, address):
    account = {
        "boss": boss,
        "own": agent,
        "colleague": factories.Account(is_staff=True),
        "superuser without the desk": factories.Account(is_superuser=True),
    }[rank]
    before = Account.objects.filter(pk=account.pk).values()[0]

    client.post(url(address, account), crafted(account, active="no", reason="mine"))

    assert Account.objects.filter(pk=account.pk).values()[0] == before


def test_the_page_of_a_colleague_shows_no_form_password_or_rights(client, agent, boss):
    page = client.get(url("apikeys_account_change", boss))

    assert page.status_code == 200
    text = page.content.decode()
    assert 'name="email"' not in text
    assert "Suspension" not in text
    assert not re.search("superuser status|user permissions|md5", text, re.IGNORECASE)
    assert client.get(url("auth_user_password_change", boss)).status_code == 403


@pytest.mark.parametrize(
    "lookup", ["is_superuser__exact", "is_staff", "groups__id__exact", "user_permissions__codename"]
)
def test_the_list_does_not_tell_who_has_which_rights(client, agent, boss, lookup):
    page = client.get(reverse("admin:apikeys_account_changelist"))
    assert "is_staff" not in page.context["cl"].list_display
    assert not [spec for spec in page.context["cl"].filter_specs if "staff" in spec.title]

    assert client.get(reverse("admin:apikeys_account_changelist"), {lookup: "1"}).status_code == 400


@pytest.mark.parametrize("address", ["add", "changelist", "change", "delete", "history"])
def test_groups_are_only_for_superusers(client, agent, boss, address):
    group = Group.objects.create(name="Mine")
    agent.groups.add(group)
    path = reverse(f"admin:auth_group_{address}", args=[] if address in ("add", "changelist") else [group.pk])
    posted = {"name": "Mine", "permissions": list(Permission.objects.values_list("pk", flat=True)), "post": "yes"}

    assert client.get(path).status_code == 403
    assert client.post(path, posted).status_code == 403
    assert Group.objects.get(name="Mine").permissions.count() == 0

    client.force_login(boss)
    assert client.get(path).status_code == 200


def test_a_superuser_gives_and_takes_rights(client, boss):
    client.force_login(boss)
    colleague = factories.Account()
    form = {"username": colleague.username, "tier": "standard", "email": ""}

    client.post(url("apikeys_account_change", colleague), form | {"is_staff": "on", "is_superuser": "on"})
    assert rights_of(colleague)[:2] == (True, True)
    client.post(url("apikeys_account_change", colleague), form)
    assert rights_of(colleague)[:2] == (False, False)
    assert "superuser status" in client.get(url("apikeys_account_change", colleague)).content.decode().lower()


@pytest.mark.parametrize("kept", [{}, {"is_staff": "on"}, {"is_superuser": "on"}])
def test_the_last_active_superuser_stays_one(client, boss, kept):
    factories.Account(is_staff=True, is_superuser=True, is_active=False)
    factories.Account(is_superuser=True)
    client.force_login(boss)

    page = client.post(url("apikeys_account_change", boss), {"username": "boss", "tier": "agency", **kept})

    assert "This is the last active superuser." in page.content.decode()
    assert rights_of(boss)[:3] == (True, True, True)

    factories.Account(is_staff=True, is_superuser=True)
    client.post(url("apikeys_account_change", boss), {"username": "boss", "tier": "agency", **kept})
    assert rights_of(boss)[:3] == (bool(kept.get("is_staff")), bool(kept.get("is_superuser")), True)


def test_what_changed_since_the_form_was_loaded_is_not_undone(client, boss, monkeypatch):
    """A suspension and a new password come between the reading and the writing of an account."""
    customer = factories.Account()
    client.force_login(boss)

    def meanwhile(form):
        Account.objects.filter(pk=customer.pk).update(is_active=False, password="changed")
        return form.cleaned_data

    monkeypatch.setattr("apikeys.admin.forms.AccountChangeForm.clean", meanwhile)
    client.post(url("apikeys_account_change", customer), {"username": customer.username, "tier": "agency"})

    customer.refresh_from_db()
    assert (customer.tier, customer.is_active, customer.password) == ("agency", False, "changed")


class TestSuspension:
    def test_staff_are_suspended_by_superusers_alone(self, agent, boss):
        colleague = factories.Account(is_staff=True)

        with pytest.raises(OnlySuperusers):
            set_active(colleague, False, agent, "quarrel")
        assert set_active(colleague, False, boss, "left")

    def test_the_page_says_why_not(self, client, agent, boss):
        response = client.post(url("apikeys_account_suspend", boss), {"active": "no", "reason": "mine"})

        [message] = get_messages(response.wsgi_request)
        assert str(message) == "Only superusers can change, suspend and restore the accounts of staff."

    def test_the_last_superuser_is_not_suspended(self, boss):
        by = factories.Account(is_superuser=True)  # without is_staff, so the desk is out of reach

        with pytest.raises(LastSuperuser):
            set_active(boss, False, by, "left")


@pytest.mark.django_db(transaction=True)
@pytest.mark.xdist_group("races")
class TestRaces:
    @pytest.fixture
    def two(self):
        return [factories.Account(is_staff=True, is_superuser=True) for _ in range(2)]

    def test_one_of_two_superusers_who_suspend_each_other_at_once_is_left(self, two):
        def suspend(by, account):
            try:
                return set_active(account, False, by, "quarrel")
            except LastSuperuser:
                return False

        for _ in range(5):
            Account.objects.update(is_active=True)
            done = races.race([lambda: suspend(*two), lambda: suspend(*two[::-1])])
            assert sorted(done) == [False, True]
            assert Account.objects.filter(is_active=True).count() == 1

    def test_one_of_two_who_demote_and_suspend_each_other_is_left(self, two, client):
        first, second = two
        client.force_login(first)
        form = {"username": second.username, "tier": "standard"}

        with transaction.atomic():
            set_active(first, False, second, "quarrel")
            demotion = races.Waiting(lambda: client.post(url("apikeys_account_change", second), form))

        assert "This is the last active superuser." in demotion.result().content.decode()
        assert Account.objects.filter(is_active=True, is_staff=True, is_superuser=True).get() == second
