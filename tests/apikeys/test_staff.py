"""New agents are invited, leavers lose everything, and only superusers do either."""

import re
import smtplib
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, Permission
from django.contrib.messages import get_messages
from django.core import mail
from django.db import transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apikeys.accounts import set_active
from apikeys.keys import create_api_key
from apikeys.models import Account, ApiKey, AuditEvent, SuspensionEvent
from apikeys.refusals import CannotLeave, HasPassword, LastSuperuser, NameTaken, NotOfTheStaff, OnlySuperusers
from apikeys.staff import create_agent, invite, leave
from refills.settlement import claim
from tests import factories, races
from tests.conftest import settle

PASSWORD = "correct-horse-7"
NEW = {"username": "anna", "email": "anna@example.com", "role": "Support"}
ADD = reverse("admin:apikeys_account_new_agent")


@pytest.fixture
def boss(client, db):
    boss = factories.Account(username="boss", is_staff=True, is_superuser=True)
    client.force_login(boss)
    return boss


@pytest.fixture
def agent(boss):
    """An agent who has signed in with a password."""
    agent = create_agent("anna", "anna@example.com", "Support", boss)
    agent.set_password(PASSWORD)
    agent.save()
    return agent


def messages_of(response):
    return [str(message) for message in get_messages(response.wsgi_request)]


def link_of(message):
    [link] = re.findall(r"http://testserver(/dashboard/password/reset/\S+)", message.body)
    return link


def set_password(link, password=PASSWORD):
    """Set a password by following a link, as a visitor. Returns the last page."""
    visitor = Client()
    form = visitor.get(link, follow=True)
    fields = {"new_password1": password, "new_password2": password}
    path = form.redirect_chain[-1][0] if form.redirect_chain else link
    return visitor.post(path, fields, follow=True).content.decode()


def signs_in(name, password=PASSWORD):
    client = Client()
    client.post(reverse("admin:login"), {"username": name, "password": password})
    return client.get(reverse("admin:index")).status_code == 200


class TestNewAgents:
    @pytest.mark.parametrize("role", ["Support", "Lead"])
    def test_one_form_creates_the_agent_and_sends_the_invitation(self, client, boss, role, mailoutbox):
        answer = client.post(ADD, NEW | {"role": role})

        agent = Account.objects.get(username="anna")
        assert answer["Location"] == reverse("admin:apikeys_account_change", args=[agent.pk])
        assert (agent.is_staff, agent.is_superuser, agent.has_usable_password()) == (True, False, False)
        assert [group.name for group in agent.groups.all()] == [role]
        assert "An invitation was sent to anna@example.com." in messages_of(answer)[0]
        [message] = mailoutbox
        assert message.to == ["anna@example.com"]
        assert "“anna”" in message.body
        event = AuditEvent.objects.get(kind="invited")
        assert (event.account, event.by, event.address) == (agent, boss, "127.0.0.1")

    def test_the_link_sets_a_password_of_twelve_characters_once(self, client, boss, mailoutbox):
        client.post(ADD, NEW)
        link = link_of(mailoutbox[0])

        assert "Staff need a password of 12 characters or more." in set_password(link, "kX93-bnq-Tz")
        set_password(link)
        assert signs_in("anna")
        assert "expired or has been used" in set_password(link, "another-horse-8")
        assert signs_in("anna")

    def test_the_link_expires(self, client, boss, mailoutbox, settings):
        client.post(ADD, NEW)
        settings.PASSWORD_RESET_TIMEOUT = -1

        assert "ask for another invitation" in set_password(link_of(mailoutbox[0]))
        assert not signs_in("anna")

    def test_another_invitation_is_sent_until_one_was_used(self, client, boss, mailoutbox):
        client.post(ADD, NEW)
        agent = Account.objects.get(username="anna")
        page = reverse("admin:apikeys_account_change", args=[agent.pk])
        again = reverse("admin:apikeys_account_invite", args=[agent.pk])
        assert "Send another invitation" in client.get(page).content.decode()

        assert messages_of(client.post(again))[-1] == "Another invitation was sent to anna@example.com."
        first, second = map(link_of, mailoutbox)
        set_password(first)

        assert "expired or has been used" in set_password(second, "another-horse-8")
        assert "Send another invitation" not in client.get(page).content.decode()
        assert messages_of(client.post(again))[-1] == HasPassword.message
        assert len(mailoutbox) == 2
        assert AuditEvent.objects.filter(kind="invited").count() == 2

    @pytest.mark.parametrize(
        "error", [smtplib.SMTPServerDisconnected("gone"), TimeoutError(), ConnectionRefusedError()]
    )
    def test_a_mail_that_cannot_be_sent_loses_nothing(self, client, boss, monkeypatch, error):
        def fail(*args):
            raise error

        with monkeypatch.context() as broken:
            broken.setattr("django.core.mail.EmailMessage.send", fail)
            answer = client.post(ADD, NEW)

        [message] = messages_of(answer)
        assert message.startswith("The invitation to anna@example.com could not be sent, and the account is kept.")
        assert not AuditEvent.objects.filter(kind="invited").exists()
        agent = Account.objects.get(username="anna")
        client.post(reverse("admin:apikeys_account_invite", args=[agent.pk]))
        set_password(link_of(mail.outbox[0]))
        assert signs_in("anna")

    @pytest.mark.parametrize(
        ("field", "value", "error"),
        [
            ("username", "boss", "already exists"),
            ("username", "a b", "Enter a valid username"),
            ("username", "", "required"),
            ("email", "anna", "valid email"),
            ("email", "", "required"),
            ("email", "a@example.com\nBcc: b@example.com", "valid email"),
            ("role", "Superuser", "Choose a role from the list."),
        ],
    )
    def test_a_mistake_is_explained_and_nothing_typed_is_lost(self, client, boss, mailoutbox, field, value, error):
        page = client.post(ADD, NEW | {field: value}).content.decode()

        assert error in page
        assert all(f'value="{typed}"' in page for name, typed in NEW.items() if name != field)
        assert Account.objects.count() == 1
        assert not mailoutbox

    def test_a_name_that_was_taken_meanwhile_is_refused(self, boss):
        factories.Account(username="anna")

        with pytest.raises(NameTaken, match="“anna” is the name of another account"):
            create_agent("anna", "anna@example.com", "Support", boss)

    def test_the_list_of_accounts_offers_it_to_superusers(self, client, boss):
        accounts = reverse("admin:apikeys_account_changelist")
        assert ADD in client.get(accounts).content.decode()

        viewer = factories.Account(is_staff=True)
        viewer.user_permissions.set(Permission.objects.filter(codename="view_account"))
        client.force_login(viewer)
        assert ADD not in client.get(accounts).content.decode()


