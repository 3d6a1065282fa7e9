"""The front door, the error pages, and the headers and checks that every page has."""

import ipaddress

import pytest
import redis
from django.contrib.auth.hashers import make_password
from django.contrib.staticfiles import finders
from django.db import InterfaceError, OperationalError
from django.template.loader import render_to_string
from django.test import Client

from refills.models import Refill
from tests import factories


@pytest.fixture
def visitor():
    return Client(raise_request_exception=False)


def start(client, account=None):
    if account:
        client.force_login(account)
    return client.get("/")["Location"]


def test_a_visitor_is_sent_to_the_pages_of_the_api(db, client):
    assert start(client) == "/developers/"


def test_a_customer_is_sent_to_the_dashboard(client, customer):
    assert start(client, customer.account) == "/dashboard/"


def test_staff_are_sent_to_the_desk(client, staff):
    assert start(client, staff) == "/admin/"


def test_search_engines_are_asked_to_read_the_pages_of_the_api_alone(db, client):
    response = client.get("/robots.txt")

    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert response.content.decode() == "User-agent: *\nAllow: /developers/\nDisallow: /\n"


def test_the_icon_is_found_where_browsers_look_without_a_page(client):
    address = client.get("/favicon.ico")["Location"]

    assert finders.find(address.removeprefix("/static/")) is not None


