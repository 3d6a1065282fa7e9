"""The front door, the pages of what went wrong, and what every page is sent with."""

import ipaddress

import pytest
import redis
from django.db import OperationalError
from django.template.loader import render_to_string
from django.test import Client

from tests import factories


@pytest.fixture
def visitor():
    return Client(raise_request_exception=False)


def start(client, account=None):
    if account:
        client.force_login(account)
    return client.get("/")["Location"]


def test_whoever_is_new_gets_to_the_pages_of_the_api(db, client):
    assert start(client) == "/developers/"


def test_a_customer_gets_to_the_dashboard(client, customer):
    assert start(client, customer.account) == "/dashboard/"


def test_staff_get_to_the_desk(client, staff):
    assert start(client, staff) == "/admin/"


@pytest.mark.parametrize("path", ["/developers/", "/developers/refill/", "/dashboard/sign-in/", "/nothing/"])
def test_a_page_runs_its_own_scripts_and_styles_only(db, client, path):
    policy = client.get(path)["Content-Security-Policy"]

    directives = dict(directive.strip().split(" ", 1) for directive in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == directives["style-src"] == directives["connect-src"] == "'self'"
    assert directives["frame-ancestors"] == directives["base-uri"] == "'none'"
    assert "unsafe" not in policy


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


def test_what_is_not_there_is_a_404_with_a_way_on(db, client):
    response = client.get("/nothing/")

    assert response.status_code == 404
    assert 'href="/"' in response.content.decode()


def test_what_is_too_large_is_a_400_with_a_way_on(client, customer):
    client.force_login(customer.account)

    response = client.post("/dashboard/orders/list/", {"orders": "1" * 3_000_000})

    assert response.status_code == 400
    assert "The request was too large" in response.content.decode()
    assert "Sign out" in response.content.decode()  # as on every page


def test_a_host_that_is_not_ours_is_a_400(db):
    response = Client().get("/developers/", headers={"Host": "evil.example"})

    assert response.status_code == 400
    assert "evil.example" not in response.content.decode()


@pytest.mark.parametrize(
    ("error", "status"), [(OperationalError("no server"), 503), (redis.ConnectionError(), 503), (ValueError(), 500)]
)
def test_a_page_says_if_it_is_for_a_moment_only(visitor, customer, monkeypatch, error, status):
    def fail(*args, **kwargs):
        raise error

    visitor.force_login(customer.account)
    monkeypatch.setattr("refills.dashboard.overview", fail)

    response = visitor.get("/dashboard/")

    assert response.status_code == status
    assert response.headers.get("Retry-After") == ("1" if status == 503 else None)
    assert "Traceback" not in response.content.decode()


@pytest.mark.parametrize("name", ["403_csrf", "500", "503"])
def test_a_page_of_what_went_wrong_needs_no_database_and_no_list_of_the_static_files(settings, name):
    settings.STORAGES = {
        "staticfiles": {
            "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage",
            "OPTIONS": {"location": "/nowhere", "manifest_strict": True},
        }
    }

    page = render_to_string(f"{name}.html")

    assert 'href="/static/notpanel/site.css"' in page
    assert 'href="/"' in page


def test_a_form_from_elsewhere_is_refused(db):
    response = Client(enforce_csrf_checks=True).post("/dashboard/sign-in/", {"username": "x", "password": "y"})

    assert response.status_code == 403
    assert "Send the form again" in response.content.decode()


def test_an_account_that_is_suspended_is_signed_out_at_once(client, customer):
    client.force_login(customer.account)
    factories.Account._meta.model.objects.update(is_active=False)

    assert client.get("/dashboard/")["Location"].startswith("/dashboard/sign-in/")


@pytest.mark.parametrize(("peer", "status"), [("10.0.0.1", 200), ("203.0.113.7", 301)])
def test_only_a_trusted_proxy_is_believed_that_a_page_came_by_tls(db, settings, peer, status):
    settings.TRUSTED_PROXIES = [ipaddress.ip_network("10.0.0.0/8")]
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    settings.SECURE_SSL_REDIRECT = True

    response = Client(REMOTE_ADDR=peer).get("/developers/", headers={"X-Forwarded-Proto": "https"})

    assert response.status_code == status
