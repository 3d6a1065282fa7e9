"""A hand slips, a session ends, a colleague is first: one click settles one refill, and nothing typed is lost."""

import pytest
from django.contrib.sessions.models import Session
from playwright.sync_api import expect

from refills.models import Refill
from refills.settlement import claim
from refills.statuses import RefillStatus
from tests import factories
from tests.browser.conftest import browsing
from tests.browser.test_desk import row, status
from tests.conftest import settle

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("browser-slips")]


def change_url(refill):
    return f"/admin/refills/refill/{refill.pk}/change/"


def complete(page):
    return page.get_by_role("button", name="Complete c")


def click_twice(page, button, gap):
    """Click the middle of a button, and the same place again after ``gap`` ms, as a double click does."""
    button.scroll_into_view_if_needed()
    box = button.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 30, y)
    page.mouse.move(x, y)
    page.mouse.click(x, y)
    page.wait_for_timeout(gap)
    page.mouse.down()
    page.mouse.up()
    page.wait_for_timeout(1000)


def completed():
    return Refill.objects.filter(status="completed").count()


@pytest.mark.parametrize("gap", [200, 500, 1000])
class TestDoubleClick:
    def test_on_a_refills_page_completes_one_refill(self, page, queue, gap):
        page.goto(change_url(queue[0]))

        click_twice(page, complete(page), gap)

        assert completed() == 1

    def test_in_the_list_completes_one_refill(self, page, queue, gap):
        page.goto("/admin/refills/refill/")

        click_twice(page, row(page, queue[0]).get_by_role("button", name="Complete"), gap)

        assert completed() == 1


def test_a_second_click_counts_after_a_movement(page, queue):
    page.goto("/admin/refills/refill/")
    row(page, queue[0]).get_by_role("button", name="Complete").click()
    expect(row(page, queue[0])).to_have_count(0)

    row(page, queue[3]).get_by_role("button", name="Complete").click()

    expect(row(page, queue[3])).to_have_count(0)
    assert completed() == 2


def test_the_list_stays_where_it_was_and_the_focus_goes_on_to_the_next_row(page, queue):
    page.set_viewport_size({"width": 1280, "height": 500})
    page.goto("/admin/refills/refill/")
    button = row(page, queue[8]).get_by_role("button", name="Complete")
    button.scroll_into_view_if_needed()
    scrolled = page.evaluate("scrollY")
    assert scrolled > 100

    button.click()

    expect(row(page, queue[8])).to_have_count(0)
    expect(row(page, queue[9]).get_by_role("button", name="Complete")).to_be_focused()
    assert abs(page.evaluate("scrollY") - scrolled) < 80


def test_what_was_typed_outlives_the_session(page, queue, agent, settings):
    settings.PASSWORD_HASHERS = [
        "django.contrib.auth.hashers.PBKDF2PasswordHasher"
    ]  # the hasher of the server's own process
    agent.set_password("long-enough-1")
    agent.save()

    def sign_in():
        page.get_by_label("Username").fill("agent")
        page.get_by_label("Password").fill("long-enough-1")
        page.get_by_role("button", name="Log in").click()

    page.goto(change_url(queue[0]))
    sign_in()  # the new password has ended the session
    page.get_by_label("Note", exact=True).fill("Checked by hand.")
    Session.objects.all().delete()

    complete(page).click()
    sign_in()

    expect(page.get_by_text("Nothing was changed. Press the button again.")).to_be_visible()
    expect(page.get_by_label("Note", exact=True)).to_have_value("Checked by hand.")
    assert status(queue[0]) == "pending"


def test_an_invalid_figure_keeps_the_note(page, queue):
    page.goto(change_url(queue[0]))
    page.get_by_label("Note", exact=True).fill("Checked by hand.")
    page.get_by_label("Delivered").fill("1e3")

    complete(page).click()

    expect(page.get_by_text("Enter the delivered units as a whole number").first).to_be_visible()
    expect(page.get_by_label("Note", exact=True)).to_have_value("Checked by hand.")