class TestLeavers:
    def test_a_leaver_loses_everything_at_once(self, client, boss, agent):
        agent.user_permissions.set(Permission.objects.filter(codename="view_apikey"))
        session = Client()
        session.force_login(agent)
        api_key, _ = create_api_key(agent)
        refill = factories.Refill()
        claim([refill.pk], agent)
        url = reverse("admin:apikeys_account_leave", args=[agent.pk])

        assert "anna leaves" in client.get(url).content.decode()
        assert Account.objects.get(pk=agent.pk).is_active
        answer = client.post(url)

        assert messages_of(answer) == [
            "anna has left the staff and is signed out everywhere. API keys revoked: 1, claims on refills released: 1."
        ]
        agent.refresh_from_db()
        refill.refresh_from_db()
        assert (agent.is_active, agent.is_superuser, agent.has_usable_password()) == (False, False, False)
        assert not agent.groups.exists()
        assert not agent.user_permissions.exists()
        assert ApiKey.objects.get(pk=api_key.pk).revoked_at
        assert (refill.claimed_by, refill.claimed_at) == (None, None)
        assert session.get(reverse("admin:index")).status_code == 302
        assert not signs_in("anna")
        assert SuspensionEvent.objects.get().reason == "Left the staff."
        event = AuditEvent.objects.get(kind="left")
        assert (event.account, event.by) == (agent, boss)
        assert event.details == {"API keys revoked": 1, "claims on refills released": 1}

    def test_sessions_stay_ended_if_the_account_is_restored(self, boss, agent):
        session = Client()
        session.force_login(agent)
        leave(agent, boss)

        set_active(agent, True, boss, "came back")

        assert session.get(reverse("admin:index")).status_code == 302
        assert not signs_in("anna")

    def test_an_invitation_does_not_outlive_the_leaver(self, boss, mailoutbox):
        agent = create_agent("anna", "anna@example.com", "Support", boss)
        invite(agent, boss, "http://testserver{}".format)
        leave(agent, boss)
        set_active(agent, True, boss, "came back")

        assert "expired or has been used" in set_password(link_of(mailoutbox[0]))

    def test_the_claims_and_keys_of_others_stay(self, boss, agent, customer):
        others, settled = factories.Refill(), factories.Refill()
        claim([others.pk], boss)
        settle([settled.pk], "completed", agent)

        assert leave(agent, boss) == {"API keys revoked": 0, "claims on refills released": 0}

        others.refresh_from_db()
        settled.refresh_from_db()
        assert (others.claimed_by, settled.settled_by) == (boss, agent)
        assert customer.post("services").status_code == 200

    def test_nobody_ends_their_own_account(self, client, boss):
        factories.Account(is_staff=True, is_superuser=True)
        with pytest.raises(CannotLeave):
            leave(boss, boss)
        assert (
            "Leaves the staff"
            not in client.get(reverse("admin:apikeys_account_change", args=[boss.pk])).content.decode()
        )

    def test_a_customer_is_suspended_instead(self, client, boss):
        customer = factories.Account()
        answer = client.post(reverse("admin:apikeys_account_leave", args=[customer.pk]))

        assert messages_of(answer) == [NotOfTheStaff.message]
        assert Account.objects.get(pk=customer.pk).is_active

    def test_the_last_superuser_who_can_sign_in_stays(self, boss):
        with pytest.raises(LastSuperuser):
            leave(boss, factories.Account(is_superuser=True))  # without is_staff, so the desk is out of reach

    def test_leaving_ends_all_or_nothing(self, boss, agent, monkeypatch):
        def fail(account):
            raise ZeroDivisionError

        monkeypatch.setattr("apikeys.staff._endings", [("refills", fail)])
        with pytest.raises(ZeroDivisionError):
            leave(agent, boss)

        assert Account.objects.get(pk=agent.pk).is_active
        assert agent.groups.exists()


