"""Settling many refills at once in a real browser: the bar of actions, a pasted list, the export."""

import itertools
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from refills.models import Refill
from tests import factories

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("browser-lists")]


def select(page, refills):
    page.goto("/admin/refills/refill/")
    for refill in refills:
        page.get_by_role("row").filter(has=page.get_by_title(refill.pk)).get_by_role("checkbox").check()


def statuses(refills):
    return [Refill.objects.get(pk=refill.pk).status for refill in refills]


def test_reject_twelve_alike_in_the_bar(page, queue):
    factories.RejectionReason(text="Private.")
    select(page, [])
    page.locator("#action-toggle").check()

    page.get_by_label("Select action to run").select_option("reject")
    page.get_by_label("Reason", exact=True).select_option("Private.")
    page.get_by_role("button", name="Run").click()

    expect(page.get_by_text("12 refills")).to_be_visible()
    assert statuses(queue) == ["rejected"] * 12


def test_a_rejection_in_the_bar_without_a_reason_asks_and_keeps_the_note(page, queue):
    select(page, queue[:2])
    page.get_by_label("Select action to run").select_option("reject")
    page.locator("#bar-note").fill("They called.")
    page.get_by_role("button", name="Run").click()

    expect(page.get_by_text("You have selected 2 refills.")).to_be_visible()
    expect(page.get_by_text("a rejection needs one of them.")).to_be_visible()
    expect(page.get_by_label("Note")).to_have_value("They called.")
    page.get_by_label("Or words of your own").fill("The account is private.")
    page.wait_for_timeout(1100)  # a page that has just appeared ignores clicks
    page.get_by_role("button", name="Reject").click()

    expect(page.get_by_text("2 refills")).to_be_visible()
    assert statuses(queue[:3]) == ["rejected", "rejected", "pending"]
    assert Refill.objects.filter(note="They called.").count() == 2


def test_reject_a_selection_by_keys(page, queue):
    factories.RejectionReason(text="Blocked.")
    factories.RejectionReason(text="Private.")
    select(page, queue[:1])

    for key in ("ArrowDown", "ArrowDown", "Space", "ArrowUp", "Space", "r", "p", "Tab", "Enter"):
        page.keyboard.press(key)

    expect(page.get_by_text("3 refills")).to_be_visible()
    assert statuses(queue[:4]) == ["rejected"] * 3 + ["pending"]
    assert {refill.reason_text for refill in Refill.objects.filter(status="rejected")} == {"Private."}


@pytest.mark.parametrize(("key", "status"), [("c", "completed"), ("a", "approved")])
def test_a_key_settles_a_selection_and_nothing_without_one(page, queue, key, status):
    page.goto("/admin/refills/refill/")
    sent = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    page.keyboard.press(key)
    page.get_by_role("row").filter(has=page.get_by_title(queue[1].pk)).get_by_role("checkbox").check()
    page.keyboard.press(key)

    expect(page.get_by_text(f"Refill #{queue[1].number} was {status}.")).to_be_visible()
    assert len(sent) == 1
    assert statuses(queue[:3]) == ["pending", status, "pending"]


def test_snooze_a_selection_by_keys(page, queue):
    select(page, queue[:2])

    for key in ("s", "a", "Tab", "Tab", "Enter"):  # a day
        page.keyboard.press(key)

    expect(page.get_by_text("were snoozed until")).to_be_visible()
    assert Refill.objects.filter(snoozed_until__gt=timezone.now() + timedelta(hours=23)).count() == 2


def paste(page, text):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate("text => navigator.clipboard.writeText(text)", text)
    page.keyboard.press("Control+v")


def test_what_is_pasted_beside_a_field_is_searched_for(page, queue):
    page.goto("/admin/refills/refill/")
    paste(page, f"#{queue[2].number}\n#{queue[5].number}\n")

    expect(page.get_by_text(f"search: #{queue[2].number} #{queue[5].number}")).to_be_visible()
    expect(page.locator("#result_list .data-row")).to_have_count(2)
    page.get_by_title(queue[5].pk).click()
    paste(page, str(queue[7].number))

    expect(page.locator("#result_list .data-row")).to_have_count(1)
    expect(page.get_by_title(queue[7].pk)).to_be_visible()


def test_what_is_pasted_into_a_field_stays_there(page, queue):
    page.goto(f"/admin/refills/refill/{queue[0].pk}/change/")
    page.keyboard.press("n")
    paste(page, "They called.")

    expect(page.get_by_label("Note", exact=True)).to_have_value("They called.")


def test_paste_preview_complete_and_undo(page, queue):
    page.goto("/admin/refills/refill/")
    page.get_by_role("link", name="Settle a pasted list").click()
    page.get_by_label("Ids or numbers").fill(f"{queue[0].pk},120\n{queue[1].pk}\nnonsense")
    page.get_by_role("button", name="Preview").click()

    expect(page.get_by_text("2 of 3 can be settled.")).to_be_visible()
    page.wait_for_timeout(1100)
    page.get_by_role("button", name="Complete 2 refills").click()

    expect(page.get_by_text("were completed.")).to_be_visible()
    expect(page.get_by_label("Ids or numbers")).to_have_value("")
    assert Refill.objects.get(pk=queue[0].pk).delivered == 120
    page.wait_for_timeout(1100)
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("were set back to pending.")).to_be_visible()
    assert statuses(queue[:2]) == ["pending", "pending"]


def test_nothing_is_cut_off(page, queue):
    for width, scheme in itertools.product((1440, 390), ("light", "dark")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)

        def fits(where, width=width, scheme=scheme):
            wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wider <= 0, (where, width, scheme)

        page.goto("/admin/refills/refill/export/settled/")
        fits("export")
        page.goto("/admin/refills/refill/list/")
        page.get_by_label("Ids or numbers").fill("\n".join(refill.pk for refill in queue) + ",2000")
        page.wait_for_timeout(1100)
        page.get_by_role("button", name="Preview").click()
        expect(page.get_by_text("12 of 12 can be settled.")).to_be_visible()
        fits("list")
        select(page, queue[:2])
        page.get_by_label("Select action to run").select_option("reject")
        fits("bar")
