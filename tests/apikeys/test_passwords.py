"""What a new password must be, how it is stored, and what ends with the old one."""

import pytest
from django.conf import settings as project_settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import transaction
from django.urls import reverse
from django_otp.oath import totp

from apikeys import second_factor
from apikeys.keys import create_api_key, revoke_all_api_keys
from apikeys.models import Account, AuditEvent
from tests import factories, races

PASSWORD = "correct-horse-7"
HASHERS = list(project_settings.PASSWORD_HASHERS)  # before a fixture replaces them with a quick one


def code_of(error):
    return [each.code for each in error.value.error_list]


@pytest.mark.parametrize("rank", ["is_staff", "is_superuser"])
def test_staff_need_twelve_characters(db, rank):
    validate_password("kX93-bnq-Tz", factories.Account())
    with pytest.raises(ValidationError) as error:
        validate_password("kX93-bnq-Tz", factories.Account(**{rank: True}))

    assert code_of(error) == ["too_short_for_staff"]
    validate_password("kX93-bnq-Tz7", factories.Account(**{rank: True}))


def test_staff_need_twelve_characters_wherever_a_password_is_set(client, staff):
    client.force_login(staff)
    short = {"password1": "kX93-bnq-Tz", "password2": "kX93-bnq-Tz", "usable_password": "true"}
    page = client.post(reverse("admin:auth_user_password_change", args=[staff.pk]), short).content.decode()

    assert "Staff need a password of 12 characters or more." in page


def test_createsuperuser_holds_superusers_to_them(db, monkeypatch):
    def create(password):
        monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", password)
        call_command("createsuperuser", "--noinput", username="boss", email="boss@example.com", verbosity=0)

    with pytest.raises(CommandError, match=r"^Staff need a password of 12 characters or more.$"):
        create("kX93-bnq-Tz")
    assert not Account.objects.exists()
    create("kX93-bnq-Tz7")
    assert Account.objects.get().check_password("kX93-bnq-Tz7")


def test_createsuperuser_holds_superusers_to_them_despite_its_bypass(db, monkeypatch):
    monkeypatch.setattr("getpass.getpass", lambda *args: "kX93-bnq-Tz")
    monkeypatch.setattr("builtins.input", lambda *args: "y")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)

    with pytest.raises(CommandError, match=r"^Staff need"):
        call_command("createsuperuser", username="boss", email="boss@example.com", verbosity=0)

    assert not Account.objects.exists()


def test_changepassword_holds_staff_to_them(staff, monkeypatch):
    monkeypatch.setattr("getpass.getpass", lambda *args, **kwargs: "kX93-bnq-Tz")

    with pytest.raises(CommandError, match="Aborting password change"):
        call_command("changepassword", staff.username)


class TestStaffWhoWereCustomers:
    SHORT, LONG = "kX93-bnq-Tz", "kX93-bnq-Tz7"
    PAGE, DESK = "/dashboard/password/", "/admin/"

    @pytest.fixture
    def account(self, db):
        account = factories.Account(username="anna")
        account.set_password(self.SHORT)
        account.save()
        return account

    def sign_in(self, client, path="/dashboard/sign-in/", password=SHORT):
        return client.post(path, {"username": "anna", "password": password})

    def promote(self, account):
        account.is_staff = True
        account.save(update_fields=["is_staff"])

    def change(self, client, password):
        fields = {"old_password": self.SHORT, "new_password1": password, "new_password2": password}
        return client.post(self.PAGE, fields)

    @pytest.mark.parametrize("path", ["/dashboard/sign-in/", "/admin/login/"])
    def test_the_desk_is_closed_until_a_short_password_is_changed(self, client, account, path):
        self.promote(account)
        self.sign_in(client, path)

        for method in (client.get, client.post):
            assert method(self.DESK).headers["Location"] == self.PAGE
        assert "staff need 12 characters or more" in client.get(self.PAGE).content.decode()
        assert "Staff need a password of 12" in self.change(client, "another-h8").content.decode()
        assert client.get(self.DESK).headers["Location"] == self.PAGE
        assert self.change(client, self.LONG).headers["Location"] == self.DESK
        assert client.get(self.DESK).status_code == 200

    def test_a_session_from_before_does_not_open_the_desk(self, client, account):
        self.sign_in(client)
        self.promote(account)

        assert client.get(self.DESK).headers["Location"] == self.PAGE

    def test_the_second_factor_does_not_open_the_desk(self, client, account):
        self.promote(account)
        device = second_factor.prepare(account)
        _, recovery_code, *_ = second_factor.enable(account, device, f"{totp(device.bin_key):06}")
        self.sign_in(client)

        client.post("/dashboard/sign-in/code/", {"code": recovery_code})

        assert client.get("/dashboard/").status_code == 200
        assert client.get(self.DESK).headers["Location"] == self.PAGE

    def test_another_short_password_does_not_open_the_desk(self, client, account):
        self.sign_in(client)
        self.change(client, "kX93-bnq-Ty")
        self.promote(account)

        assert client.get(self.DESK).headers["Location"] == self.PAGE

    def test_a_long_password_opens_the_desk_at_once(self, client, account):
        self.sign_in(client)
        assert self.change(client, self.LONG).headers["Location"] == "/dashboard/password/changed/"
        self.promote(account)
        assert client.get(self.DESK).status_code == 200

        client.logout()
        self.sign_in(client, password=self.LONG)
        assert client.get(self.DESK).status_code == 200

    def test_customers_are_not_asked(self, client, account):
        self.sign_in(client)

        assert client.get("/dashboard/").status_code == 200
        assert "staff need" not in client.get(self.PAGE).content.decode()


