"""Signing in and out, passwords, and the limits of attempts."""

import contextlib
import re
import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.core import mail
from django.core.mail import EmailMessage
from django.test import Client
from django_ratelimit.core import _get_window

from apikeys.attempts import PERIOD, begin
from apikeys.forms import PasswordAgainForm
from apikeys.models import Account
from tests import factories, races

NOON = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
PASSWORD = "correct-horse-7"


@pytest.fixture
def account(db):
    account = factories.Account(username="anna", email="anna@example.com")
    account.set_password(PASSWORD)
    account.save()
    return account


def sign_in(client, username="anna", password=PASSWORD, path="/dashboard/sign-in/", **headers):
    return client.post(path, {"username": username, "password": password}, **headers)


def text(response):
    return " ".join(re.sub(r"<[^>]*>", " ", response.content.decode()).split())


def test_sign_in_and_out(client, account):
    assert sign_in(client)["Location"] == "/"
    assert client.get("/dashboard/").status_code == 200

    assert client.get("/dashboard/sign-out/")["Location"] == "/dashboard/"  # a link elsewhere signs nobody out
    assert client.get("/dashboard/").status_code == 200
    client.post("/dashboard/sign-out/")

    assert client.get("/dashboard/")["Location"] == "/dashboard/sign-in/?next=/dashboard/"


def test_the_form_is_not_shown_to_a_user_who_is_signed_in(client, account):
    client.force_login(account)

    assert client.get("/dashboard/sign-in/")["Location"] == "/"


def test_it_goes_on_to_where_one_wanted_to_be_but_not_to_another_site(client, account):
    response = client.post("/dashboard/sign-in/", {"username": "anna", "password": PASSWORD, "next": "/dashboard/api/"})
    assert response["Location"] == "/dashboard/api/"
    client.logout()
    response = client.post("/dashboard/sign-in/", {"username": "anna", "password": PASSWORD, "next": "//evil.example/"})
    assert response["Location"] == "/"


@pytest.mark.parametrize("path", ["/dashboard/sign-in/", "/admin/login/"])
def test_unknown_suspended_and_wrong_are_told_the_same(client, account, path):
    suspended = factories.Account(username="bert", is_active=False)
    suspended.set_password(PASSWORD)
    suspended.save()

    answers = {
        text(sign_in(client, username, password, path)).replace(username, "NAME")
        for username, password in [("anna", "wrong"), ("nobody", PASSWORD), ("bert", PASSWORD)]
    }

    assert len(answers) == 1


@pytest.mark.parametrize("path", ["/dashboard/sign-in/", "/admin/login/"])
class TestLimits:
    @pytest.fixture(autouse=True)
    def _few(self, settings, time_machine):
        settings.ATTEMPTS_PER_ADDRESS, settings.ATTEMPTS_PER_NAME = 5, 3
        time_machine.move_to(NOON, tick=False)

    def test_of_one_name_from_everywhere(self, client, account, path):
        for number in range(3):
            assert sign_in(client, password="wrong", path=path, REMOTE_ADDR=f"198.51.100.{number}").status_code == 200

        response = sign_in(client, path=path, REMOTE_ADDR="198.51.100.9")

        assert response.status_code == 429
        assert 0 < int(response["Retry-After"]) <= 900
        assert "Too many attempts" in text(response)
        assert "_auth_user_id" not in client.session

    def test_however_the_name_is_written(self, client, account, path):
        for name in ("anna", "ANNA", " Anna "):
            sign_in(client, name, "wrong", path)

        assert sign_in(client, path=path).status_code == 429

    def test_of_one_address_whatever_the_name(self, client, account, path):
        for number in range(5):
            assert sign_in(client, f"name{number}", path=path).status_code == 200

        assert sign_in(client, path=path).status_code == 429
        assert sign_in(client, path=path, REMOTE_ADDR="198.51.100.9").status_code in (200, 302)

    def test_a_name_without_an_account_is_limited_as_one_that_has_one(self, client, account, path):
        for _ in range(3):
            sign_in(client, "nobody", path=path)

        assert sign_in(client, "nobody", path=path).status_code == 429

    def test_right_ones_are_not_counted(self, client, account, path):
        account.is_staff = True
        account.save()
        answers = []
        for password in ("wrong", PASSWORD, PASSWORD, "wrong", PASSWORD, PASSWORD, "wrong", "wrong"):
            answers.append(sign_in(client, password=password, path=path).status_code)
            client.logout()

        assert answers == [200, 302, 302, 200, 302, 302, 200, 429]

    def test_they_end_when_the_answer_said_and_no_sooner(self, client, account, path, time_machine):
        for _ in range(3):
            sign_in(client, password="wrong", path=path)
        wait = int(sign_in(client, path=path)["Retry-After"])

        time_machine.move_to(NOON + timedelta(seconds=wait - 1), tick=False)
        assert sign_in(client, path=path).status_code == 429
        time_machine.move_to(NOON + timedelta(seconds=wait), tick=False)
        assert sign_in(client, path=path).status_code != 429


