"""An agent's day at the desk, in a real browser."""

import itertools

import pytest
from playwright.sync_api import expect

from refills.models import Refill
from refills.settlement import claim
from refills.statuses import RefillStatus
from tests import factories
from tests.conftest import settle

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("browser-desk")]


def row(page, refill):
    return page.get_by_role("row").filter(has=page.get_by_title(refill.pk))


def status(refill):
    return Refill.objects.get(pk=refill.pk).status


def test_log_in(page, queue, agent, settings):
    settings.PASSWORD_HASHERS = [
        "django.contrib.auth.hashers.PBKDF2PasswordHasher"
    ]  # the hasher of the server's own process
    agent.set_password("long-enough-1")
    agent.save()
    page.context.clear_cookies()

    page.goto("/admin/refills/refill/")
    page.get_by_label("Username").fill("agent")
    page.get_by_label("Password").fill("long-enough-1")
    page.get_by_role("button", name="Log in").click()

    expect(row(page, queue[0])).to_be_visible()


def test_filter(page, queue):
    other = factories.Refill(order__service__name="Views", status="approved")
    other.refresh_from_db()
    page.goto("/admin/refills/refill/")
    expect(row(page, queue[0])).to_be_visible()

    page.get_by_role("button", name="Filters").click()
    page.locator("select[name=status]").select_option("approved")
    page.get_by_role("button", name="Apply").click()

    expect(row(page, other)).to_be_visible()
    expect(row(page, queue[0])).to_have_count(0)


def test_take_approve_and_complete_with_a_delivered_figure(page, queue, agent):
    oldest, following = queue[:2]
    page.goto("/admin/refills/refill/")

    row(page, oldest).get_by_role("button", name="Take").click()
    expect(row(page, oldest).get_by_role("button", name="Release")).to_be_visible()
    row(page, oldest).get_by_role("button", name="Approve").click()
    expect(page.get_by_text("was approved.")).to_be_visible()
    page.goto(f"/admin/refills/refill/{oldest.number}/change/")
    page.get_by_label("Delivered").fill("120")
    page.get_by_role("button", name="Complete").click()

    expect(page.get_by_text("was completed.")).to_be_visible()
    assert f"/{following.pk}/change/" in page.url
    oldest.refresh_from_db()
    assert (oldest.status, oldest.delivered, oldest.settled_by) == ("completed", 120, agent)


def test_complete_a_refill_from_its_row_in_the_list(page, queue):
    page.goto("/admin/refills/refill/")

    row(page, queue[0]).get_by_role("button", name="Complete").click()

    expect(page.get_by_text("was completed.")).to_be_visible()
    expect(row(page, queue[0])).to_have_count(0)
    assert status(queue[0]) == "completed"
    assert status(queue[1]) == "pending"


def test_reject_with_a_reason(page, queue):
    factories.RejectionReason(text="The account is private.")
    page.goto("/admin/refills/refill/")

    row(page, queue[0]).get_by_role("link", name="Reject").click()
    page.get_by_label("Reason").select_option("The account is private.")
    page.get_by_role("button", name="Reject", exact=True).click()

    expect(page.get_by_text("was rejected.")).to_be_visible()
    queue[0].refresh_from_db()
    assert (queue[0].status, str(queue[0].reason)) == ("rejected", "The account is private.")


def test_complete_ten_at_once(page, queue):
    page.goto("/admin/refills/refill/")
    for refill in queue[:10]:
        row(page, refill).get_by_role("checkbox").check()

    page.locator("select[name=action]").select_option("complete")
    page.get_by_role("button", name="Run").click()

    expect(page.get_by_text("10 refills (")).to_be_visible()
    assert [status(refill) for refill in queue] == ["completed"] * 10 + ["pending"] * 2


def test_a_refill_that_a_colleague_has_just_settled_is_refused(page, queue):
    page.goto("/admin/refills/refill/")
    settle([queue[0].pk], RefillStatus.REJECTED, factories.Account(username="ann"), "private")

    row(page, queue[0]).get_by_role("button", name="Complete").click()

    expect(page.get_by_text("rejected by ann at")).to_be_visible()
    assert status(queue[0]) == "rejected"


def test_a_refill_that_a_colleague_has_taken_must_be_taken_over(page, queue):
    claim([queue[0].pk], factories.Account(username="ann"))
    page.goto("/admin/refills/refill/")

    row(page, queue[0]).get_by_role("link", name="Taken by ann").click()
    page.get_by_role("button", name="Take over").click()
    page.get_by_role("button", name="Complete").click()

    expect(page.get_by_text("was completed.")).to_be_visible()
    assert status(queue[0]) == "completed"


def test_nothing_is_cut_off_wide_or_narrow_light_or_dark(page, queue):
    addresses = ("/admin/", "/admin/refills/refill/", f"/admin/refills/refill/{queue[0].number}/change/")
    for address, width, scheme in itertools.product(addresses, (1280, 390), ("light", "dark")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        page.goto(address)

        wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")

        assert wider <= 0, (address, width, scheme)


def test_tabs_chips_and_filters_with_the_keyboard_alone(page, queue):
    factories.Refill(order__account__username="shop", status="approved")
    page.goto("/admin/refills/refill/")
    page.get_by_role("link", name="With supplier 1").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="With supplier 1")).to_have_attribute("aria-current", "page")

    # The tab order leads to the button, and the button to the first filter.
    page.locator("#searchbar").focus()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Filters")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#changelist-filter :focus")).to_be_visible()
    page.get_by_label("customer").fill("shop")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Remove the filter customer: shop")).to_be_visible()

    page.get_by_role("link", name="Remove the filter customer: shop").focus()
    page.keyboard.press("Enter")

    expect(page.get_by_role("link", name="Remove the filter customer: shop")).to_have_count(0)
    expect(page.get_by_role("link", name="With supplier 1")).to_have_attribute("aria-current", "page")


def test_a_pasted_number_of_an_order_without_refills_shows_why(page, queue):
    order = factories.Order(number=52796, service__refill=False)
    page.goto("/admin/refills/refill/")

    page.locator("#searchbar").fill(f" #{order.number}\n")
    page.keyboard.press("Enter")

    expect(page.get_by_text("Service does not support refills").first).to_be_visible()
    page.get_by_role("link", name="#52796", exact=True).click()
    expect(page.get_by_text("Service refills: refill=false")).to_be_visible()
