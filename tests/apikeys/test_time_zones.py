"""The time zone in which a member of the staff sees the times of the desk."""

import re
from datetime import UTC, datetime

import pytest
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apikeys.accounts import set_active
from apikeys.models import AuditEvent
from refills.settlement import claim
from tests import factories
from tests.conftest import settle

PAGE = reverse("time-zone")


def choose(client, name):
    return client.post(PAGE, {"time_zone": name}, follow=True)


def test_staff_choose_their_own_time_zone(client, staff):
    other = factories.Account(is_staff=True)
    client.force_login(staff)

    page = choose(client, "Europe/Berlin").content.decode()

    staff.refresh_from_db()
    other.refresh_from_db()
    assert (staff.time_zone, other.time_zone) == ("Europe/Berlin", "UTC")
    assert "The desk now shows times in Europe/Berlin" in page
    assert '<option value="Europe/Berlin" selected>' in page


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../../etc/passwd", "europe/berlin"])
def test_a_name_of_no_time_zone_changes_nothing(client, staff, name):
    client.force_login(staff)

    page = choose(client, name).content.decode()

    staff.refresh_from_db()
    assert staff.time_zone == "UTC"
    assert "Choose a time zone" in page


def test_customers_and_visitors_do_not_reach_the_page(client, customer):
    assert client.get(PAGE).status_code == 302
    client.force_login(customer.account)
    assert client.post(PAGE, {"time_zone": "Europe/Berlin"}).status_code == 302
    customer.account.refresh_from_db()
    assert customer.account.time_zone == "UTC"


def test_a_form_from_another_site_is_refused(staff):
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(staff)

    assert browser.post(PAGE, {"time_zone": "Europe/Berlin"}).status_code == 403


def test_another_method_is_refused(client, staff):
    client.force_login(staff)

    assert client.put(PAGE).status_code == 405


def test_the_page_is_linked_from_the_start_page_and_the_menu(client, staff):
    client.force_login(staff)

    assert client.get(reverse("admin:index")).content.decode().count(f'href="{PAGE}"') == 2


def test_the_desk_shows_times_in_the_time_zone_of_the_agent_and_says_it(client, staff):
    service = factories.Service()
    refill = factories.Refill(order__service=service, created_at="2026-11-25T08:14:00Z")
    staff.time_zone = "Europe/Berlin"
    staff.save()
    client.force_login(staff)

    page = client.get(reverse("admin:refills_refill_change", args=[refill.pk])).content.decode()

    assert '2026-11-25 09:14 <span class="time-zone">CET</span>' in page
    assert timezone.get_current_timezone_name() == "UTC"  # the request has not changed it


def test_django_writes_times_of_the_admin_in_the_same_format(client, staff):
    account = factories.Account(date_joined="2026-07-01T10:00:00Z", time_zone="UTC")
    staff.time_zone = "America/New_York"
    staff.save()
    client.force_login(staff)

    assert "2026-07-01 06:00 EDT" in client.get(f"/admin/apikeys/account/{account.pk}/change/").content.decode()


@pytest.fixture
def in_berlin(client, staff, time_machine):
    """Return the client of a superuser in Berlin, where it is 2026-11-25 09:14."""
    time_machine.move_to(datetime(2026, 11, 25, 8, 14, tzinfo=UTC), tick=False)
    staff.time_zone = "Europe/Berlin"
    staff.save()
    client.force_login(staff)
    return client


SHOWN = re.compile(r"2026-11-25 09:14 (?:<span [^>]*>)?CET")


def test_the_audit_log_and_the_suspensions_are_in_the_agents_time_zone(in_berlin, staff):
    account = factories.Account()
    set_active(account, False, staff, "Unpaid.")
    AuditEvent.record(AuditEvent.Kind.INVITED, account)
    event = AuditEvent.objects.latest("pk")

    for name, thing, to_the_second in (
        ("admin:apikeys_auditevent_changelist", None, True),
        ("admin:apikeys_auditevent_change", event, True),
        ("admin:apikeys_account_change", account, False),
    ):
        page = in_berlin.get(reverse(name, args=[thing.pk] if thing else [])).content.decode()
        assert "2026-11-25 09:14:00 CET" in page if to_the_second else SHOWN.search(page), name


def test_claims_and_refusals_are_in_the_agents_time_zone(in_berlin):
    ann, refills = factories.Account(username="ann"), [factories.Refill().pk, factories.Refill().pk]
    claim(refills[:1], ann)
    settle(refills[1:], "completed", ann)
    listed = reverse("admin:refills_refill_changelist")

    page = in_berlin.get(listed).content.decode()
    body = {"action": "complete", "_selected_action": refills}
    [message] = get_messages(in_berlin.post(listed, body).wsgi_request)

    assert re.search(rf"Taken by ann</span>\s*<time [^>]*>{SHOWN.pattern}", page)
    assert "taken by ann at 2026-11-25 09:14 CET" in str(message)
    assert "completed by ann at 2026-11-25 09:14 CET" in str(message)


def test_exports_stay_in_utc(client, staff):
    factories.Refill(created_at="2026-11-25T08:14:00Z")
    staff.time_zone = "Europe/Berlin"
    staff.save()
    client.force_login(staff)

    rows = b"".join(client.get(reverse("admin:refills_refill_export")).streaming_content).decode()

    assert "2026-11-25 08:14:00" in rows


def test_a_time_zone_that_this_machine_does_not_know_is_utc(client, staff):
    type(staff).objects.update(time_zone="Mars/Olympus")
    client.force_login(staff)

    assert client.get(PAGE).status_code == 200


def test_choosing_a_time_zone_is_not_in_the_audit_log(client, staff):
    client.force_login(staff)
    before = AuditEvent.objects.count()

    choose(client, "Europe/Berlin")

    assert AuditEvent.objects.count() == before