@pytest.mark.parametrize("path", ["/dashboard/sign-in/", "/admin/login/"])
def test_attempts_past_the_limit_of_an_address_count_for_the_name_too(client, account, settings, path):
    settings.ATTEMPTS_PER_ADDRESS, settings.ATTEMPTS_PER_NAME = 1, 3
    for _ in range(4):
        sign_in(client, password="wrong", path=path)

    assert sign_in(client, path=path, REMOTE_ADDR="198.51.100.9").status_code == 429


def test_guesses_of_one_users_password_do_not_limit_another(account, settings):
    settings.ATTEMPTS_PER_NAME = 1
    guesses = {"password": "guess"}
    for _ in range(2):
        form = PasswordAgainForm(account, guesses)
        assert form.errors

    assert form.wait
    assert not PasswordAgainForm(factories.Account(), guesses).wait


class TestBegin:
    def test_the_last_second_of_a_window_is_limited_too(self, time_machine):
        time_machine.move_to(NOON, tick=False)
        last_second = _get_window("anna", PERIOD)
        time_machine.move_to(datetime.fromtimestamp(last_second, UTC), tick=False)

        assert [begin("sign-in", "anna", 1) for _ in range(2)] == [0, 1]

    def test_an_attempt_that_cannot_be_counted_is_not_allowed(self, monkeypatch):
        uncounted = {"count": 0, "limit": 0, "should_limit": True, "time_left": -1}
        monkeypatch.setattr("apikeys.attempts.get_usage", lambda *args, **options: uncounted)

        assert begin("sign-in", "anna", 1) == 1


def test_a_wrong_attempt_of_whoever_is_signed_in_is_no_right_one(client, account, settings):
    settings.ATTEMPTS_PER_NAME = 2
    client.force_login(factories.Account())

    answers = [sign_in(client, password="wrong", path="/admin/login/").status_code for _ in range(3)]

    assert answers == [200, 200, 429]


@pytest.mark.xdist_group("races")
def test_of_attempts_at_once_no_more_passwords_are_looked_at(settings, monkeypatch):
    settings.ATTEMPTS_PER_NAME, attempts = 3, 20
    looked_at = threading.Barrier(attempts)

    def is_wrong(*args):
        # Held until all would have been looked at, had nothing been counted before.
        with contextlib.suppress(threading.BrokenBarrierError):
            looked_at.wait(0.5)
        return False

    monkeypatch.setattr(Account, "check_password", is_wrong)
    account = Account(pk=1, username="anna")

    forms = races.race([lambda: PasswordAgainForm(account, {"password": "guess"}).wait] * attempts)

    assert forms.count(0) == 3


def test_looking_at_the_form_is_no_attempt(client, account, settings):
    settings.ATTEMPTS_PER_NAME = settings.ATTEMPTS_PER_ADDRESS = 1
    for _ in range(3):
        client.get("/dashboard/sign-in/")

    assert sign_in(client).status_code == 302


def test_change_the_password(client, account):
    client.force_login(account)

    response = client.post(
        "/dashboard/password/",
        {"old_password": PASSWORD, "new_password1": "another-horse-8", "new_password2": "another-horse-8"},
    )

    assert response["Location"] == "/dashboard/password/changed/"
    assert client.get("/dashboard/password/changed/").status_code == 200
    assert Account.objects.get().check_password("another-horse-8")


