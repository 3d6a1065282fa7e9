import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.messages import get_messages
from django.urls import reverse

from apikeys.accounts import set_active
from apikeys.models import SuspensionEvent
from apikeys.refusals import CannotSuspendYourself, NoReasonGiven
from tests import factories


def test_a_customer_is_suspended_and_restored_with_a_reason(staff, customer):
    assert set_active(customer.account, False, staff, " chargeback ")
    assert customer.post("services").json() == {"error": "Account suspended"}

    assert set_active(customer.account, True, staff, "paid")
    assert customer.post("services").status_code == 200

    events = SuspensionEvent.objects.values_list("account", "kind", "reason", "by")
    assert list(events) == [
        (customer.account.pk, "suspended", "chargeback", staff.pk),
        (customer.account.pk, "restored", "paid", staff.pk),
    ]
    assert not LogEntry.objects.exists()


def test_what_is_so_already_is_not_done_again(staff, customer):
    assert not set_active(customer.account, True, staff, "paid")
    assert not SuspensionEvent.objects.exists()


def test_a_reason_is_required(staff, customer):
    with pytest.raises(NoReasonGiven, match="Give a reason"):
        set_active(customer.account, False, staff, " ")


def test_nobody_suspends_themselves(staff):
    with pytest.raises(CannotSuspendYourself, match="yourself"):
        set_active(staff, False, staff, "enough")


def test_it_is_done_on_the_customers_page(client, staff, customer):
    client.force_login(staff)
    page = reverse("admin:apikeys_account_change", args=[customer.account.pk])
    url = reverse("admin:apikeys_account_suspend", args=[customer.account.pk])
    assert "Suspend" in client.get(page).content.decode()

    response = client.post(url, {"active": "no", "reason": "chargeback"})

    assert response.url == page
    assert [str(message) for message in get_messages(response.wsgi_request)] == [
        f"{customer.account} is suspended now."
    ]
    text = client.get(page).content.decode()
    assert "Suspended: chargeback" in text
    assert "Restore" in text
    assert client.get(url).status_code == 405


@pytest.mark.parametrize("model", ["account", "order"])
def test_the_pages_of_customer_and_order_show_their_refills(client, staff, model):
    client.force_login(staff)
    refill = factories.Refill(status="rejected", reason=factories.RejectionReason(text="Nothing dropped."))
    refill.refresh_from_db()
    name = {"account": "apikeys_account", "order": "orders_order"}[model]

    text = client.get(reverse(f"admin:{name}_change", args=[getattr(refill, model).pk])).content.decode()

    assert f"#{refill.number}" in text
    assert "Nothing dropped." in text
