"""Signing in and out, passwords, and the limits on wrong attempts."""

import contextlib
import re
import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.core import mail
from django.core.mail import EmailMessage
from django.test import Client

from apikeys.attempts import Counter
from apikeys.forms import PasswordAgainForm
from apikeys.models import Account, AttemptCounter
from apikeys.refusals import TooManyAttempts
from tests import factories, races

NOON = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
PASSWORD = "correct-horse-7"


@pytest.fixture
def account(db):
    account = factories.Account(username="anna", email="anna@example.com", confirmed_email="anna@example.com")
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

    assert client.get("/dashboard/sign-out/")["Location"] == "/dashboard/"  # a link on another site signs nobody out
    assert client.get("/dashboard/").status_code == 200
    client.post("/dashboard/sign-out/")

    assert client.get("/dashboard/")["Location"] == "/dashboard/sign-in/?next=/dashboard/"


def test_the_form_is_not_shown_to_a_user_who_is_signed_in(client, account):
    client.force_login(account)

    assert client.get("/dashboard/sign-in/")["Location"] == "/"


def test_signing_in_leads_to_the_requested_page_but_not_to_another_site(client, account):
    response = client.post("/dashboard/sign-in/", {"username": "anna", "password": PASSWORD, "next": "/dashboard/api/"})
    assert response["Location"] == "/dashboard/api/"
    client.logout()
    response = client.post("/dashboard/sign-in/", {"username": "anna", "password": PASSWORD, "next": "//evil.example/"})
    assert response["Location"] == "/"


@pytest.mark.parametrize("name", ["ANNA", "anna@example.com", "Anna@EXAMPLE.com"])
def test_sign_in_by_name_or_confirmed_address_in_any_case(client, account, name):
    assert sign_in(client, name).status_code == 302
    assert client.session["_auth_user_id"] == str(account.pk)


@pytest.mark.parametrize(
    "stored", [{"confirmed_email": ""}, {"email": "other@example.com"}, {"email": "", "confirmed_email": ""}]
)
def test_an_address_that_is_not_confirmed_signs_nobody_in(client, account, stored):
    Account.objects.filter(pk=account.pk).update(**stored)

    assert sign_in(client, "anna@example.com").status_code == 200


def test_if_names_differ_only_in_case_the_exact_one_signs_in(client, account):
    other = factories.Account(username="Anna")
    other.set_password(PASSWORD)
    other.save()

    assert sign_in(client, "ANNA").status_code == 200
    assert sign_in(client, "Anna").status_code == 302
    assert client.session["_auth_user_id"] == str(other.pk)


def test_a_name_comes_before_an_address(account):
    named = factories.Account(username="anna@example.com")

    assert Account.objects.who_signs_in("Anna@example.com") == named


@pytest.mark.parametrize("path", ["/dashboard/sign-in/", "/admin/login/"])
def test_an_unknown_name_a_suspended_account_and_a_wrong_password_get_the_same_answer(client, account, path):
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

    def test_attempts_on_one_name_are_limited_from_all_addresses_together(self, client, account, path):
        for number in range(3):
            assert sign_in(client, password="wrong", path=path, REMOTE_ADDR=f"198.51.100.{number}").status_code == 200

        response = sign_in(client, path=path, REMOTE_ADDR="198.51.100.9")

        assert response.status_code == 429
        assert 0 < int(response["Retry-After"]) <= 900
        assert "Too many attempts" in text(response)
        assert "_auth_user_id" not in client.session

    @pytest.mark.parametrize("spelling", ["ａｎｎａ", "aｎna", " anna ", "anna\u2003", "ANNA", "Anna@Example.com"])
    def test_attempts_on_one_account_are_limited_however_its_name_is_written(self, client, account, path, spelling):
        for name in ("anna", spelling, spelling):
            sign_in(client, name, "wrong", path)

        assert sign_in(client, spelling, path=path).status_code == 429
        assert sign_in(client, path=path).status_code == 429

    def test_another_account_whose_name_differs_in_case_is_not_locked_with_it(self, client, account, path):
        factories.Account(username="ANNA")
        for _ in range(3):
            sign_in(client, "ANNA", "wrong", path)

        assert sign_in(client, path=path).status_code in (200, 302)

    @pytest.mark.parametrize("name", ["", "an\0na"])
    def test_a_name_that_the_form_refuses_counts_on_the_address_alone(self, client, account, path, name):
        answers = [sign_in(client, name, "wrong", path).status_code for _ in range(6)]

        if "\0" in name and path.startswith("/admin/"):  # the admin refuses such text before it is counted
            assert answers == [400] * 6
            return
        assert answers == [200] * 5 + [429]
        assert AttemptCounter.objects.count() == 1

    def test_right_attempts_are_limited_generously(self, client, account, path, settings):
        settings.PASSWORD_CHECKS = 4
        account.is_staff = True
        account.save()
        answers = []
        for _ in range(5):
            client.logout()
            answers.append(sign_in(client, path=path).status_code)

        assert answers == [302] * 4 + [429]
        assert sign_in(client, path=path, REMOTE_ADDR="198.51.100.9").status_code == 302

    def test_attempts_from_one_address_are_limited_whatever_the_name(self, client, account, path):
        for number in range(5):
            assert sign_in(client, f"name{number}", path=path).status_code == 200

        assert sign_in(client, path=path).status_code == 429
        assert sign_in(client, path=path, REMOTE_ADDR="198.51.100.9").status_code in (200, 302)

    def test_a_name_without_an_account_is_limited_too(self, client, account, path):
        for _ in range(3):
            sign_in(client, "nobody", path=path)

        assert sign_in(client, "nobody", path=path).status_code == 429

    def test_right_passwords_are_not_counted(self, client, account, path):
        account.is_staff = True
        account.save()
        answers = []
        for password in ("wrong", PASSWORD, PASSWORD, "wrong", PASSWORD, PASSWORD, "wrong", "wrong"):
            answers.append(sign_in(client, password=password, path=path).status_code)
            client.logout()

        assert answers == [200, 302, 302, 200, 302, 302, 200, 429]

    def test_the_limit_ends_when_retry_after_says_and_no_sooner(self, client, account, path, time_machine):
        for _ in range(3):
            sign_in(client, password="wrong", path=path)
        wait = int(sign_in(client, path=path)["Retry-After"])

        time_machine.move_to(NOON + timedelta(seconds=wait - 1), tick=False)
        assert sign_in(client, path=path).status_code == 429
        time_machine.move_to(NOON + timedelta(seconds=wait), tick=False)
        assert sign_in(client, path=path).status_code != 429