def test_approve_keeps_the_note(page, queue):
    page.goto(change_url(queue[0]))
    page.get_by_label("Note", exact=True).fill("Sent to the supplier.")

    page.get_by_role("button", name="Approve").click()

    expect(page.get_by_text(f"Refill #{queue[0].number} was approved.")).to_be_visible()
    assert Refill.objects.get(pk=queue[0].pk).note == "Sent to the supplier."


def test_the_note_may_be_added_alone(page, queue):
    page.goto(change_url(queue[0]))
    page.keyboard.press("n")
    page.keyboard.type("They called.")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    expect(page.get_by_text(f"Refill #{queue[0].number} was given your note.")).to_be_visible()
    expect(page).to_have_title(f"Refill #{queue[0].number} | NotPanel")
    expect(page.get_by_label("Note", exact=True)).to_have_value("")
    assert (status(queue[0]), queue[0].notes.get().text) == ("pending", "They called.")


def test_enter_in_a_field_presses_the_button_below_it(page, queue):
    page.goto(change_url(queue[0]))
    page.get_by_label("Delivered").fill("120")
    page.keyboard.press("Enter")
    expect(page.get_by_text(f"Refill #{queue[0].number} was completed.")).to_be_visible()

    page.goto(change_url(queue[1]))
    page.get_by_label("Or words of your own").fill("The account is private.")
    page.wait_for_timeout(1050)  # a page that has just appeared ignores keys
    page.keyboard.press("Enter")
    expect(page.get_by_text(f"Refill #{queue[1].number} was rejected.")).to_be_visible()
    assert Refill.objects.get(pk=queue[1].pk).reason_text == "The account is private."


def test_a_rejection_without_words_keeps_the_note(page, queue):
    page.goto(change_url(queue[0]))
    page.get_by_label("Note", exact=True).fill("The account is private.")

    page.get_by_role("button", name="Reject", exact=True).click()

    expect(page.get_by_text("a rejection needs one of them")).to_be_visible()
    expect(page.get_by_label("Note", exact=True)).to_have_value("The account is private.")


def test_what_was_typed_is_kept_if_a_colleague_was_first(page, queue):
    page.goto(change_url(queue[0]))
    page.get_by_label("Note", exact=True).fill("Twelve are missing.")
    settle([queue[0].pk], RefillStatus.COMPLETED, factories.Account(username="ann"))

    complete(page).click()

    expect(page.get_by_text("completed by ann at")).to_be_visible()
    expect(page.get_by_label("Add a note")).to_have_value("Twelve are missing.")
    page.get_by_role("button", name="Add the note").click()
    expect(page.get_by_text("was given your note")).to_be_visible()
    expect(page.get_by_text("Twelve are missing.")).to_be_visible()


def test_more_than_the_order_is_asked_about_once(page, queue):
    page.goto(change_url(queue[0]))
    page.get_by_label("Delivered").fill("1001")

    complete(page).click()

    expect(page.get_by_text("so they must be confirmed")).to_be_visible()
    assert status(queue[0]) == "pending"

    page.get_by_role("checkbox", name="Yes, more than the 1000").check()
    complete(page).click()

    expect(page.get_by_text(f"Refill #{queue[0].number} was completed.")).to_be_visible()
    assert Refill.objects.get(pk=queue[0].pk).delivered == 1001


@pytest.mark.parametrize("what", ["settle", "claim", "note", "snooze", "next"])
def test_the_address_of_a_button_leads_back_to_the_refill(page, queue, what):
    page.goto(f"/admin/refills/refill/{queue[0].pk}/{what}/?queue=age%3Dlate")

    expect(page.get_by_text("Nothing was changed. Press the button again.")).to_be_visible()
    assert page.url.endswith(f"{queue[0].pk}/change/?queue=age%3Dlate")


