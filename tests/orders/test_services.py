"""action=services (docs/contract.md)."""

import gzip
from decimal import Decimal

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.test import Client
from django.test.utils import CaptureQueriesContext

from orders import api
from orders.models import LONGEST_REFILL_PERIOD, Catalogue, Service
from tests import factories
from tests.conftest import new_customer, post
from tests.races import Waiting


def test_the_active_services_are_listed(customer):
    factories.Service(
        id=7, name="Likes, été", category="Likes", rate=Decimal("0.9"), refill=True, refill_days=30, refill_limit=5
    )
    factories.Service(id=3, name="Views", category="Views", rate=Decimal("0.00123"), min=1, max=5, refill=False)
    factories.Service(id=5, active=False)

    response = customer.post("services")

    assert response.status_code == 200
    assert response.json() == [
        {
            "service": 3,
            "name": "Views",
            "type": "Default",
            "category": "Views",
            "rate": "0.00123",
            "min": "1",
            "max": "5",
            "refill": False,
            "cancel": False,
            "dripfeed": False,
            "refill_days": None,
            "refill_limit": 3,
        },
        {
            "service": 7,
            "name": "Likes, été",
            "type": "Default",
            "category": "Likes",
            "rate": "0.90",
            "min": "50",
            "max": "10000",
            "refill": True,
            "cancel": False,
            "dripfeed": False,
            "refill_days": 30,
            "refill_limit": 5,
        },
    ]


def test_without_services_the_list_is_empty(customer):
    assert customer.post("services").json() == []


def test_the_statements_do_not_grow_with_the_catalogue(customer, django_assert_num_queries):
    factories.Service.create_batch(50)

    with django_assert_num_queries(4):  # the key, the time of its last use, the version of the catalogue, the services
        assert len(customer.post("services").json()) == 50
    with django_assert_num_queries(2):  # the key, the version
        assert len(customer.post("services").json()) == 50


def names(customer):
    return [service["name"] for service in customer.post("services").json()]


def test_a_change_is_seen_at_once_however_it_was_made(customer, client, staff, tmp_path):
    service = factories.Service(id=1, name="of the factory")
    assert names(customer) == ["of the factory"]

    Service.objects.filter(pk=1).update(name="of an update")
    assert names(customer) == ["of an update"]

    file = tmp_path / "services.csv"
    file.write_text("id,name,category,rate,min,max,refill,cancel\n1,of an import,Views,1,1,10,true,false\n")
    call_command("importservices", file, verbosity=0)
    assert names(customer) == ["of an import"]

    client.force_login(staff)
    page = client.get("/admin/orders/service/1/change/")
    form = {name: value for name, value in page.context["adminform"].form.initial.items() if value is not None}
    response = client.post("/admin/orders/service/1/change/", form | {"name": "of the admin"})
    assert response.status_code == 302
    assert names(customer) == ["of the admin"]

    with connection.cursor() as cursor:
        cursor.execute("UPDATE orders_service SET name = 'of psql'")
    assert names(customer) == ["of psql"]

    service.delete()
    assert names(customer) == []


def test_the_admin_refuses_a_refill_period_of_more_than_a_century(client, staff):
    factories.Service(id=1)
    client.force_login(staff)
    page = client.get("/admin/orders/service/1/change/")
    form = {name: value for name, value in page.context["adminform"].form.initial.items() if value is not None}

    response = client.post("/admin/orders/service/1/change/", form | {"refill_days": "36501"})

    assert response.context["adminform"].form.errors == {
        "refill_days": ["Ensure this value is less than or equal to 36500."]
    }
    assert client.post("/admin/orders/service/1/change/", form | {"refill_days": "36500"}).status_code == 302


@pytest.mark.django_db(transaction=True)
@pytest.mark.xdist_group("migrations")
def test_refill_periods_of_more_than_a_century_are_lowered_by_the_migration():
    latest = MigrationExecutor(connection).loader.graph.leaf_nodes()
    factories.Order(service__id=1, service__refill_days=30)
    factories.Order(service__id=2)
    try:
        MigrationExecutor(connection).migrate([("orders", "0007_suppliers")])
        with connection.cursor() as cursor:
            cursor.execute("UPDATE orders_service SET refill_days = 2147483647 WHERE id = 1")
    finally:
        MigrationExecutor(connection).migrate(latest)

    assert dict(Service.objects.values_list("id", "refill_days")) == {1: LONGEST_REFILL_PERIOD, 2: None}