@pytest.mark.parametrize("path", ["/dashboard/sign-in/", "/admin/login/"])
def test_attempts_past_the_limit_of_an_address_lock_no_name(client, account, settings, path):
    settings.ATTEMPTS_PER_ADDRESS, settings.ATTEMPTS_PER_NAME = 1, 2
    for _ in range(4):
        sign_in(client, password="wrong", path=path)

    assert sign_in(client, path=path, REMOTE_ADDR="198.51.100.9").status_code in (200, 302)


@pytest.mark.django_db
def test_a_flood_of_names_lifts_no_lock():
    lock = Counter("sign-in:name", "anna", 1)
    lock.begin()
    for number in range(2_000):
        Counter("sign-in:name", f"name{number}", 1).begin()

    assert lock.begin()


@pytest.mark.django_db
def test_counters_that_have_ended_are_deleted(time_machine):
    time_machine.move_to(NOON, tick=False)
    for number in range(6):
        Counter("sign-in:name", f"early{number}", 1).begin()
    time_machine.move_to(NOON + timedelta(minutes=15), tick=False)
    for number in range(3):
        Counter("sign-in:name", f"late{number}", 1).begin()

    assert AttemptCounter.objects.filter(ends_at__gt=NOON + timedelta(minutes=15)).count() == 3
    assert AttemptCounter.objects.count() == 3


@pytest.mark.django_db
def test_no_counter_reveals_the_name_or_a_password_typed_into_its_field():
    Counter("sign-in:name", "correct-horse-7", 1).begin()

    assert "horse" not in str(AttemptCounter.objects.values())


def test_guesses_of_one_users_password_do_not_limit_another(account, settings):
    settings.ATTEMPTS_PER_NAME = 1
    guesses = {"password": "guess"}
    for _ in range(2):
        form = PasswordAgainForm(account, guesses)
        assert form.errors

    assert form.wait
    assert not PasswordAgainForm(factories.Account(), guesses).wait


@pytest.mark.parametrize(
    ("wait", "minutes"), [(1, "1 minute"), (60, "1 minute"), (61, "2 minutes"), (900, "15 minutes")]
)
def test_the_wait_is_given_in_whole_minutes(wait, minutes):
    assert TooManyAttempts(wait).text == f"Too many wrong passwords. Try again in {minutes}."


@pytest.mark.django_db
class TestCounter:
    def test_its_last_moment_is_limited_too_and_the_next_is_not(self, time_machine):
        def begin():
            return Counter("sign-in", "anna", 1).begin()

        time_machine.move_to(NOON, tick=False)
        assert [begin(), begin()] == [0, 900]
        time_machine.move_to(NOON + timedelta(minutes=15, microseconds=-1), tick=False)
        assert begin() == 1
        time_machine.move_to(NOON + timedelta(minutes=15), tick=False)
        assert begin() == 0

    def test_a_right_attempt_takes_nothing_off_the_counter_after_its_own(self, time_machine):
        time_machine.move_to(NOON, tick=False)
        slow = Counter("sign-in", "anna", 1)
        slow.begin()
        time_machine.move_to(NOON + timedelta(minutes=15), tick=False)
        Counter("sign-in", "anna", 1).begin()

        slow.succeed()

        assert Counter("sign-in", "anna", 1).begin()


