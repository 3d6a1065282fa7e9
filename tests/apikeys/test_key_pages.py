"""/dashboard/api: a customer's keys."""

import html
import re
from datetime import UTC, date, datetime, timedelta

import pytest
from django.test import Client
from django.utils import timezone

from apikeys.forms import ApiKeyForm
from apikeys.keys import LARGEST_NUMBER_OF_KEYS, ApiKeyDetails, create_api_key, end_of, revoke_api_key
from apikeys.models import ApiKey
from tests import factories
from tests.conftest import post

PASSWORD = "correct-horse-7"


@pytest.fixture
def account(db):
    account = factories.Account()
    account.set_password(PASSWORD)
    account.save()
    return account


@pytest.fixture
def client(account):
    client = Client()
    client.force_login(account)
    return client


def shown_key(response):
    """Return the key on the page that shows it once."""
    return html.unescape(re.search(r'id="raw-key">(.*?)<', response.content.decode())[1])


def hidden(page, name):
    """Return the value of a hidden field of the page's form."""
    return re.search(f'<input type="hidden" name="{name}" value="(.*?)">', page.content.decode())[1]


def generate(client, **fields):
    latest = client.get("/dashboard/api/").context["latest"]
    return client.post("/dashboard/api/", {"name": "shop", "password": PASSWORD, "latest": latest, **fields})


def rotate(client, api_key, **fields):
    path = f"/dashboard/api/{api_key.pk}/"
    return client.post(path, {"password": PASSWORD, "prefix": hidden(client.get(path), "prefix"), **fields})


def test_a_key_may_be_read_only_and_answered_as_most_panels_answer(client, account):
    raw_key = shown_key(generate(client, answers="perfectpanel", read_only="on"))
    api_key = ApiKey.objects.get()

    assert post(key=raw_key, action="refill", order="1").json() == {"error": "API key is read-only"}
    assert post(key=raw_key, action="status", order="1").json() == {"error": "Incorrect order ID"}
    page = text(client.get(f"/dashboard/api/{api_key.pk}/"))
    assert "It is read-only. Its requests are answered as most panels answer." in page
    form = client.get(f"/dashboard/api/{api_key.pk}/change/").context["form"]
    assert (form["answers"].value(), form["read_only"].value()) == ("perfectpanel", True)

    client.post(f"/dashboard/api/{api_key.pk}/change/", {"name": "shop", "password": PASSWORD, "answers": "notpanel"})

    assert post(key=raw_key, action="refill", order="1").json() == {"error": "Order not found"}


def text(page):
    return " ".join(re.sub("<[^>]*>", " ", page.content.decode()).split())


def is_accepted(raw_key, **headers):
    return Client().post("/api/v2", {"key": raw_key, "action": "services"}, **headers).status_code == 200


@pytest.mark.parametrize("path", ["", "1/", "1/change/", "1/revoke/"])
def test_the_pages_need_a_sign_in(db, path):
    assert Client().get(f"/dashboard/api/{path}")["Location"].startswith("/dashboard/sign-in/")


def test_the_address_without_a_slash_redirects(client):
    assert client.get("/dashboard/api")["Location"] == "/dashboard/api/"