@pytest.mark.parametrize("path", ["/developers/", "/developers/refill/", "/dashboard/sign-in/", "/nothing/"])
def test_a_page_runs_its_own_scripts_and_styles_only(db, client, path):
    policy = client.get(path)["Content-Security-Policy"]

    directives = dict(directive.strip().split(" ", 1) for directive in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == directives["style-src"] == directives["connect-src"] == "'self'"
    assert directives["frame-ancestors"] == directives["base-uri"] == "'none'"
    assert directives["form-action"] == "'self'"
    assert directives["img-src"] == "'self' data:"
    assert "unsafe" not in policy


@pytest.mark.parametrize("path", ["/admin/", "/admin/login/", "/admin/refills/refill/", "/admin/no/", "/admin/?%00"])
def test_a_page_of_the_admin_loads_nothing_from_elsewhere(client, staff, path):
    client.force_login(staff)

    policy = client.get(path)["Content-Security-Policy"]

    directives = dict(directive.split(" ", 1) for directive in policy.split("; "))
    assert directives["object-src"] == directives["base-uri"] == directives["frame-ancestors"] == "'none'"
    assert directives["default-src"] == directives["form-action"] == directives["connect-src"] == "'self'"
    assert "http" not in policy


@pytest.mark.parametrize("path", ["/", "/developers/", "/dashboard/", "/dashboard/orders/", "/admin/", "/nothing/"])
def test_no_page_may_be_framed(client, staff, path):
    client.force_login(staff)

    assert client.get(path)["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize("path", ["/", "/dashboard/", "/dashboard/orders/", "/dashboard/refills/", "/dashboard/api/"])
def test_pages_that_show_who_is_signed_in_are_not_cached(client, customer, path):
    client.force_login(customer.account)

    assert "no-store" in client.get(path)["Cache-Control"]


def test_the_result_of_a_customers_form_is_not_cached(client, customer):
    client.force_login(customer.account)

    assert "no-store" in client.post("/dashboard/orders/list/", {"orders": "1"})["Cache-Control"]


def test_scripts_cannot_read_the_session(client, customer):
    factories.Account(username="x", password=make_password("a long password"))
    client.post("/dashboard/sign-in/", {"username": "x", "password": "a long password"})

    cookie = client.cookies["sessionid"]
    assert (cookie["httponly"], cookie["samesite"]) == (True, "Lax")


@pytest.mark.parametrize(
    "path", ["/developers/refill/", "/dashboard/sign-in/", "/dashboard/api/", "/dashboard/orders/"]
)
def test_a_page_has_no_inline_script_or_style(client, customer, path):
    client.force_login(customer.account)

    page = client.get(path, follow=True).content.decode()

    assert "<script>" not in page
    assert " style=" not in page
    assert "<style" not in page
    assert " onclick=" not in page


def test_an_unknown_page_is_a_404_with_a_link_to_the_start_page(db, client):
    response = client.get("/nothing/")

    assert response.status_code == 404
    assert 'href="/"' in response.content.decode()


def test_a_form_that_is_too_large_is_a_400_with_the_sites_navigation(client, customer):
    client.force_login(customer.account)

    response = client.post("/dashboard/orders/list/", {"orders": "1" * 3_000_000})

    assert response.status_code == 400
    assert "The request was too large" in response.content.decode()
    assert "Sign out" in response.content.decode()  # Django's own handler would not say who is signed in


@pytest.mark.parametrize(
    "path", ["/", "/developers/", "/dashboard/", "/admin/", "/nothing/", "/static/notpanel/site.css"]
)
def test_a_host_that_is_not_ours_gets_a_plain_page(db, path):
    response = Client().get(path, headers={"Host": "evil.example"})

    assert response.status_code == 421
    assert "Unknown host" in response.content.decode()
    assert "evil.example" not in response.content.decode()
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["X-Frame-Options"] == "DENY"
    assert response["Referrer-Policy"] == "same-origin"
    assert "default-src 'none'" in response["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OperationalError("no server"), 503),
        (InterfaceError("closed"), 503),
        (redis.ConnectionError(), 503),
        (ValueError(), 500),
    ],
)
def test_an_error_page_says_whether_to_try_again(visitor, customer, monkeypatch, error, status):
    def fail(*args, **kwargs):
        raise error

    visitor.force_login(customer.account)
    monkeypatch.setattr("refills.dashboard.overview", fail)

    response = visitor.get("/dashboard/")

    assert response.status_code == status
    assert response.headers.get("Retry-After") == ("1" if status == 503 else None)
    assert "Traceback" not in response.content.decode()


@pytest.mark.parametrize("name", ["403_csrf", "500", "503"])
def test_an_error_page_needs_no_database_and_no_manifest_of_the_static_files(settings, name):
    settings.STORAGES = {
        "staticfiles": {
            "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage",
            "OPTIONS": {"location": "/nowhere", "manifest_strict": True},
        }
    }

    page = render_to_string(f"{name}.html")

    assert 'href="/static/notpanel/site.css"' in page
    assert 'href="/"' in page


def test_a_form_from_another_site_is_refused(db):
    response = Client(enforce_csrf_checks=True).post("/dashboard/sign-in/", {"username": "x", "password": "y"})

    assert response.status_code == 403
    assert "Send the form again" in response.content.decode()


class TestForgedForms:
    """A form with the cookies of a signed-in user but without our CSRF token changes nothing."""

    @pytest.fixture
    def browser(self):
        return Client(enforce_csrf_checks=True)

    def test_the_dashboard_refuses_a_forged_form(self, browser, customer):
        order = factories.Order(account=customer.account)
        browser.force_login(customer.account)
        form = {"order": order.pk}

        assert browser.post("/dashboard/orders/refill/", form).status_code == 403
        assert not Refill.objects.exists()

        browser.get("/dashboard/orders/")
        form["csrfmiddlewaretoken"] = browser.cookies["csrftoken"].value
        assert browser.post("/dashboard/orders/refill/", form).status_code == 302
        assert Refill.objects.get().order == order

    def test_the_desk_refuses_a_forged_form(self, browser, staff):
        refill = factories.Refill()
        browser.force_login(staff)
        path, form = f"/admin/refills/refill/{refill.pk}/settle/", {"to": "completed"}

        assert browser.post(path, form).status_code == 403
        assert Refill.objects.get().status == "pending"

        browser.get(f"/admin/refills/refill/{refill.pk}/change/")
        form["csrfmiddlewaretoken"] = browser.cookies["csrftoken"].value
        assert browser.post(path, form).status_code == 302
        assert Refill.objects.get().status == "completed"


def test_an_account_that_is_suspended_is_signed_out_at_once(client, customer):
    client.force_login(customer.account)
    factories.Account._meta.model.objects.update(is_active=False)

    assert client.get("/dashboard/")["Location"].startswith("/dashboard/sign-in/")


@pytest.mark.parametrize(("peer", "status"), [("10.0.0.1", 200), ("203.0.113.7", 301)])
def test_x_forwarded_proto_is_trusted_from_trusted_proxies_only(db, settings, peer, status):
    settings.TRUSTED_PROXIES = [ipaddress.ip_network("10.0.0.0/8")]
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    settings.SECURE_SSL_REDIRECT = True

    response = Client(REMOTE_ADDR=peer).get("/developers/", headers={"X-Forwarded-Proto": "https"})

    assert response.status_code == status
