"""No page of the admin or of the dashboard fails, whatever a client puts into its query string or its path."""

import importlib
import random
from urllib.parse import quote, urlencode

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group
from django.test import Client

from tests import factories
from tests.conftest import end

pytestmark = pytest.mark.django_db(transaction=True)  # an error of the database would break the test's transaction

NUL = "\0"
HUGE = "9" * 30
VALUES = ["", NUL, HUGE, f"-{HUGE}", "0", "[]", "\\", "\ud800", "0000-00-00", "nan", "%", "\r\nforged", "٣"]
FEW = [NUL, HUGE, "[]", "0", "\ud800"]
FILTERS = [
    "nosuch",
    "nosuch__deep__deeper",
    "id",
    "pk",
    "id__regex",
    "pk__in",
    "pk__range",
    "note__regex",
    "note__iregex",
    "created_at__year",
    "created_at__date",
    "created_at__gte",
    "created_at__time__hour",
    "created_at",
    "number",
    "order__number",
    "order__account__username",
    "order__account__password__startswith",
    "account__digest",
    "account__tier",
    "service",
    "service__id__exact",
    "category",
    "status",
    "status__exact",
    "age",
    "account",
    "tier",
    "settled_by",
    "digest",
    "digest__startswith",
    "password__startswith",
    "is_active__exact",
    "tier__exact",
    "is_staff__exact",
    "revoked_at__isempty",
    "revoked_at__isnull",
    "active__exact",
    "refill__exact",
    "rate",
    "rate__gte",
    "groups__id__exact",
    "user_permissions__codename__regex",
    "date_joined__year__gte",
    "__",
    "_",
    "_to_field",
    "_popup",
    "p",
    "o",
    "q",
    "all",
    "e",
    "_facets",
    "_changelist_filters",
    "id__contains",
]


@pytest.fixture
def desk():
    importlib.import_module("refills.migrations.0009_roles").create_roles(apps, None)
    order = factories.Order()
    factories.Refill(order=order, note="n")
    factories.RejectionReason()


def member(group):
    account = factories.Account(is_staff=True, is_superuser=not group)
    if group:
        account.groups.add(Group.objects.get(name=group))
    client = Client(raise_request_exception=False)
    client.force_login(account)
    return client


def models():
    return [(model._meta.app_label, model._meta.model_name, model) for model in admin.site._registry]


def lists():
    return [f"/admin/{app}/{name}/" for app, name, _ in models()] + ["/admin/refills/refill/export/"]


def encoded(pairs):
    return urlencode(pairs, errors="surrogatepass")


def failures(client, addresses, method="get"):
    """Return the addresses that answer 5xx, or that fail while their answer is read."""
    failed = []
    for address in addresses:
        response = getattr(client, method)(address)
        if response.status_code < 500:
            try:
                b"".join(response)
            except Exception as error:  # a stream fails while it is read
                failed.append((address, error))
        else:
            failed.append((address, response.status_code))
    return failed


@pytest.mark.parametrize(("group", "drawn"), [("", 2), ("Support", 1)])
def test_no_list_and_no_export(desk, group, drawn):
    """Try each filter of each list with some of the values, which differ in each run."""
    addresses = [
        f"{path}?{encoded({name: value})}"
        for path in lists()
        for name in FILTERS
        for value in random.sample(FEW, drawn)
    ]

    assert failures(member(group), addresses) == []


@pytest.mark.parametrize("group", ["", "Support"])
def test_no_page(desk, group):
    parts = [quote(value, errors="surrogatepass") for value in FEW] + ["1", "_5F"]
    addresses = [
        f"/admin/{app}/{name}/{part}/{page}"
        for app, name, _ in models()
        for part in parts
        for page in ("", "change/", "history/", "delete/", "settle/", "claim/", "suspend/", "password/")
    ]
    addresses += [f"/admin/r/{first}/{second}/" for first in parts for second in parts]
    addresses += [f"/admin/r/{number}/{part}/" for number in range(1, 20) for part in parts]
    addresses += [f"/admin/{part}/" for part in parts] + [f"/admin/apikeys/{part}/" for part in parts]

    assert failures(member(group), addresses) == []


@pytest.mark.parametrize("group", ["", "Support"])
def test_no_autocomplete(desk, group):
    good = {"app_label": "refills", "model_name": "refill", "field_name": "service", "term": "", "page": "1"}
    fields = [
        {"app_label": app, "model_name": name, "field_name": field.name}
        for app, name, model in models()
        for field in model._meta.get_fields()
        if field.is_relation
    ]
    queries = [good | field | {name: value} for field in fields for name in ("term", "page") for value in FEW]
    queries += [good | {name: value} for name in good for value in VALUES]
    queries += [{name: value} for name in good for value in VALUES]

    assert failures(member(group), [f"/admin/autocomplete/?{encoded(query)}" for query in queries]) == []


