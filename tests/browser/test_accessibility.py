"""The pages of the desk and of the customers fit the window, and pass axe's rules for WCAG 2.1, levels A and AA."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.hashers import make_password
from django.utils import timezone

from apikeys.models import WebhookDelivery
from refills.models import Refill
from tests import factories
from tests.browser.conftest import browsing
from tests.conftest import new_customer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("accessibility")]

RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}

OF_STAFF = {
    "start page": "/admin/",
    "list of refills": "/admin/refills/refill/",
    "settled refills": "/admin/refills/refill/?status=settled",
    "a search": "/admin/refills/refill/?q={order}",
    "a refill": "/admin/refills/refill/{pending}/change/",
    "a settled refill": "/admin/refills/refill/{rejected}/change/",
    "the queue": "/admin/refills/refill/queue/",
    "a pasted list": "/admin/refills/refill/list/",
    "an export": "/admin/refills/refill/export/settled/",
    "an order": "/admin/orders/order/{order}/change/",
    "an account": "/admin/apikeys/account/{account}/change/",
    "a key": "/admin/apikeys/apikey/{key}/change/",
    "list of orders": "/admin/orders/order/",
    "list of services": "/admin/orders/service/",
    "a service": "/admin/orders/service/{service}/change/",
    "list of accounts": "/admin/apikeys/account/",
    "a new account": "/admin/apikeys/account/add/",
    "a new agent": "/admin/apikeys/account/new-agent/",
    "an invited agent": "/admin/apikeys/account/{colleague}/change/",
    "a leaver": "/admin/apikeys/account/{colleague}/leave/",
    "requests for a customer": "/admin/refills/refill/request/{account}/",
    "time zone": "/admin/time-zone/",
    "list of reasons": "/admin/refills/rejectionreason/",
    "a new reason": "/admin/refills/rejectionreason/add/",
    "list of keys": "/admin/apikeys/apikey/",
    "audit log": "/admin/apikeys/auditevent/",
}
OF_CUSTOMERS = {
    "overview": "/dashboard/",
    "orders": "/dashboard/orders/",
    "pasted list": "/dashboard/orders/list/",
    "refills": "/dashboard/refills/",
    "keys": "/dashboard/api/",
    "a key": "/dashboard/api/{key}/",
    "change a key": "/dashboard/api/{key}/change/",
    "webhooks": "/dashboard/webhooks/",
    "a webhook": "/dashboard/webhooks/{webhook}/",
    "password": "/dashboard/password/",
    "developers": "/developers/",
    "authentication": "/developers/authentication/",
    "refill": "/developers/refill/",
    "refill_status": "/developers/refill_status/",
    "status": "/developers/status/",
    "services": "/developers/services/",
    "webhooks for developers": "/developers/webhooks/",
    "rate limits": "/developers/rate-limits/",
    "errors": "/developers/errors/",
    "reference": "/developers/reference/",
    "changelog": "/developers/changelog/",
}
OF_VISITORS = {
    "sign-in of staff": "/admin/login/",
    "sign-in": "/dashboard/sign-in/",
    "reset password": "/dashboard/password/reset/",
    "reset sent": "/dashboard/password/reset/sent/",
}


@pytest.fixture
def ids(agent):
    """Return the ids in the addresses of the pages, with something in every list."""
    customer = new_customer(username="anna")
    factories.RejectionReason()
    pending = factories.Refill(order__account=customer.account)
    factories.Refill(order__account=customer.account, status="approved")
    factories.Refill(order__account=customer.account, status="completed")
    rejected = factories.Refill(order__account=customer.account, status="rejected")
    webhook = factories.WebhookEndpoint(account=customer.account, failing_since=timezone.now())
    now = timezone.now()
    for state, next_at in (("waiting", now), ("failed", None), ("delivered", None)):
        WebhookDelivery.objects.create(
            endpoint=webhook,
            type="refill.completed",
            body="{}",
            created_at=now,
            state=state,
            next_at=next_at,
            milliseconds=12,
            status=500,
            answer="out of order, " * 20,
        )
    return {
        "fresh": factories.Order(account=customer.account).pk,
        "pending": pending.pk,
        "rejected": rejected.pk,
        "order": pending.order_id,
        "service": pending.service_id,
        "account": customer.account.pk,
        "colleague": factories.Account(username="mia", is_staff=True, password=make_password(None)).pk,
        "key": customer.api_key.pk,
        "webhook": webhook.pk,
    }


# Each width and each scheme once: all four combinations would take minutes.
@pytest.fixture(params=[(1440, "light"), (390, "dark")], ids=["wide and light", "narrow and dark"])
def look_of_page(request):
    return request.param


@pytest.fixture
def browse(browser, server, look_of_page):
    """Return a function that opens the pages of an account, or of a visitor, in the window and colours of the test."""
    width, scheme = look_of_page
    return lambda account=None: browsing(
        browser, server, account, viewport={"width": width, "height": 900}, color_scheme=scheme
    )


def faults(page):
    """Return what axe finds on the page: the elements for each rule. A page wider than the window is a fault too."""
    violations = Axe().run(page, options=RULES).response["violations"]
    found = {each["id"]: [node["html"] for node in each["nodes"]] for each in violations}
    if too_wide := page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"):
        found["wider than the window"] = [f"by {too_wide} pixels"]
    return found


def look(page, pages, ids):
    """Return the faults of each of the pages that has any."""
    found = {}
    for name, address in pages.items():
        page.goto(address.format(**ids))
        if faulty := faults(page):
            found[name] = faulty
    return found


def test_the_desk(browse, agent, ids):
    agent.is_superuser = True  # sees every page
    agent.save()
    with browse(agent) as page:
        found = look(page, OF_STAFF, ids)
        page.goto("/admin/refills/refill/")
        page.get_by_role("checkbox").first.check()
        page.locator("select[name=action]").select_option("reject")
        page.get_by_role("button", name="Run").click()
        page.get_by_role("heading", name="Reject refills").first.wait_for()
        if faulty := faults(page):
            found["reject form"] = faulty
        page.goto(OF_STAFF["requests for a customer"].format(**ids))
        page.get_by_label("Ids or numbers of orders").fill(f"{ids['order']} {ids['fresh']}")
        page.get_by_role("button", name="Request refills").click()
        page.get_by_text("Requested 1 of 2 refills").wait_for()
        if faulty := faults(page):
            found["outcomes of requests for a customer"] = faulty
    assert found == {}


def test_the_customers_pages(browse, ids):
    account = Refill.objects.get(pk=ids["pending"]).account
    with browse(account) as page:
        assert look(page, OF_CUSTOMERS, ids) == {}


def test_the_pages_before_somebody_signs_in(browse, ids):
    with browse() as page:
        assert look(page, OF_VISITORS, ids) == {}
