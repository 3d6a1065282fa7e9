"""What an app adds to the admin's pages of the apps below it."""

import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse

from apikeys.models import Account
from notpanel.kit import admin as kit
from orders.models import Order
from tests import factories


@pytest.fixture
def order(client, staff):
    client.force_login(staff)
    return factories.Order()


def pages(order):
    return {
        Order: reverse("admin:orders_order_change", args=[order.pk]),
        Account: reverse("admin:apikeys_account_change", args=[order.account_id]),
    }


@pytest.mark.parametrize("may_change", [True, False])
@pytest.mark.parametrize("model", [Order, Account])
def test_a_section_is_shown_on_the_pages_of_its_model_only(client, order, monkeypatch, model, may_change):
    if not may_change:
        viewer = factories.Account(is_staff=True)
        viewer.user_permissions.set(Permission.objects.filter(codename__in=["view_order", "view_account"]))
        client.force_login(viewer)
    monkeypatch.setitem(kit._sections, model, [])
    kit.add_section(model, "Weather", lambda thing: f"It rains on {thing.pk}.")

    for shown, url in pages(order).items():
        page = client.get(url).content.decode()
        assert (f"It rains on {order.pk if model is Order else order.account_id}." in page) == (shown is model)
        assert ("Weather" in page) == (shown is model)


def test_what_a_section_returns_is_escaped_unless_it_is_html(client, order, monkeypatch):
    monkeypatch.setitem(kit._sections, Order, [])
    kit.add_section(Order, "Weather", lambda thing: "<b>rain")

    assert "&lt;b&gt;rain" in client.get(pages(order)[Order]).content.decode()


@pytest.mark.parametrize("model", [Order, Account])
def test_pages_without_sections_are_shown(client, order, monkeypatch, model):
    monkeypatch.setitem(kit._sections, model, [])
    monkeypatch.setitem(kit._panels, model, [])

    page = client.get(pages(order)[model])

    assert page.status_code == 200
    assert "Refills</" not in page.content.decode().partition('id="content"')[2]


def test_an_account_is_added_without_sections(client, order):
    assert "latest_refills" not in client.get(reverse("admin:apikeys_account_add")).content.decode()