def test_no_other_page_of_the_admin(desk):
    pages = ["/admin/", "/admin/login/", "/admin/jsi18n/", "/admin/search/", "/admin/password_change/"]
    names = ["q", "s", "next", "app", "term", "extended"]
    queries = [{name: value} for name in names for value in VALUES]

    addresses = [f"{page}?{encoded(query)}" for page in pages for query in queries]
    for group in ("", "Support"):
        assert failures(member(group), addresses) == []


def test_no_page_of_the_dashboard(customer):
    client = Client(raise_request_exception=False)
    client.force_login(customer.account)
    factories.Refill(order__account=customer.account)
    pages = ["", "orders/", "orders/refill/", "orders/list/", "refills/", "api/", "sign-in/", "password/", "api/1/"]
    names = ["q", "status", "before", "after", "next", "page"]

    addresses = [f"/dashboard/{page}?{encoded({name: value})}" for page in pages for name in names for value in VALUES]
    addresses += [f"/dashboard/api/{quote(value, errors='surrogatepass')}/" for value in VALUES if value != "/"]

    assert failures(client, addresses) == []


class TestForms:
    @pytest.mark.parametrize(
        "back", ["abc", "/nosuch:name", "//evil.example", "http://evil.example/", "a.b", NUL, "é", ""]
    )
    def test_the_way_back_of_a_refill(self, customer, back):
        client = Client(raise_request_exception=False)
        client.force_login(customer.account)
        order = factories.Order(account=customer.account)

        response = client.post("/dashboard/orders/refill/", {"order": order.pk, "next": back})

        assert response.status_code == 302
        assert "evil.example" not in response["Location"]
        assert client.get(response["Location"]).status_code < 500
        assert order.refills.count() == 1

    @pytest.mark.parametrize("value", [value for value in VALUES if "\ud800" not in value])
    def test_forms_of_the_desk(self, desk, value):
        client = member("")
        refill = factories.Refill()
        page = f"/admin/refills/refill/{refill.pk}"
        fields = ("to", "note", "reason", "delivered", "claim", "action", "_selected_action", "index", "select_across")
        form = dict.fromkeys(fields, value)
        for path in (
            f"{page}/settle/",
            f"{page}/settle/?back={quote(value)}",
            f"{page}/claim/",
            "/admin/refills/refill/",
        ):
            assert client.post(path, form).status_code < 500
        for action in ("approve", "reject"):
            for list_ in ("/admin/refills/refill/", f"/admin/refills/refill/?category={quote(value)}"):
                sent = form | {"action": action, "select_across": "0"}
                assert client.post(list_, sent).status_code < 500

    @pytest.mark.parametrize("value", [value for value in VALUES if "\ud800" not in value])
    def test_forms_of_the_dashboard(self, customer, value):
        client = Client(raise_request_exception=False)
        client.force_login(customer.account)
        for path in ("orders/refill/", "orders/list/", "api/new/", "sign-in/", "password/", "reset/"):
            form = dict.fromkeys(("order", "orders", "next", "name", "username", "password", "email"), value)
            assert client.post(f"/dashboard/{path}", form).status_code < 500


def test_an_account_is_not_found_by_its_password(desk):
    """A list that may be filtered by any field would reveal what staff may not see."""
    response = member("").get("/admin/apikeys/account/?password__startswith=a")

    assert response.status_code == 400


def test_head_answers_as_get(desk, customer):
    refill = factories.Refill(order__account=customer.account)
    superuser, owner = member(""), Client()
    owner.force_login(customer.account)
    admins = [
        *lists(), "/admin/", "/admin/autocomplete/?app_label=refills&model_name=refill&field_name=service&term=",
        f"/admin/refills/refill/{refill.pk}/change/", f"/admin/refills/refill/{refill.pk}/history/",
        f"/admin/orders/order/{refill.order_id}/change/", f"/admin/orders/service/{refill.service_id}/change/",
        f"/admin/apikeys/account/{refill.account_id}/change/", "/admin/orders/service/add/", "/admin/jsi18n/",
        f"/admin/refills/refill/{refill.pk}/settle/", f"/admin/refills/refill/{refill.pk}/claim/",
        f"/admin/apikeys/account/{refill.account_id}/suspend/",
    ]  # fmt: skip
    customers = [f"/dashboard/{page}" for page in ("", "orders/", "orders/refill/", "orders/list/", "refills/", "api/")]
    for client, pages in (
        (superuser, admins),
        (owner, customers),
        (Client(), ["/", "/developers/", "/dashboard/sign-in/"]),
    ):
        for page in pages:
            head, get = client.head(page), client.get(page)
            end(head)
            end(get)
            assert (page, head.status_code) == (page, get.status_code)


@pytest.mark.parametrize(
    "path", ["/admin/?x=%00", "/admin/refills/refill/?nosuch=1", "/admin/refills/refill/export/?nosuch=1"]
)
def test_a_mistake_of_a_client_is_one_line_of_the_log(client, staff, caplog, path):
    client.force_login(staff)
    caplog.clear()  # the security log reports that

    assert client.get(path).status_code == 400

    assert [record.name for record in caplog.records] == ["notpanel.request_log"]