def test_guesses_of_the_old_password_are_limited(client, account, settings):
    settings.ATTEMPTS_PER_NAME = 2
    client.force_login(account)

    answers = [client.post("/dashboard/password/", {"old_password": "x"}) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert 0 < int(answers[-1]["Retry-After"]) <= 900
    assert "Too many wrong passwords. Try again in " in text(answers[-1])


def test_staff_change_theirs_on_the_same_page(client, staff):
    client.force_login(staff)

    assert client.get("/admin/password_change/")["Location"] == "/dashboard/password/"
    assert client.post("/admin/password_change/", {"old_password": "guess"})["Location"] == "/dashboard/password/"


def test_guesses_at_the_sign_in_keep_nobody_who_is_signed_in_from_anything(client, account, settings):
    settings.ATTEMPTS_PER_NAME = 1
    for _ in range(2):
        sign_in(Client(), password="wrong")
    client.force_login(account)

    new = {"new_password1": "another-horse-8", "new_password2": "another-horse-8"}
    assert client.post("/dashboard/password/", {"old_password": PASSWORD, **new}).status_code == 302


def wait_for_mail():
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join()


class TestReset:
    @pytest.fixture(autouse=True)
    def _at_once(self, monkeypatch):
        monkeypatch.setattr("apikeys.forms.MAIL_AFTER", 0)

    def ask(self, client, email="anna@example.com"):
        response = client.post("/dashboard/password/reset/", {"email": email})
        wait_for_mail()
        assert response["Location"] == "/dashboard/password/reset/sent/"
        return client.get(response["Location"]).content

    def test_by_the_link_in_a_mail_that_works_once(self, client, account, mailoutbox):
        self.ask(client)
        [message] = mailoutbox
        assert message.to == ["anna@example.com"]
        [link] = re.findall(r"http://testserver(/\S+)", message.body)

        form = client.get(link, follow=True)
        path = form.redirect_chain[-1][0]
        new = {"new_password1": "another-horse-8", "new_password2": "another-horse-8"}
        assert client.post(path, new)["Location"] == "/dashboard/password/set/"

        assert client.get("/dashboard/password/set/").status_code == 200
        assert Account.objects.get().check_password("another-horse-8")
        assert "has been used already" in text(client.get(link, follow=True))

    def test_the_log_has_no_link_that_works(self, client, account, mailoutbox, caplog, settings):
        self.ask(client)
        [(path, token)] = re.findall(r"http://testserver(/\S+/(\S+)/)", mailoutbox[0].body)

        with caplog.at_level("INFO"):
            for sent in (path, path.rstrip("/"), f"{path}more/", f"/elsewhere{path}"):
                client.get(sent)
            settings.SECURE_SSL_REDIRECT = True
            client.get(path)

        assert "GET /dashboard/password/reset/" in caplog.text
        assert token not in caplog.text

    def test_it_does_not_tell_who_has_an_account(self, client, account):
        assert self.ask(client) == self.ask(client, "nobody@example.com")
        assert len(mail.outbox) == 1

    def test_the_answer_does_not_wait_for_the_mail(self, client, account, monkeypatch):
        answered, sent_after_it = threading.Event(), []
        monkeypatch.setattr(EmailMessage, "send", lambda message: sent_after_it.append(answered.wait(5)))

        client.post("/dashboard/password/reset/", {"email": "anna@example.com"})
        answered.set()
        wait_for_mail()

        assert sent_after_it == [True]

    def test_a_mail_that_cannot_be_sent_is_in_the_log_with_the_request(self, client, account, monkeypatch, caplog):
        def fail(message):
            raise ConnectionRefusedError

        monkeypatch.setattr(EmailMessage, "send", fail)

        client.post("/dashboard/password/reset/", {"email": "anna@example.com"}, headers={"X-Request-ID": "lost-mail"})
        wait_for_mail()

        [record] = [record for record in caplog.records if record.levelname == "ERROR"]
        assert record.message.startswith("Failed to send password reset email")
        assert record.request_id == "lost-mail"

    def test_it_is_limited(self, client, account, settings):
        settings.ATTEMPTS_PER_NAME = 2
        self.ask(client)
        self.ask(client)

        assert client.post("/dashboard/password/reset/", {"email": "anna@example.com"}).status_code == 429
        assert len(mail.outbox) == 2
