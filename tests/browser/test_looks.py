"""How the desk looks: wide and narrow, light and dark, and to a screen reader and a keyboard."""

import itertools
from datetime import timedelta

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.db.models import F
from django.utils import timezone
from playwright.sync_api import expect

from orders.models import Order
from refills.models import Dispatch, Refill
from refills.settlement import claim
from tests import factories

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("browser-looks")]

LIST = "/admin/refills/refill/"
SCHEMES = ("light", "dark")
TALLEST_CARD = 180  # pixels


@pytest.fixture
def refills(agent):
    """Return refills in flight: pending, approved, one of the agent's own, one of a colleague's, with long names."""
    now = timezone.now()
    service = factories.Service(name="Followers of the best quality, refilled for as long as the account exists " * 2)
    customer = factories.Account(username="a" * 138 + "@example.com")
    made = [
        factories.Refill(
            order__service=service, order__account=customer, status=status, created_at=now - timedelta(hours=age)
        )
        for age, status in [(30, "pending"), (20, "approved"), (3, "pending"), (2, "pending"), (1, "pending")]
    ]
    settled = {"status": "completed", "created_at": now - timedelta(hours=2), "settled_at": now - timedelta(hours=1)}
    factories.Refill.create_batch(12, order__service=service, order__account=customer, **settled)
    claim([made[2].pk], agent)
    claim([made[3].pk], factories.Account(username="colleague-" + "b" * 130, is_staff=True))
    return made


def addresses(refills):
    order, account = refills[0].order, refills[0].account
    return (
        "/admin/",
        LIST,
        f"{LIST}?status=in_flight",
        f"{LIST}?status=settled",
        f"{LIST}{refills[0].pk}/change/",
        "/admin/time-zone/",
        "/admin/orders/order/",
        f"/admin/orders/order/{order.pk}/change/",
        "/admin/apikeys/account/",
        f"/admin/apikeys/account/{account.pk}/change/",
    )


def overflow(page):
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_nothing_and_nothing_is_wider_than_the_page(page, refills, scheme):
    page.emulate_media(color_scheme=scheme)
    found = []
    for address, width in itertools.product(addresses(refills), (1440, 1024, 390)):
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(address)

        report = Axe().run(page).response["violations"]
        found += [(address, width, rule["id"], [node["html"] for node in rule["nodes"]][:3]) for rule in report]
        if overflow(page) > 0:
            found.append((address, width, "wider than the page", []))

    assert found == []


@pytest.mark.parametrize("width", [1440, 1280, 1024, 390])
def test_long_names_push_no_button_out_of_view_and_complete_stays_in_one_column(page, refills, width):
    Refill.objects.update(number=F("number") + 10**6)
    Order.objects.update(number=F("number") + 2 * 10**9)
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{LIST}?status=in_flight")

    page.wait_for_function(
        """width => [...document.querySelectorAll("#result_list .desk-buttons :is(button, a)")].every(button => {
            const box = button.getBoundingClientRect();
            return box.left >= 0 && box.right <= width;
        })""",
        arg=width,
    )
    completes = [button.bounding_box() for button in page.get_by_role("button", name="Complete").all()]

    assert len(completes) == 4  # all but the one that a colleague has taken
    assert len({round(box["x"]) for box in completes}) == 1
    names = page.locator("#result_list .field-customer")
    assert {name.evaluate("cell => getComputedStyle(cell).textOverflow") for name in names.all()} == {"ellipsis"}
    assert names.first.get_by_title(refills[0].account.username).count() == 1


@pytest.mark.parametrize("width", [390, 768])
def test_a_refill_is_a_low_card_on_a_narrow_screen_with_its_buttons_in_one_row(page, refills, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{LIST}?status=in_flight")

    cards = page.locator("#result_list .data-row").all()

    assert len(cards) == len(refills)
    for card in cards:
        assert card.bounding_box()["height"] <= TALLEST_CARD
        middles = {
            round(box["y"] + box["height"] / 2)
            for box in (button.bounding_box() for button in card.locator(".desk-buttons :is(button, a)").all())
        }
        assert len(middles) == 1


def test_everything_in_the_frame_of_a_page_is_reached_by_the_keyboard(page, refills):
    page.goto(LIST)
    names = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        names.add(page.evaluate("document.activeElement.ariaLabel || document.activeElement.innerText.trim()"))

    assert {"Skip to the content", "Sidebar", "Filters\nfilter_list"} <= names
    assert any("agent" in name for name in names)  # the menu of the user


def test_the_skip_link_leads_past_the_navigation(page, refills):
    page.goto(LIST)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")

    assert page.evaluate("document.activeElement.closest('main') !== null")


def test_the_menu_of_the_user_opens_by_keyboard_and_changes_colours_and_time_zone(page, refills):
    page.goto("/admin/")
    menu = page.get_by_role("button", name="agent")
    menu.focus()
    page.keyboard.press("Enter")
    expect(menu).to_have_attribute("aria-expanded", "true")

    page.get_by_role("button", name="Dark").press("Enter")
    expect(page.locator("html")).to_have_class("dark")
    page.locator("#user-links").get_by_role("link", name="My time zone").press("Enter")
    page.get_by_label("Time zone").select_option("Asia/Tokyo")
    page.get_by_role("button", name="Save").click()

    expect(page.get_by_text("The desk now shows times in Asia/Tokyo.")).to_be_visible()
    expect(page.get_by_role("main").get_by_text("JST")).to_be_visible()


def test_the_chart_is_drawn_and_is_a_table_as_well(page_of_new_server, refills):
    page = page_of_new_server
    page.goto("/admin/")

    chart = page.get_by_role("img", name="17 refills were requested")
    expect(chart).to_be_visible()
    heights = [bar.bounding_box()["height"] for bar in chart.locator("rect.completed").all()]
    assert sum(heights) > 0
    page.get_by_text("The same figures as a table").click()
    expect(page.get_by_role("columnheader", name="In flight at its end")).to_be_visible()


def test_on_a_telephone_the_three_figures_of_today_are_in_one_row_and_hold_their_titles(page, refills):
    page.set_viewport_size({"width": 390, "height": 900})
    page.goto("/admin/")

    for row in page.locator(".desk-three").all():
        cards = [card.bounding_box() for card in row.locator(":scope > *").all()]
        titles = [title.bounding_box() for title in row.locator("h2").all()]
        assert len({card["y"] for card in cards}) == 1
        assert len(cards) == len(titles) == 3
        for card, title in zip(cards, titles, strict=True):
            assert title["x"] + title["width"] <= card["x"] + card["width"] - 8


def test_a_row_that_cannot_be_selected_does_not_begin_as_if_it_could(page, agent, refills):
    now, supplier = timezone.now(), factories.Supplier()
    Dispatch.objects.create(
        refill=refills[0], supplier=supplier, state="unclear", on_approval=False, attempts=1, sent_at=now, asked_at=now
    )
    page.set_viewport_size({"width": 390, "height": 900})
    page.goto("/admin/refills/dispatch/")

    cells = page.locator("#result_list tbody td")
    labels = cells.evaluate_all("all => all.map(cell => getComputedStyle(cell, '::before').content)")
    assert labels[:2] == ["none", '"supplier"']