class TestGenerate:
    def test_a_key_is_shown_once_and_works(self, client, account):
        response = generate(client)

        raw_key = shown_key(response)
        api_key = ApiKey.objects.get()
        assert (api_key.account, api_key.name, api_key.prefix) == (account, "shop", raw_key[:11])
        assert is_accepted(raw_key)
        assert raw_key not in client.get("/dashboard/api/").content.decode()
        assert raw_key not in client.get(f"/dashboard/api/{api_key.pk}/").content.decode()

    def test_the_page_that_shows_a_key_is_not_cached(self, client):
        assert "no-store" in generate(client)["Cache-Control"]

    def test_the_page_shows_a_curl_line_with_the_key(self, client):
        response = generate(client)

        line = html.unescape(re.search(r'id="curl">(.*?)</code>', response.content.decode(), re.DOTALL)[1])
        assert line.startswith("curl -X POST http://testserver/api/v2")
        assert f"key={shown_key(response)}&action=services" in line

    @pytest.mark.parametrize("password", ["", "wrong"])
    def test_the_password_is_required(self, client, password):
        response = generate(client, password=password)

        assert response.status_code == 200
        assert not ApiKey.objects.exists()

    def test_guesses_of_the_password_are_limited(self, client, settings):
        settings.ATTEMPTS_PER_NAME = 2
        generate(client, password="wrong")
        generate(client, password="wrong")

        response = generate(client)

        assert response.status_code == 429
        assert 0 < int(response["Retry-After"]) <= 900
        assert not ApiKey.objects.exists()
        assert 'value="shop"' in response.content.decode()  # the form keeps what was entered

    def test_right_passwords_are_not_limited(self, client, settings):
        settings.ATTEMPTS_PER_NAME = 2

        assert [shown_key(generate(client)) for _ in range(LARGEST_NUMBER_OF_KEYS)]

    def test_spaces_around_a_password_are_part_of_it(self, client, account):
        account.set_password(" spaced ")
        account.save()
        client.force_login(account)

        assert "raw-key" not in generate(client, password="spaced").content.decode()
        assert shown_key(generate(client, password=" spaced "))

    def test_the_password_is_never_sent_back(self, client):
        assert "secret-guess" not in generate(client, password="secret-guess").content.decode()

    def test_a_name_is_required(self, client):
        assert "This field is required" in generate(client, name=" ").content.decode()

    def test_a_form_that_is_sent_twice_creates_one_key(self, client):
        sent = {"latest": hidden(client.get("/dashboard/api/"), "latest")}
        assert is_accepted(shown_key(generate(client, **sent)))

        again = generate(client, **sent)

        assert "Your keys have changed in the meantime." in again.content.decode()
        assert ApiKey.objects.count() == 1
        assert is_accepted(shown_key(generate(client, latest=hidden(again, "latest"))))

    def test_an_account_has_ten_active_keys_at_most(self, client, account):
        for _ in range(LARGEST_NUMBER_OF_KEYS):
            create_api_key(account)
        past = timezone.now() - timedelta(days=1)

        assert "10 active API keys at most" in generate(client).content.decode()
        assert ApiKey.objects.count() == LARGEST_NUMBER_OF_KEYS

        ApiKey.objects.filter(pk=ApiKey.objects.first().pk).update(expires_at=past)
        assert is_accepted(shown_key(generate(client)))