def test_undo_from_the_message(page, queue):
    page.goto("/admin/refills/refill/")
    row(page, queue[0]).get_by_role("button", name="Complete").click()

    page.get_by_role("button", name="Undo").click()

    expect(page.get_by_text(f"Refill #{queue[0].number} was set back to pending.")).to_be_visible()
    assert status(queue[0]) == "pending"


def test_undo_disappears_when_it_is_too_late(page, queue):
    page.goto("/admin/refills/refill/")
    row(page, queue[0]).get_by_role("button", name="Complete").click()
    expect(page.get_by_role("button", name="Undo")).to_be_visible()

    page.clock.install()
    page.evaluate("dispatchEvent(new Event('DOMContentLoaded'))")  # restarts the timers on the test's clock
    page.clock.fast_forward(31_000)

    expect(page.get_by_role("button", name="Undo")).to_have_count(0)


class TestQueue:
    """The queue by keys: the open refill is claimed, and the next one comes from the same filter."""

    def open_first(self, page, query=""):
        page.goto(f"/admin/refills/refill/queue/?queue={query}")
        page.get_by_role("button", name="Open the first").click()
        page.wait_for_url("**/change/**")

    def press(self, page, *keys):
        page.wait_for_timeout(1050)  # a page that has just appeared ignores keys, as it does clicks
        for key in keys:
            page.keyboard.press(key)

    def test_complete_goes_on_to_the_next_and_leases_it(self, page, queue, agent):
        self.open_first(page)
        self.press(page, "c")

        expect(page.get_by_text(f"Refill #{queue[0].number} was completed.")).to_be_visible()
        expect(page).to_have_title(f"Refill #{queue[1].number} | NotPanel")
        assert queue[1].pk in page.url
        assert Refill.objects.get(pk=queue[1].pk).claimed_by == agent

    def test_the_heading_of_the_next_page_has_the_same_parts(self, page, queue):
        self.open_first(page)
        parts = page.locator("h1 > *").count()
        self.press(page, "c")

        expect(page.locator("h1")).to_contain_text(queue[1].pk, ignore_case=True)
        assert page.locator("h1 > *").count() == parts > 0

    def test_the_list_opens_as_a_queue(self, page, queue):
        page.goto("/admin/refills/refill/?age=7")

        page.keyboard.press("j")

        expect(page).to_have_title(f"Refill #{queue[0].number} | NotPanel")
        self.press(page, "c")
        expect(page).to_have_title(f"Refill #{queue[1].number} | NotPanel")
        assert page.url.endswith("?queue=age%3D7")

    def test_what_a_colleague_has_open_is_left_to_them(self, page, queue):
        claim([queue[1].pk], factories.Account(username="ann"))
        self.open_first(page)
        self.press(page, "c")

        expect(page).to_have_title(f"Refill #{queue[2].number} | NotPanel")

    def test_the_next_after_approve_is_another_one(self, page, queue):
        self.open_first(page)
        self.press(page, "a")
        expect(page).to_have_title(f"Refill #{queue[1].number} | NotPanel")
        self.press(page, "a")

        expect(page).to_have_title(f"Refill #{queue[2].number} | NotPanel")

    def test_the_next_is_of_the_same_filter(self, page, queue):
        other = factories.Refill(order__account__username="shop")
        last = factories.Refill(order=factories.Order(account=other.account))
        other.refresh_from_db(), last.refresh_from_db()
        self.open_first(page, "account%3Dshop")
        expect(page).to_have_title(f"Refill #{other.number} | NotPanel")
        self.press(page, "c")

        expect(page).to_have_title(f"Refill #{last.number} | NotPanel")
        self.press(page, "c")
        expect(page.get_by_text("Nothing waits in this queue.")).to_be_visible()

    def test_skip_releases_and_goes_on(self, page, queue):
        self.open_first(page)
        self.press(page, "j")

        expect(page).to_have_title(f"Refill #{queue[1].number} | NotPanel")
        assert Refill.objects.get(pk=queue[0].pk).claimed_by is None
        page.keyboard.press("k")
        expect(page).to_have_title(f"Refill #{queue[0].number} | NotPanel")

    def test_reject_with_a_reason_of_the_list(self, page, queue):
        factories.RejectionReason(text="A private account.")
        factories.RejectionReason(text="Blocked.")
        self.open_first(page)
        self.press(page, "r", "2")

        expect(page.get_by_text(f"Refill #{queue[0].number} was rejected.")).to_be_visible()
        assert Refill.objects.get(pk=queue[0].pk).reason_text == "Blocked."

    def test_take_over_and_release(self, page, queue, agent):
        claim([queue[0].pk], factories.Account(username="ann"))
        page.goto(change_url(queue[0]))
        page.keyboard.press("t")
        expect(page.get_by_role("button", name="Release")).to_be_visible()
        assert Refill.objects.get(pk=queue[0].pk).claimed_by == agent

        self.press(page, "t")

        expect(page.get_by_role("button", name="Take t")).to_be_visible()
        assert Refill.objects.get(pk=queue[0].pk).claimed_by is None

    def test_undo(self, page, queue):
        self.open_first(page, "age%3D7")
        self.press(page, "c")
        expect(page.get_by_text("was completed.")).to_be_visible()
        self.press(page, "u")

        expect(page.get_by_text(f"Refill #{queue[0].number} was set back to pending.")).to_be_visible()
        expect(page).to_have_title(f"Refill #{queue[0].number} | NotPanel")
        assert status(queue[0]) == "pending"
        assert page.url.endswith("?queue=age%3D7")

    def test_snooze_with_a_note(self, page, queue):
        self.open_first(page)
        page.get_by_label("because").fill("Waiting for the supplier.")
        page.get_by_label("Snooze for").select_option("1 hour")
        page.keyboard.press("Escape")
        self.press(page, "s")

        expect(page.get_by_text(f"Refill #{queue[0].number} was snoozed until")).to_be_visible()
        expect(page).to_have_title(f"Refill #{queue[1].number} | NotPanel")
        snoozed = Refill.objects.get(pk=queue[0].pk)
        assert (snoozed.snoozed_until is not None, snoozed.notes.get().text) == (True, "Waiting for the supplier.")

    def test_keys_that_are_typed_into_a_field_are_text(self, page, queue):
        self.open_first(page)
        self.press(page, "n")
        page.keyboard.type("acrs")

        expect(page.get_by_label("Note", exact=True)).to_have_value("acrs")
        assert status(queue[0]) == "pending"

    def test_the_list_of_keys(self, page, queue):
        self.open_first(page)
        page.keyboard.press("?")

        expect(page.get_by_role("dialog")).to_contain_text("reject with that reason")
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)

    def test_the_page_stays_where_it_was_scrolled(self, page, queue):
        page.set_viewport_size({"width": 1280, "height": 500})
        self.open_first(page)
        page.evaluate("scrollTo({top: 300, behavior: 'instant'})")
        self.press(page, "c")

        expect(page).to_have_title(f"Refill #{queue[1].number} | NotPanel")
        assert page.evaluate("scrollY") == 300

    def test_a_colleague_who_looks_at_the_same_refill_is_named(self, page, queue, browser):
        ann = factories.Account(username="ann", is_staff=True, is_superuser=True)
        page.goto(change_url(queue[0]))
        url = page.url.removesuffix(change_url(queue[0]))
        with browsing(browser, url, ann) as second:
            second.goto(change_url(queue[0]))
            expect(second.get_by_text("agent is looking at this refill too.")).to_be_visible()

        page.reload()

        expect(page.get_by_text("ann is looking at this refill too.")).to_be_visible()
