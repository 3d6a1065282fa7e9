"""E-mail addresses: set by their owners, and confirmed by a link."""

import re
from datetime import timedelta

import pytest
from django.core import mail
from django.core.mail import EmailMessage
from django.test import Client
from django.utils import timezone

from apikeys import emails
from apikeys.models import Account, AuditEvent
from apikeys.refusals import EmailTaken
from tests import factories, races

PASSWORD = "correct-horse-7"
PAGE = "/dashboard/email/"


@pytest.fixture
def account(db):
    account = factories.Account(username="anna", email="old@example.com", confirmed_email="old@example.com")
    account.set_password(PASSWORD)
    account.save()
    return account


@pytest.fixture
def client(account):
    client = Client()
    client.force_login(account)
    return client


def ask(client, email="new@example.com", password=PASSWORD):
    return client.post(PAGE, {"email": email, "password": password}, follow=True)


def link():
    return re.search(r"http://testserver(/dashboard/email/confirm/\S+)", mail.outbox[-1].body)[1]


def token_for(account, email):
    emails.send_link(account, email, lambda path: f"http://testserver{path}")
    return link().split("/")[-2]


def stored(account):
    return Account.objects.values_list("email", "confirmed_email").get(pk=account.pk)


def test_an_address_changes_when_the_link_sent_to_it_is_followed(client, account):
    ask(client)
    assert mail.outbox[-1].to == ["new@example.com"]
    assert stored(account) == ("old@example.com", "old@example.com")

    visitor = Client()
    assert "Confirm that new@example.com is the e-mail address" in visitor.get(link()).content.decode()
    assert stored(account) == ("old@example.com", "old@example.com")  # programs that scan mails follow links
    visitor.post(link())

    assert stored(account) == ("new@example.com", "new@example.com")
    assert mail.outbox[-1].to == ["old@example.com"]  # the previous owner of the address is told
    event = AuditEvent.objects.get(kind="account_changed")
    assert (event.account, event.details) == (account, {"changed": ["email", "confirmed_email"]})


def test_an_address_that_was_imported_is_confirmed_by_the_same_link(client, account):
    Account.objects.filter(pk=account.pk).update(email="imported@example.com")
    assert "imported@example.com is not confirmed yet" in client.get(PAGE).content.decode()

    ask(client, "imported@example.com")
    client.post(link())

    assert stored(account) == ("imported@example.com", "imported@example.com")
    assert len(mail.outbox) == 1
    assert "imported@example.com is confirmed" in client.get(PAGE).content.decode()


def test_the_page_needs_a_sign_in_and_the_password(client, account):
    assert Client().get(PAGE)["Location"] == f"/dashboard/sign-in/?next={PAGE}"

    assert "This is not your password" in ask(client, password="wrong").content.decode()
    assert mail.outbox == []


@pytest.mark.parametrize("spoil", ["used", "late", "password", "address", "suspended", "forged"])
def test_a_link_works_once_and_not_after_a_change(client, account, spoil, time_machine):
    ask(client)
    path = link()
    if spoil == "used":
        client.post(path)
    elif spoil == "late":
        time_machine.move_to(timezone.now() + timedelta(hours=24, seconds=1))
    elif spoil == "password":
        account.set_password("another-horse-8")
        account.save()
    elif spoil == "address":
        Account.objects.filter(pk=account.pk).update(email="third@example.com")
    elif spoil == "suspended":
        Account.objects.filter(pk=account.pk).update(is_active=False)
    else:
        path = path[:-2] + "x/"
    before = stored(account)

    for response in (Client().get(path), Client().post(path)):
        assert "This link has expired or has been used already." in response.content.decode()
    assert stored(account) == before


def test_only_who_has_the_mail_learns_that_another_account_confirmed_the_address(client, account):
    factories.Account(email="New@example.com", confirmed_email="New@example.com")
    assert "A link was sent to new@example.com." in ask(client).content.decode()

    assert "Another account has this address." in client.post(link()).content.decode()
    assert stored(account) == ("old@example.com", "old@example.com")


def test_an_account_that_got_another_address_no_longer_holds_the_one_it_confirmed(client, account):
    factories.Account(email="imported@example.com", confirmed_email="new@example.com")

    ask(client)
    client.post(link())

    assert stored(account) == ("new@example.com", "new@example.com")


def test_a_mail_that_cannot_be_sent_is_an_error_on_the_form(client, account, monkeypatch):
    def fail(self, *args, **kwargs):
        raise ConnectionRefusedError

    monkeypatch.setattr(EmailMessage, "send", fail)

    assert "The mail could not be sent." in ask(client).content.decode()


@pytest.mark.django_db(transaction=True)
@pytest.mark.xdist_group("races")
def test_only_one_of_two_accounts_can_confirm_one_address_at_once():
    accounts = [factories.Account() for _ in range(2)]
    tokens = [token_for(account, "both@example.com") for account in accounts]

    def confirm(token):
        try:
            return emails.confirm(token).pk
        except EmailTaken:
            return None

    found = races.race([lambda token=token: confirm(token) for token in tokens])

    assert sorted(pk is None for pk in found) == [False, True]