@pytest.mark.django_db
def test_proofs_that_are_right_are_limited_generously(account, settings):
    settings.PASSWORD_CHECKS = 2

    answers = [PasswordAgainForm(account, {"password": PASSWORD}).is_valid() for _ in range(3)]

    assert answers == [True, True, False]


def test_a_wrong_attempt_while_signed_in_is_not_counted_as_right(client, account, settings):
    settings.ATTEMPTS_PER_NAME = 2
    client.force_login(factories.Account())

    answers = [sign_in(client, password="wrong", path="/admin/login/").status_code for _ in range(3)]

    assert answers == [200, 200, 429]


@pytest.mark.django_db(transaction=True)
@pytest.mark.xdist_group("races")
def test_simultaneous_attempts_check_no_more_passwords_than_the_limit(settings, monkeypatch):
    settings.ATTEMPTS_PER_NAME, attempts = 3, 20
    looked_at = threading.Barrier(attempts)

    def is_wrong(*args):
        # Without a count before the check, all attempts would meet here.
        with contextlib.suppress(threading.BrokenBarrierError):
            looked_at.wait(0.5)
        return False

    monkeypatch.setattr(Account, "proves_password", is_wrong)
    account = factories.Account(username="anna")

    forms = races.race([lambda: PasswordAgainForm(account, {"password": "guess"}).wait] * attempts)

    assert forms.count(0) == 3


def test_viewing_the_form_is_not_an_attempt(client, account, settings):
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


def test_staff_change_their_password_on_the_same_page(client, staff):
    client.force_login(staff)

    assert client.get("/admin/password_change/")["Location"] == "/dashboard/password/"
    assert client.post("/admin/password_change/", {"old_password": "guess"})["Location"] == "/dashboard/password/"


def test_wrong_sign_ins_do_not_limit_a_user_who_is_signed_in(client, account, settings):
    settings.ATTEMPTS_PER_NAME = 1
    for _ in range(2):
        sign_in(Client(), password="wrong")
    client.force_login(account)

    new = {"new_password1": "another-horse-8", "new_password2": "another-horse-8"}
    assert client.post("/dashboard/password/", {"old_password": PASSWORD, **new}).status_code == 302


def wait_for_mail():
    for thread in threading.enumerate():
        if thread.name == "reset-mail":
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

    def test_the_link_in_the_mail_resets_the_password_once(self, client, account, mailoutbox):
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

    def test_a_reset_lifts_the_lock_of_the_name(self, client, account, mailoutbox, settings):
        settings.ATTEMPTS_PER_NAME = 1
        sign_in(client, password="wrong")
        assert sign_in(client).status_code == 429
        self.ask(client)
        [link] = re.findall(r"http://testserver(/\S+)", mailoutbox[0].body)
        path = client.get(link, follow=True).redirect_chain[-1][0]

        client.post(path, {"new_password1": "short", "new_password2": "short"})
        assert sign_in(client).status_code == 429
        client.post(path, {"new_password1": "another-horse-8", "new_password2": "another-horse-8"})

        assert sign_in(client, password="another-horse-8").status_code == 302

    def test_the_log_has_no_link_that_works(self, client, account, mailoutbox, log, settings):
        self.ask(client)
        [(path, token)] = re.findall(r"http://testserver(/\S+/(\S+)/)", mailoutbox[0].body)

        for sent in (path, path.rstrip("/"), f"{path}more/", f"/elsewhere{path}"):
            client.get(sent)
        settings.SECURE_SSL_REDIRECT = True
        client.get(path)

        assert [request["path"] for request in log.requests].count(path.replace(token, "…")) == 2
        assert token not in log.text

    def test_the_answer_does_not_reveal_who_has_an_account(self, client, account):
        assert self.ask(client) == self.ask(client, "nobody@example.com")
        assert len(mail.outbox) == 1

    def test_the_answer_does_not_wait_for_the_mail(self, client, account, monkeypatch):
        answered, sent_after_it = threading.Event(), []
        monkeypatch.setattr(EmailMessage, "send", lambda message: sent_after_it.append(answered.wait(5)))

        client.post("/dashboard/password/reset/", {"email": "anna@example.com"})
        answered.set()
        wait_for_mail()

        assert sent_after_it == [True]

    def test_a_mail_that_cannot_be_sent_is_in_the_log_with_the_request(self, client, account, monkeypatch, log):
        def fail(message):
            raise ConnectionRefusedError

        monkeypatch.setattr(EmailMessage, "send", fail)

        client.post("/dashboard/password/reset/", {"email": "anna@example.com"}, headers={"X-Request-ID": "lost-mail"})
        wait_for_mail()

        [record] = [record for record in log.records() if record["level"] == "error"]
        assert record["event"].startswith("Failed to send password reset email")
        assert record["request_id"] == "lost-mail"

    def test_requests_for_a_reset_are_limited(self, client, account, settings):
        settings.ATTEMPTS_PER_NAME = 2
        self.ask(client)
        self.ask(client)

        assert client.post("/dashboard/password/reset/", {"email": " ANNA@example.com"}).status_code == 429
        assert len(mail.outbox) == 2
