"""The second factor of staff: set-up, sign-in, recovery codes and reset. Also when sessions of staff end."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django_otp.oath import totp
from django_otp.plugins.otp_totp.models import TOTPDevice

from apikeys import second_factor
from apikeys.models import Account, AuditEvent, RecoveryCode
from apikeys.refusals import OnlySuperusers, TooManyCodes, WrongCode
from tests import factories, races

NOON = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
PASSWORD = "correct-horse-7"
CODE_PAGE = "/dashboard/sign-in/code/"


@pytest.fixture(autouse=True)
def _noon(time_machine):
    time_machine.move_to(NOON, tick=False)


@pytest.fixture
def agent(db):
    agent = factories.Account(username="agent", is_staff=True, is_superuser=True)
    agent.set_password(PASSWORD)
    agent.save()
    return agent


@pytest.fixture
def later(time_machine):
    """Return a function that moves the time to ``seconds`` after noon."""
    return lambda seconds: time_machine.move_to(NOON + timedelta(seconds=seconds), tick=False)


def code_of(device):
    return f"{totp(device.bin_key):06}"


@pytest.fixture
def enabled(agent, later):
    """Give the agent a second factor. Returns the app and the recovery codes; the code of noon has been used."""
    device = second_factor.prepare(agent)
    codes = second_factor.enable(agent, device, code_of(device))
    later(60)
    return device, codes


def give_password(client, path="/dashboard/sign-in/", **data):
    return client.post(path, {"username": "agent", "password": PASSWORD, **data})


def is_signed_in(client):
    return "_auth_user_id" in client.session


def events(*kinds):
    return list(AuditEvent.objects.filter(kind__in=kinds).order_by("pk").values_list("kind", flat=True))


class TestSetUp:
    def test_with_the_password_the_code_and_codes_shown_once(self, client, agent):
        client.force_login(agent)
        assert "Set up a second factor" in client.get("/dashboard/second-factor/").content.decode()
        assert client.post("/dashboard/second-factor/", {"password": "guess"}).status_code == 200
        assert not TOTPDevice.objects.exists()

        page = client.post("/dashboard/second-factor/", {"password": PASSWORD}, follow=True).content.decode()
        device = TOTPDevice.objects.get()
        assert not device.confirmed
        assert "<svg" in page
        assert second_factor.device_of(agent) is None

        assert "This code is wrong" in client.post(
            "/dashboard/second-factor/confirm/", {"code": "000000"}
        ).content.decode().replace("\n", " ")
        too_soon = client.post("/dashboard/second-factor/confirm/", {"code": code_of(device)})
        assert too_soon.status_code == 429  # django-otp waits a second after a wrong one

    def test_the_codes_work_and_are_stored_hashed(self, client, agent):
        client.force_login(agent)
        client.post("/dashboard/second-factor/", {"password": PASSWORD})

        page = client.post("/dashboard/second-factor/confirm/", {"code": code_of(TOTPDevice.objects.get())})

        codes = re.findall(r"\b[a-z2-7]{4}(?:-[a-z2-7]{4}){3}\b", page.content.decode())
        assert len(set(codes)) == 10
        stored = str(list(RecoveryCode.objects.values())) + str(list(AuditEvent.objects.values()))
        assert not [code for code in codes if code in stored or code.replace("-", "") in stored]
        assert client.get("/admin/").status_code == 200  # this browser has proved the second factor
        assert client.get("/dashboard/second-factor/confirm/").status_code == 302
        assert codes[0] not in client.get("/dashboard/second-factor/").content.decode()
        assert events("factor_enabled") == ["factor_enabled"]

    def test_the_secret_is_shown_to_the_browser_that_gave_the_password_for_ten_minutes(self, client, agent, later):
        client.force_login(agent)
        client.post("/dashboard/second-factor/", {"password": PASSWORD})
        other = Client()
        other.force_login(agent)

        assert client.get("/dashboard/second-factor/confirm/").status_code == 200
        assert other.get("/dashboard/second-factor/confirm/").status_code == 302
        later(600)
        assert client.get("/dashboard/second-factor/confirm/").status_code == 302

    def test_customers_are_not_offered_a_second_factor(self, client, db):
        client.force_login(factories.Account())

        assert client.get("/dashboard/second-factor/").status_code == 404
        assert "Second factor" not in client.get("/dashboard/").content.decode()

    def test_the_admin_shows_no_secret(self, client, agent, enabled):
        assert client.get("/admin/otp_totp/totpdevice/").status_code in (302, 404)
        assert TOTPDevice not in admin.site._registry


@pytest.mark.parametrize("path", ["/dashboard/sign-in/", "/admin/login/"])
class TestSignIn:
    def test_takes_a_code_on_a_second_page(self, client, agent, enabled, path):
        response = give_password(client, path, next="/admin/refills/refill/")

        assert response["Location"] == CODE_PAGE
        assert not is_signed_in(client)
        assert client.get("/admin/").status_code == 302
        assert client.get(CODE_PAGE).status_code == 200

        response = client.post(CODE_PAGE, {"code": code_of(enabled[0])})
        assert response["Location"] == "/admin/refills/refill/"
        assert client.get("/admin/").status_code == 200

    def test_a_code_is_accepted_once(self, client, agent, enabled, path):
        code = code_of(enabled[0])
        for expected in (True, False):
            client.logout()
            give_password(client, path)
            client.post(CODE_PAGE, {"code": code})
            assert is_signed_in(client) == expected

    def test_a_recovery_code_is_accepted_once_however_it_is_typed(self, client, agent, enabled, path):
        code = enabled[1][3].upper().replace("-", " ")
        for expected in (True, False):
            client.logout()
            give_password(client, path)
            client.post(CODE_PAGE, {"code": code})
            assert is_signed_in(client) == expected
        assert AuditEvent.objects.get(kind="recovery_code_used").details == {"left": 9}

    def test_without_a_second_factor_takes_the_password_alone(self, client, agent, path):
        give_password(client, path)
        assert is_signed_in(client)
        assert client.get("/admin/").status_code == 200


class TestCodePage:
    def test_needs_the_password_first(self, client, agent, enabled):
        assert client.get(CODE_PAGE)["Location"] == "/dashboard/sign-in/"
        assert client.post(CODE_PAGE, {"code": code_of(enabled[0])})["Location"] == "/dashboard/sign-in/"
        assert not is_signed_in(client)

    @pytest.mark.parametrize("change", ["time", "suspended", "new password"])
    def test_forgets_the_password_when_it_no_longer_counts(self, client, agent, enabled, later, change):
        give_password(client)
        if change == "time":
            later(60 + 600)
        elif change == "suspended":
            Account.objects.update(is_active=False)
        else:
            agent.set_password("another-horse-8")
            agent.save()

        assert client.post(CODE_PAGE, {"code": code_of(enabled[0])})["Location"] == "/dashboard/sign-in/"
        assert not is_signed_in(client)

    def test_guesses_are_limited(self, client, agent, enabled, settings, later):
        settings.ATTEMPTS_PER_NAME = 2
        give_password(client)
        answers = []
        for number in range(3):
            later(100 + 10 * number)
            answers.append(client.post(CODE_PAGE, {"code": "aaaa-bbbb-cccc-dddd"}))

        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert 0 < int(answers[-1]["Retry-After"]) <= 900
        assert client.post(CODE_PAGE, {"code": code_of(enabled[0])}).status_code == 429
        assert events("code_failed", "locked") == ["code_failed", "code_failed", "locked"]

    def test_each_wrong_code_in_a_row_doubles_the_wait(self, client, agent, enabled, later):
        give_password(client)
        for seconds, expected in ((100, 200), (100, 429), (101, 200), (102, 429), (103, 200)):
            later(seconds)
            assert client.post(CODE_PAGE, {"code": "000000"}).status_code == expected

    @pytest.mark.parametrize("code", ["", "12345", "1234567", "١٢٣٤٥٦", "-12345", "1\0", "x" * 5000])
    def test_text_that_is_not_a_code_is_refused(self, client, agent, enabled, code):
        give_password(client)
        assert client.post(CODE_PAGE, {"code": code}).status_code == 200
        assert not is_signed_in(client)


@pytest.mark.django_db(transaction=True)
@pytest.mark.xdist_group("races")
def test_one_code_used_twice_at_once_is_accepted_once(agent, enabled):
    device, codes = enabled

    def prove(code):
        try:
            return bool(second_factor.prove(agent, code))
        except (WrongCode, TooManyCodes):
            return False

    for code in (code_of(device), codes[0]):
        assert races.race([lambda code=code: prove(code)] * 5).count(True) == 1


class TestDesk:
    def test_a_session_from_before_must_prove_it(self, client, agent, later):
        client.force_login(agent)
        assert client.get("/admin/").status_code == 200
        device = second_factor.prepare(agent)
        second_factor.enable(agent, device, code_of(device))
        later(60)

        assert client.get("/admin/refills/refill/?q=1")["Location"] == CODE_PAGE
        response = client.post(CODE_PAGE, {"code": code_of(device)})
        assert response["Location"] == "/admin/refills/refill/?q=1"
        assert client.get("/admin/").status_code == 200

    def test_staff_must_have_one_by_a_setting(self, client, agent, settings):
        settings.STAFF_TWO_FACTOR = True
        give_password(client)

        for path in ("/admin/", "/admin/refills/refill/", "/admin/jsi18n/", "/admin/nowhere/"):
            assert client.get(path)["Location"] == "/dashboard/second-factor/"
            assert client.post(path)["Location"] == "/dashboard/second-factor/"
        assert client.get("/dashboard/").status_code == 200
        assert "Staff need a second factor" in client.get("/dashboard/second-factor/").content.decode()

        client.post("/dashboard/second-factor/", {"password": PASSWORD})
        client.post("/dashboard/second-factor/confirm/", {"code": code_of(TOTPDevice.objects.get())})
        assert client.get("/admin/").status_code == 200

    def test_a_customer_meets_the_admins_own_door(self, client, db, settings):
        settings.STAFF_TWO_FACTOR = True
        client.force_login(factories.Account())
        assert client.get("/admin/")["Location"].startswith("/admin/login/")


class TestTakingItAway:
    def post(self, client, **data):
        return client.post("/dashboard/second-factor/", data)

    def test_takes_the_password_and_a_code(self, client, agent, enabled):
        client.force_login(agent)
        code = code_of(enabled[0])

        self.post(client, disable="yes", password="guess", code=code)
        self.post(client, disable="yes", password=PASSWORD, code="aaaa-bbbb-cccc-dddd")
        assert second_factor.device_of(agent)
        self.post(client, disable="yes", password=PASSWORD, code=code)

        assert second_factor.device_of(agent) is None
        assert not RecoveryCode.objects.exists()
        assert events("factor_disabled") == ["factor_disabled"]

    def test_is_refused_where_staff_must_have_one(self, client, agent, enabled, settings):
        settings.STAFF_TWO_FACTOR = True
        client.force_login(agent)

        self.post(client, disable="yes", password=PASSWORD, code=code_of(enabled[0]))

        assert second_factor.device_of(agent)

    def test_new_recovery_codes_end_the_old_ones(self, client, agent, enabled):
        client.force_login(agent)
        self.post(client, renew="yes", password="guess")
        assert RecoveryCode.objects.filter(digest=second_factor._digest(enabled[1][0].replace("-", ""))).exists()

        page = self.post(client, renew="yes", password=PASSWORD).content.decode()

        assert len(re.findall(r"\b[a-z2-7]{4}(?:-[a-z2-7]{4}){3}\b", page)) == 10
        with pytest.raises(WrongCode):
            second_factor.prove(agent, enabled[1][0])

    def test_a_superuser_resets_it(self, client, agent, enabled):
        boss = factories.Account(username="boss", is_staff=True, is_superuser=True)
        client.force_login(boss)
        page = reverse("admin:apikeys_account_change", args=[agent.pk])
        url = reverse("admin:apikeys_account_reset_second_factor", args=[agent.pk])
        assert "Reset the second factor" in client.get(page).content.decode()
        assert client.get(url)["Location"] == page  # after signing in again, for example
        assert second_factor.device_of(agent)

        assert client.post(url)["Location"] == page

        assert second_factor.device_of(agent) is None
        event = AuditEvent.objects.get(kind="factor_reset")
        assert (event.account, event.by) == (agent, boss)
        assert "Reset the second factor" not in client.get(page).content.decode()

    def test_nobody_else_does(self, client, agent, enabled):
        other = factories.Account(is_staff=True)
        other.user_permissions.set(Permission.objects.all())
        client.force_login(other)

        client.post(reverse("admin:apikeys_account_reset_second_factor", args=[agent.pk]))

        assert second_factor.device_of(agent)
        with pytest.raises(OnlySuperusers):
            second_factor.reset(agent, other)


class TestSessionsOfStaff:
    @pytest.fixture
    def start(self, client, agent):
        client.force_login(agent)

    def ended(self):
        return [event.details.get("after") for event in AuditEvent.objects.filter(kind="signed_out")]

    def test_end_when_idle(self, client, start, later):
        for seconds in (3599, 3599 + 3599):
            later(seconds)
            assert client.get("/admin/").status_code == 200
        later(3599 + 3599 + 3600)

        assert client.get("/admin/")["Location"].startswith("/admin/login/")
        assert client.get("/dashboard/").status_code == 302
        assert self.ended() == ["60 minutes idle"]

    def test_end_after_hours_however_busy(self, client, start, later):
        for minutes in range(30, 12 * 60, 30):
            later(minutes * 60)
            assert client.get("/dashboard/password/").status_code == 200
        later(12 * 3600)

        assert client.get("/admin/").status_code == 302
        assert self.ended() == ["12 hours"]

    def test_a_page_within_a_minute_writes_nothing(self, client, start, later, django_assert_max_num_queries):
        later(59)
        before = client.session["seen_at"]
        client.get("/dashboard/password/")
        assert client.session["seen_at"] == before
        later(60)
        client.get("/dashboard/password/")
        assert client.session["seen_at"] == before + 60

    def test_those_of_customers_do_not(self, client, db, later):
        client.force_login(factories.Account())
        later(13 * 3600)
        assert client.get("/dashboard/").status_code == 200