class TestAllowedAddresses:
    def test_a_key_works_from_its_addresses_only(self, client):
        raw_key = shown_key(generate(client, allowed_networks="203.0.113.0/24\n2001:db8::/32, 198.51.100.7"))

        assert is_accepted(raw_key, REMOTE_ADDR="203.0.113.200")
        assert is_accepted(raw_key, REMOTE_ADDR="2001:db8:1::5")
        assert is_accepted(raw_key, REMOTE_ADDR="198.51.100.7")
        assert is_accepted(raw_key, REMOTE_ADDR="::ffff:203.0.113.1")
        for elsewhere in ("203.0.114.1", "198.51.100.8", "2001:db9::1", "127.0.0.1"):
            response = Client().post("/api/v2", {"key": raw_key, "action": "services"}, REMOTE_ADDR=elsewhere)
            assert (response.status_code, response.json()) == (401, {"error": "Invalid API key"})

    def test_a_client_cannot_pick_its_own_address(self, client):
        raw_key = shown_key(generate(client, allowed_networks="203.0.113.7"))

        assert not is_accepted(raw_key, REMOTE_ADDR="198.51.100.1", HTTP_X_FORWARDED_FOR="203.0.113.7")

    def test_a_network_is_stored_once_and_without_host_bits(self, client):
        generate(client, allowed_networks="203.0.113.9/24 203.0.113.0/24")

        assert ApiKey.objects.get().allowed_networks == ["203.0.113.0/24"]
        assert "203.0.113.0/24" in client.get("/dashboard/api/").content.decode()

    @pytest.mark.parametrize(
        ("written", "network"),
        [
            ("::ffff:127.0.0.1", "127.0.0.1/32"),
            ("::ffff:127.0.0.0/104", "127.0.0.0/8"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
        ],
    )
    def test_an_ipv4_mapped_address_is_ipv4(self, client, written, network):
        raw_key = shown_key(generate(client, allowed_networks=written))

        assert ApiKey.objects.get().allowed_networks == [network]
        assert is_accepted(raw_key)

    @pytest.mark.parametrize("written", ["::/0", "::ffff:127.0.0.1/95"])
    def test_a_network_larger_than_the_ipv4_mapped_range_stays_ipv6(self, client, written):
        assert not is_accepted(shown_key(generate(client, allowed_networks=written)))

    @pytest.mark.parametrize(
        "networks",
        [
            "somewhere",
            "203.0.113.0/33",
            "1.2.3.4 x",
            "fe80::1%eth0",
            "fe80::%1/64",
            "fe80::1%<script>",
            " ".join(f"10.0.0.{n}" for n in range(21)),
        ],
    )
    def test_others_are_refused(self, client, networks):
        assert "raw-key" not in generate(client, allowed_networks=networks).content.decode()
        assert not ApiKey.objects.exists()


class TestLastDay:
    def test_a_key_works_until_the_end_of_its_last_day(self, client, time_machine):
        time_machine.move_to(datetime(2026, 5, 1, 12, tzinfo=UTC), tick=False)
        raw_key = shown_key(generate(client, expires_on="2026-05-03"))

        time_machine.move_to(datetime(2026, 5, 3, 23, 59, 59, tzinfo=UTC), tick=False)
        assert is_accepted(raw_key)
        time_machine.move_to(datetime(2026, 5, 4, tzinfo=UTC), tick=False)
        assert post(key=raw_key, action="services").json() == {"error": "Invalid API key"}

    def test_the_last_day_may_be_today_but_not_earlier(self, client, time_machine):
        time_machine.move_to(datetime(2026, 5, 1, 12, tzinfo=UTC), tick=False)

        assert "Choose today or a later day." in generate(client, expires_on="2026-04-30").content.decode()
        assert is_accepted(shown_key(generate(client, expires_on="2026-05-01")))
        assert is_accepted(shown_key(generate(client, expires_on="9999-12-31")))

    @pytest.mark.parametrize("day", ["soon", "9999-99-99"])
    def test_others_are_refused(self, client, day):
        generate(client, expires_on=day)

        assert not ApiKey.objects.exists()

    def test_an_expired_key_is_listed_with_the_revoked_ones(self, client, account):
        create_api_key(account, ApiKeyDetails("old", expires_at=timezone.now() - timedelta(days=1)))

        response = client.get("/dashboard/api/")

        assert response.context["active"] == []
        assert [key.name for key in response.context["ended"]] == ["old"]


class TestRotate:
    @pytest.fixture
    def key(self, account):
        return create_api_key(account, ApiKeyDetails("shop", ("127.0.0.1/32",)), limit_per_minute=7)

    def test_the_new_value_works_at_once_and_the_old_one_stops(self, client, key):
        api_key, old = key
        assert is_accepted(old)

        new = shown_key(rotate(client, api_key))

        assert new != old
        assert is_accepted(new)
        assert post(key=old, action="services").json() == {"error": "Invalid API key"}

    @pytest.mark.parametrize("hours", [1, 6, 24])
    def test_the_old_value_keeps_working_for_the_hours_chosen(self, client, key, hours, time_machine):
        api_key, old = key
        time_machine.move_to(datetime(2026, 5, 1, 12, tzinfo=UTC), tick=False)

        new = shown_key(rotate(client, api_key, grace=hours))

        assert is_accepted(old)
        assert is_accepted(new)
        assert "Its old value works until" in client.get(f"/dashboard/api/{api_key.pk}/").content.decode()
        time_machine.move_to(datetime(2026, 5, 1, 12, tzinfo=UTC) + timedelta(hours=hours), tick=False)
        assert not is_accepted(old)
        assert is_accepted(new)

    @pytest.mark.parametrize("grace", ["25", "-1", "2", "x"])
    def test_other_hours_cannot_be_chosen(self, client, key, grace):
        api_key, _ = key

        rotate(client, api_key, grace=grace)

        assert ApiKey.objects.get().digest == api_key.digest

    def test_a_rotated_key_keeps_its_details(self, client, key):
        api_key, _ = key

        rotate(client, api_key)

        rotated = ApiKey.objects.get()
        assert (rotated.pk, rotated.name, rotated.limit_per_minute) == (api_key.pk, "shop", 7)
        assert rotated.allowed_networks == ["127.0.0.1/32"]
        assert rotated.prefix != api_key.prefix
        assert timezone.now() - rotated.rotated_at < timedelta(minutes=1)

    @pytest.mark.parametrize("password", ["", "wrong"])
    def test_the_password_is_required(self, client, key, password):
        api_key, old = key

        rotate(client, api_key, password=password)

        assert is_accepted(old)

    def test_a_form_that_is_sent_twice_rotates_the_key_once(self, client, key):
        api_key, _ = key
        new = shown_key(rotate(client, api_key, prefix=api_key.prefix))

        again = rotate(client, api_key, prefix=api_key.prefix)

        assert "This key was rotated in the meantime." in again.content.decode()
        assert is_accepted(new)
        assert is_accepted(shown_key(rotate(client, api_key, prefix=hidden(again, "prefix"))))

    def test_a_revoked_key_is_not_rotated(self, client, key):
        api_key, _ = key
        revoke_api_key(api_key)

        assert client.post(f"/dashboard/api/{api_key.pk}/", {"password": PASSWORD}).status_code == 404

    def test_another_accounts_key_is_not_found(self, client, customer):
        path = f"/dashboard/api/{customer.api_key.pk}/"

        assert client.get(path).status_code == 404
        assert client.post(path, {"password": PASSWORD}).status_code == 404
        assert is_accepted(customer.raw_key)


class TestChange:
    @pytest.fixture
    def key(self, account):
        return create_api_key(account, ApiKeyDetails("shop", ("10.0.0.0/8",), end_of(date(2036, 5, 1))))

    def change(self, client, key, **fields):
        return client.post(f"/dashboard/api/{key[0].pk}/change/", {"name": "till", "password": PASSWORD, **fields})

    def test_the_form_shows_the_current_details(self, client, key):
        page = client.get(f"/dashboard/api/{key[0].pk}/change/").content.decode()

        assert 'value="shop"' in page
        assert "10.0.0.0/8</textarea>" in page
        assert 'value="2036-05-01"' in page

    def test_changed_addresses_apply_to_the_next_request(self, client, key):
        assert not is_accepted(key[1])

        assert self.change(client, key, allowed_networks="127.0.0.1")["Location"] == "/dashboard/api/"

        assert is_accepted(key[1])
        assert not is_accepted(key[1], REMOTE_ADDR="10.0.0.1")
        changed = ApiKey.objects.get()
        assert (changed.name, changed.expires_at) == ("till", None)

    @pytest.mark.parametrize("fields", [{"password": "wrong"}, {"allowed_networks": "there"}, {"name": ""}])
    def test_a_form_with_a_mistake_changes_nothing(self, client, key, fields):
        assert self.change(client, key, **fields).status_code == 200
        assert ApiKey.objects.get().allowed_networks == ["10.0.0.0/8"]

    def test_another_accounts_key_is_not_found(self, client, customer):
        assert self.change(client, (customer.api_key, "")).status_code == 404


class TestRevoke:
    def test_a_revoked_key_is_refused(self, client, account):
        api_key, raw_key = create_api_key(account)

        client.post(f"/dashboard/api/{api_key.pk}/revoke/")

        assert not is_accepted(raw_key)
        assert client.get("/dashboard/api/").context["active"] == []

    def test_a_get_revokes_nothing_and_redirects_to_the_list(self, client, account):
        api_key, raw_key = create_api_key(account)

        assert client.get(f"/dashboard/api/{api_key.pk}/revoke/")["Location"] == "/dashboard/api/"
        assert is_accepted(raw_key)

    def test_another_accounts_key_is_not_found(self, client, customer):
        assert client.post(f"/dashboard/api/{customer.api_key.pk}/revoke/").status_code == 404
        assert is_accepted(customer.raw_key)


def test_the_list_shows_the_details_of_each_key(client, account):
    create_api_key(account, ApiKeyDetails("shop"), limit_per_minute=7)
    create_api_key(account, ApiKeyDetails("test"))

    page = " ".join(re.sub(r"<[^>]*>", " ", client.get("/dashboard/api/").content.decode()).split())

    assert re.search(r"shop np_\S{8}… \d{4}-\S+ \S+ UTC never 7 anywhere never", page)
    assert re.search(r"test np_\S{8}… \d{4}-\S+ \S+ UTC never 100 anywhere never", page)


def test_no_page_shows_a_digest(client, account):
    api_key, _ = create_api_key(account)

    for path in ("/dashboard/api/", f"/dashboard/api/{api_key.pk}/", "/dashboard/"):
        assert api_key.digest not in client.get(path).content.decode()


PAGES = ("/dashboard/api/", "/dashboard/api/{}/", "/dashboard/api/{}/change/")


@pytest.mark.parametrize("page", PAGES)
class TestEachPage:
    def test_the_page_is_never_cached(self, client, account, page):
        path = page.format(create_api_key(account)[0].pk)

        for response in (client.get(path), client.post(path, {"password": "wrong"})):
            assert "no-store" in response["Cache-Control"]

    def test_an_error_report_shows_no_password(self, client, account, page):
        path = page.format(create_api_key(account)[0].pk)

        assert client.post(path, {"password": "wrong"}).wsgi_request.sensitive_post_parameters == ("password",)

    def test_the_limit_ends_when_retry_after_says_and_no_sooner(self, client, account, page, settings, time_machine):
        settings.ATTEMPTS_PER_NAME = 1
        noon = datetime(2026, 5, 1, 12, tzinfo=UTC)
        path = page.format(create_api_key(account)[0].pk)

        def answer(seconds):
            time_machine.move_to(noon + timedelta(seconds=seconds), tick=False)
            client.force_login(account)
            return client.post(path, {"password": "wrong"})

        assert answer(0).status_code == 200
        wait = int(answer(0)["Retry-After"])
        assert 0 < wait <= 900
        last = answer(wait - 1)
        assert (last.status_code, last["Retry-After"]) == (429, "1")
        assert answer(wait).status_code == 200

    def test_the_page_limits_guesses_of_the_password(self, client, account, page, settings):
        settings.ATTEMPTS_PER_NAME = 1
        path = page.format(create_api_key(account)[0].pk)

        answers = [client.post(path, {"name": "shop", "password": "wrong"}) for _ in range(2)]

        assert [answer.status_code for answer in answers] == [200, 429]
        assert "Retry-After" not in answers[0]
        assert int(answers[1]["Retry-After"]) > 0


@pytest.mark.parametrize("page", [*PAGES, "/dashboard/api/{}/revoke/", "/dashboard/password/", "/dashboard/sign-in/"])
def test_another_site_cannot_post_to_the_page(account, page):
    api_key, raw_key = create_api_key(account)
    client = Client(enforce_csrf_checks=True)
    client.force_login(account)

    response = client.post(page.format(api_key.pk), {"name": "x", "password": PASSWORD, "prefix": api_key.prefix})

    assert response.status_code == 403
    assert ApiKey.objects.count() == 1
    assert is_accepted(raw_key)


def test_no_page_shows_another_accounts_keys(client, customers):
    others = customers()
    ended, _ = create_api_key(others.account)
    revoke_api_key(ended)

    response = client.get("/dashboard/api/")

    assert (response.context["active"], response.context["ended"]) == ([], [])
    for path in ("/dashboard/api/", "/dashboard/"):
        page = client.get(path).content.decode()
        assert others.api_key.prefix not in page
        assert ended.prefix not in page


def test_the_overview_shows_the_customers_own_keys(client, account):
    api_key, _ = create_api_key(account)

    assert api_key.prefix in client.get("/dashboard/").content.decode()


def test_keys_are_listed_latest_first(client, account, monkeypatch):
    monkeypatch.setattr("apikeys.views.SHOWN", 2)
    for number in range(6):
        api_key, _ = create_api_key(account, ApiKeyDetails(str(number)))
        if number % 2:
            revoke_api_key(api_key)

    context = client.get("/dashboard/api/").context

    assert [key.name for key in context["active"]] == ["4", "2", "0"]
    assert [key.name for key in context["ended"]] == ["5", "3"]  # only the latest


@pytest.mark.parametrize("ended", [{"revoked_at": timezone.now()}, {"expires_at": timezone.now()}])
def test_the_pages_of_a_revoked_or_expired_key_are_not_found(client, account, ended):
    api_key, _ = create_api_key(account)
    ApiKey.objects.update(**ended)

    for page in PAGES[1:]:
        assert client.get(page.format(api_key.pk)).status_code == 404
        assert client.post(page.format(api_key.pk), {"name": "x", "password": PASSWORD}).status_code == 404


def test_a_key_that_is_revoked_meanwhile_is_not_changed(client, account, monkeypatch):
    api_key, _ = create_api_key(account, ApiKeyDetails("shop"))
    check = ApiKeyForm.clean_password

    def revoke_first(form):
        revoke_api_key(api_key)
        return check(form)

    monkeypatch.setattr(ApiKeyForm, "clean_password", revoke_first)
    response = client.post(f"/dashboard/api/{api_key.pk}/change/", {"name": "till", "password": PASSWORD})

    assert response.status_code == 200
    assert "This key is revoked or has expired." in response.content.decode()
    assert ApiKey.objects.get().name == "shop"


@pytest.mark.parametrize("name", ["a\nb", "a\tb", "a\x1bb", "a\x7fb", "a\u202eb", "a\x00b"])
def test_a_name_has_printable_characters_only(client, name):
    generate(client, name=name)

    assert not ApiKey.objects.exists()


@pytest.mark.parametrize(("length", "keys"), [(100, 1), (101, 0)])
def test_a_name_is_100_characters_at_most(client, length, keys):
    generate(client, name="x" * length)

    assert ApiKey.objects.count() == keys


def test_a_key_has_twenty_networks_at_most(client):
    generate(client, allowed_networks=" ".join(f"10.0.0.{n}" for n in range(20)))

    assert len(ApiKey.objects.get().allowed_networks) == 20


def test_the_error_names_at_most_three_malformed_networks(client):
    page = generate(client, allowed_networks="a1 10.0.0.1 b2 c3 d4").content.decode()

    assert "These are neither: a1, b2, c3<" in page


def test_revoking_a_key_twice_says_that_it_is_already_revoked(client, account):
    api_key, _ = create_api_key(account)
    path = f"/dashboard/api/{api_key.pk}/revoke/"

    assert "is revoked" in client.post(path, follow=True).content.decode()
    before = ApiKey.objects.get().revoked_at
    assert "is already revoked" in client.post(path, follow=True).content.decode()
    assert ApiKey.objects.get().revoked_at == before


def test_a_rotated_key_is_shown_with_a_curl_line(client, account):
    api_key, _ = create_api_key(account)
    response = rotate(client, api_key)

    assert f"key={shown_key(response)}&amp;action=services" in response.content.decode()