def test_a_change_that_is_rolled_back_is_not_seen(customer):
    factories.Service(name="kept")
    before = customer.post("services")

    with transaction.atomic():
        Service.objects.update(name="not kept")
        assert names(customer) == ["not kept"]
        transaction.set_rollback(True)

    after = customer.post("services")
    assert after.content == before.content
    assert after["ETag"] == before["ETag"]


@pytest.mark.django_db(transaction=True)
def test_services_read_during_a_change_are_not_kept_for_the_new_version(monkeypatch):
    """The change is committed after the version is read, and before the services are."""
    customer = new_customer()
    factories.Service(name="old")
    read = api._active_services

    def change_first():
        Service.objects.update(name="new")
        return read()

    monkeypatch.setattr(api, "_active_services", change_first)
    assert names(customer) == ["new"]
    monkeypatch.undo()
    Service.objects.update(name="newest")
    assert names(customer) == ["newest"]


@pytest.mark.django_db(transaction=True)
def test_transactions_that_change_services_wait_for_each_other():
    """Otherwise a version could be seen before the changes that belong to it."""
    factories.Service(id=1)
    factories.Service(id=2)

    with transaction.atomic():
        Service.objects.filter(pk=1).update(name="first")
        other = Waiting(lambda: Service.objects.filter(pk=2).update(name="second"))

    assert other.result() == 1


def test_a_catalogue_without_a_version_is_read_each_time(customer):
    factories.Service(name="one")
    Catalogue.objects.all().delete()

    assert names(customer) == ["one"]
    with CaptureQueriesContext(connection) as queries:
        assert names(customer) == ["one"]
    assert "orders_service" in queries[-1]["sql"]

    Service.objects.update(name="another")  # creates a new version
    assert names(customer) == ["another"]
    assert Catalogue.objects.count() == 1


def ask(customer, **headers):
    return Client().post(
        "/api/v2",
        {"key": customer.raw_key, "action": "services"},
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


@pytest.mark.parametrize("taken", ["gzip", "deflate, gzip;q=0.5", "GZIP", "*", "br;q=1.0, gzip; q=0.001", "x-gzip"])
def test_the_list_is_compressed_for_clients_that_accept_gzip(customer, taken):
    factories.Service.create_batch(50)

    response = ask(customer, accept_encoding=taken)

    assert response["Content-Encoding"] == "gzip"
    assert response["Content-Type"] == "application/json"
    assert int(response["Content-Length"]) == len(response.content)
    assert gzip.decompress(response.content) == ask(customer).content
    assert len(response.content) < len(ask(customer).content) / 4


@pytest.mark.parametrize("taken", ["", "identity", "br", "gzip;q=0", "gzip; q=0.000, br", "*;q=0", "notgzip"])
def test_the_list_is_not_compressed_for_other_clients(customer, taken):
    factories.Service()

    response = ask(customer, accept_encoding=taken)

    assert not response.has_header("Content-Encoding")
    assert response["Vary"] == "Accept-Encoding"
    assert len(response.json()) == 1


def test_a_client_that_has_the_list_gets_304_without_a_body(customer):
    factories.Service(name="one")
    tag = ask(customer)["ETag"]

    for known in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        response = ask(customer, if_none_match=known)
        assert (response.status_code, response.content) == (304, b"")
        assert response["ETag"] == tag
        assert response["X-RateLimit-Remaining"]
        assert response["X-Request-ID"]
    assert ask(customer, if_none_match=tag, accept_encoding="gzip").status_code == 304

    Service.objects.update(name="another")
    response = ask(customer, if_none_match=tag)
    assert response.status_code == 200
    assert response["ETag"] != tag
    assert response.json()[0]["name"] == "another"


@pytest.mark.parametrize("known", ["", "nonsense", '"', "W/", "\x00", '"unknown"'])
def test_a_client_with_an_unknown_entity_tag_gets_the_list(customer, known):
    assert ask(customer, if_none_match=known).status_code == 200


def test_the_entity_tag_depends_on_the_content_only(customer):
    """Two servers give the same list the same tag, and so does a server that was restarted."""
    factories.Service(name="one")
    tag = ask(customer)["ETag"]

    Service.objects.update(name="one")

    assert ask(customer, if_none_match=tag).status_code == 304


def test_a_client_may_cache_the_list_but_must_revalidate(customer):
    assert customer.post("services")["Cache-Control"] == "private, no-cache"
    assert post(key="unknown", action="services")["Cache-Control"] == "no-store"