class TestOnlySuperusers:
    @pytest.fixture
    def other(self, client, boss):
        """Sign in an agent who has every permission there is. Returns the account."""
        other = factories.Account(is_staff=True)
        other.user_permissions.set(Permission.objects.all())
        client.force_login(other)
        return other

    @pytest.mark.parametrize("method", ["get", "post"])
    @pytest.mark.parametrize("name", ["new_agent", "invite", "leave"])
    def test_others_are_refused_at_every_address(self, client, other, boss, name, method, mailoutbox):
        colleague = create_agent("mia", "mia@example.com", "Support", boss)
        url = reverse(f"admin:apikeys_account_{name}", args=[] if name == "new_agent" else [colleague.pk])

        assert getattr(client, method)(url, NEW).status_code == 403
        assert not Account.objects.filter(username="anna").exists()
        assert Account.objects.get(pk=colleague.pk).is_active
        assert not mailoutbox

    def test_others_are_refused_by_the_functions(self, other, boss):
        colleague = create_agent("mia", "mia@example.com", "Support", boss)
        for call in (
            lambda: create_agent("x", "x@example.com", "Support", other),
            lambda: invite(colleague, other, str),
            lambda: leave(colleague, other),
        ):
            with pytest.raises(OnlySuperusers):
                call()


class TestRaces:
    pytestmark = races.MARKS

    @pytest.fixture
    def two(self):
        agent = factories.Account(username="anna", is_staff=True)
        return factories.Account(is_staff=True, is_superuser=True), agent

    def test_leaving_waits_for_what_the_leaver_is_settling(self, two):
        boss, agent = two
        refills = [factories.Refill(), factories.Refill()]
        claim([refill.pk for refill in refills], agent)

        with transaction.atomic():
            settle([refills[0].pk], "completed", agent)
            leaving = races.Waiting(lambda: leave(agent, boss))

        assert leaving.result()["claims on refills released"] == 1
        for refill in refills:
            refill.refresh_from_db()
        assert (refills[0].status, refills[0].settled_by, refills[1].claimed_by) == ("completed", agent, None)

    def test_many_settlements_and_a_leaver_do_not_deadlock(self, two):
        boss, agent = two
        Group.objects.get_or_create(name="Support")[0].user_set.add(agent)
        refills = [factories.Refill().pk for _ in range(20)]
        claim(refills, agent)

        races.race(
            [lambda: settle(refills[::-1], "completed", agent), lambda: leave(agent, boss), lambda: leave(agent, boss)]
        )

        assert not Account.objects.get(pk=agent.pk).is_active
        assert SuspensionEvent.objects.count() == 1
        assert timezone.now() - SuspensionEvent.objects.get().at < timedelta(minutes=1)

    def test_one_of_two_superusers_who_end_each_others_accounts_at_once_is_left(self, two):
        boss, agent = two
        Account.objects.filter(pk=agent.pk).update(is_superuser=True)
        agent.refresh_from_db()

        def end(account, by):
            try:
                return bool(leave(account, by))
            except LastSuperuser:
                return False

        done = races.race([lambda: end(agent, boss), lambda: end(boss, agent)])

        assert sorted(done) == [False, True]
        assert Account.objects.filter(is_active=True, is_superuser=True).count() == 1