@pytest.mark.parametrize("password", ["qwertyuiop123", "Iloveyou1234", "password1234"])
def test_passwords_that_were_leaked_are_refused(password):
    with pytest.raises(ValidationError) as error:
        validate_password(password)

    assert "breached" in code_of(error)


@pytest.mark.parametrize(
    "password", ["correct-horse-7", "ünïcödé-pässwörd", "x7" * 2000, "\0" * 9 + "a-b-c", "🔑🔒🔑🔒🔑🔒🔑🔒🔑🔒"]
)
def test_other_passwords_are_accepted(password):
    validate_password(password)


def test_passwords_are_stored_by_argon2_and_older_hashes_follow_at_the_sign_in(client, settings, db):
    settings.PASSWORD_HASHERS = HASHERS
    account = factories.Account(username="anna", password=make_password(PASSWORD, hasher="pbkdf2_sha256"))

    for password in ("guess", PASSWORD):
        client.post("/dashboard/sign-in/", {"username": "anna", "password": password})

    account.refresh_from_db()
    assert account.password.startswith("argon2$argon2id$")
    assert account.check_password(PASSWORD)
    assert client.get("/dashboard/").status_code == 200


@pytest.mark.parametrize(
    ("path", "fields"), [("/dashboard/api/", {"name": "shop", "password": PASSWORD}), ("/dashboard/password/", {})]
)
def test_proving_an_older_password_again_signs_nobody_out(client, settings, db, path, fields):
    settings.PASSWORD_HASHERS = HASHERS
    account = factories.Account(password=make_password(PASSWORD, hasher="pbkdf2_sha256"))
    client.force_login(account)

    client.post(path, {"old_password": PASSWORD, "new_password1": "x", "new_password2": "x", **fields})

    assert client.get("/dashboard/").status_code == 200


class TestKeys:
    @pytest.fixture
    def change(self, client, customer):
        """Return a function that changes the customer's password, and returns the page that follows."""
        customer.account.set_password(PASSWORD)
        customer.account.save()
        client.force_login(customer.account)

        def post(**fields):
            new = {"new_password1": "another-horse-8", "new_password2": "another-horse-8"}
            answer = client.post("/dashboard/password/", {"old_password": PASSWORD, **new, **fields}, follow=True)
            return answer.content.decode()

        return post

    def test_all_are_revoked_with_the_password_on_request(self, change, customer, customers):
        other = customers()
        second = create_api_key(customer.account)[0]

        assert "2 API keys are revoked" in change(revoke_keys="on")

        assert customer.post("services").status_code == 401
        assert other.post("services").status_code == 200
        revoked = AuditEvent.objects.filter(kind="key_revoked").values_list("details__key", flat=True)
        assert set(revoked) == {customer.api_key.prefix, second.prefix}

    def test_they_stay_unless_requested(self, change, customer):
        assert "revoked" not in change()
        assert customer.post("services").status_code == 200

    def test_they_stay_if_the_password_is_not_changed(self, change, customer):
        change(revoke_keys="on", old_password="guess")
        assert customer.post("services").status_code == 200

    def test_both_happen_or_neither(self, change, customer, monkeypatch):
        def fail(account):
            raise ZeroDivisionError

        monkeypatch.setattr("apikeys.forms.revoke_all_api_keys", fail)
        with pytest.raises(ZeroDivisionError):
            change(revoke_keys="on")

        assert Account.objects.get(pk=customer.account.pk).check_password(PASSWORD)

    def test_a_user_without_keys_is_not_asked(self, client, db):
        client.force_login(factories.Account())
        assert "Revoke all" not in client.get("/dashboard/password/").content.decode()


@pytest.mark.django_db(transaction=True)
@pytest.mark.xdist_group("races")
def test_revoking_all_waits_for_a_key_that_is_being_created():
    account = factories.Account()

    with transaction.atomic():
        create_api_key(account)
        revocation = races.Waiting(lambda: revoke_all_api_keys(account))

    assert revocation.result() == 1
