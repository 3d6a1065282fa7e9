"""Suppliers: their pages, their keys, and the columns of the imports."""

import io

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.urls import reverse

from notpanel.kit.refusals import BadFile
from orders.imports import import_orders, import_services
from orders.models import Order, Service, Supplier, check_api_address
from orders.suppliers import key_of
from tests import factories

FIELDS = {"name": "Acme", "url": "https://acme.example/api/v2", "mode": "manual", "per_minute": 60, "poll_seconds": 300}


@pytest.fixture
def admin(client, staff):
    client.force_login(staff)
    return client


def test_a_new_supplier_gets_an_account_that_nobody_signs_in_to(admin):
    admin.post(reverse("admin:orders_supplier_add"), FIELDS | {"key": "their-key"})

    supplier = Supplier.objects.get()
    assert key_of(supplier) == "their-key"
    assert (supplier.account.username, supplier.account.is_active) == ("supplier-acme", False)
    assert not supplier.account.has_usable_password()


def test_a_new_supplier_needs_a_key(admin):
    admin.post(reverse("admin:orders_supplier_add"), FIELDS)

    assert not Supplier.objects.exists()


def test_an_empty_key_keeps_the_stored_one_which_no_page_shows(admin):
    supplier = factories.Supplier()
    page = reverse("admin:orders_supplier_change", args=[supplier.pk])

    admin.post(page, FIELDS)

    supplier.refresh_from_db()
    assert (supplier.name, key_of(supplier)) == ("Acme", "their-key")
    text = admin.get(page).content.decode()
    assert "their-key" not in text
    assert supplier.encrypted_key not in text
    assert "Unclear at some point" in text


@pytest.mark.parametrize("url", ["https://acme.example/api/v2", "http://127.0.0.1:8001/", "http://localhost/api"])
def test_a_key_may_be_sent_to_an_address_with_tls_or_of_this_machine(url):
    check_api_address(url)


@pytest.mark.parametrize(
    "url",
    ["http://acme.example/", "ftp://acme.example/", "https://", "https://u:p@acme.example/", "https://a.b/#c", "x"],
)
def test_a_key_is_sent_to_no_other_address(url):
    with pytest.raises(ValidationError, match="https://"):
        check_api_address(url)


def test_keys_are_reencrypted(db, settings, capsys):
    supplier, lost = factories.Supplier(), factories.Supplier(name="Lost", encrypted_key="nonsense")
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode()]

    with pytest.raises(CommandError, match="Lost"):
        call_command("encryptkeysanew")

    settings.SECRET_KEY = "another one"
    supplier.refresh_from_db()
    lost.refresh_from_db()
    assert key_of(supplier) == "their-key"
    assert lost.encrypted_key == "nonsense"
    assert "Re-encrypted: 1." in capsys.readouterr().out


def test_services_are_imported_with_their_suppliers(db):
    supplier = factories.Supplier(name="Acme")
    header = "id,name,category,rate,min,max,refill,cancel,supplier\n"

    import_services(io.BytesIO(f"{header}1,Likes,Photos,1,1,9,yes,no,Acme\n2,Saves,Photos,1,1,9,yes,no,\n".encode()))

    assert list(Service.objects.order_by("id").values_list("supplier", flat=True)) == [supplier.pk, None]
    again = import_services(io.BytesIO(b"id,name,category,rate,min,max,refill,cancel\n1,Likes,Photos,1,1,9,yes,no\n"))
    assert (again.unchanged, Service.objects.get(pk=1).supplier) == (1, supplier)
    with pytest.raises(BadFile, match="line 2: supplier: “Nobody” is unknown"):
        import_services(io.BytesIO(f"{header}1,Likes,Photos,1,1,9,yes,no,Nobody\n".encode()))


def test_orders_are_imported_with_their_ids_at_the_supplier(db):
    factories.Service(id=1)
    factories.Account(username="shop")
    header = "number,account,service,link,quantity,charge,status,created"
    row = "17,shop,1,https://example.com,10,1,pending,2026-05-01"

    import_orders(io.BytesIO(f"{header},supplier_order\n{row},815\n".encode()))
    unchanged = import_orders(io.BytesIO(f"{header}\n{row}\n".encode())).unchanged

    assert (unchanged, Order.objects.get().supplier_order) == (1, "815")
