"""A customer's day: keys, refills, and the pages that teach the API, in a real browser."""

import ast
import json
import re
import shutil
import subprocess
import sys

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from apikeys.keys import ApiKeyDetails, create_api_key
from refills.models import Refill
from tests import factories
from tests.browser.conftest import browsing
from tests.conftest import new_customer, settle

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("customer")]

PASSWORD = "correct-horse-7"
PAGES = [
    "/dashboard/",
    "/dashboard/orders/",
    "/dashboard/orders/list/",
    "/dashboard/refills/",
    "/dashboard/api/",
    "/dashboard/email/",
    "/dashboard/password/",
    "/developers/",
    "/developers/authentication/",
    "/developers/refill/",
    "/developers/services/",
    "/developers/rate-limits/",
    "/developers/errors/",
    "/developers/trying-again/",
    "/developers/missing/",
    "/developers/moving/",
    "/developers/reference/",
    "/developers/changelog/",
]
OF_VISITORS = ["/dashboard/sign-in/", "/dashboard/password/reset/", "/dashboard/password/reset/sent/"]


@pytest.fixture
def customer(transactional_db, settings):
    settings.PASSWORD_HASHERS = [
        "django.contrib.auth.hashers.PBKDF2PasswordHasher"
    ]  # the hasher of the server's own process
    customer = new_customer(username="anna")
    customer.account.set_password(PASSWORD)
    customer.account.save()
    return customer


@pytest.fixture
def page(browser, customer, server):
    with browsing(browser, server, customer.account) as page:
        yield page


def shell(program, **options):
    """Run a program. Returns what it prints."""
    run = subprocess.run(program, capture_output=True, text=True, check=False, **options)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_create_a_key_call_the_api_with_the_text_shown_rotate_it_and_see_the_old_one_refused(page, customer):
    page.goto("/dashboard/api/")
    page.get_by_label("Name").fill("shop")
    page.get_by_label("Your password").fill(PASSWORD)
    page.get_by_role("button", name="Generate").click()
    old = page.locator("#raw-key").inner_text()
    line = page.locator("#curl").inner_text()
    assert json.loads(shell(["bash", "-c", line])) == []

    page.get_by_role("link", name="All keys").click()
    page.get_by_role("row", name="shop").get_by_role("link").click()
    page.get_by_label("Your password").fill(PASSWORD)
    page.get_by_role("button", name="Rotate").click()

    new = page.locator("#raw-key").inner_text()
    assert json.loads(shell(["bash", "-c", page.locator("#curl").inner_text()])) == []
    assert json.loads(shell(["bash", "-c", line])) == {"error": "Invalid API key"}
    assert new != old
    page.goto("/dashboard/api/")
    assert new not in page.content()


def test_sign_in_by_keyboard(browser, customer, server):
    with browsing(browser, server) as page:
        page.goto("/dashboard/orders/")
        expect(page.get_by_label("Username")).to_be_focused()
        page.keyboard.type("anna")
        page.keyboard.press("Tab")
        page.keyboard.type(PASSWORD)
        page.keyboard.press("Enter")

        expect(page.get_by_role("heading", name="Orders")).to_be_visible()


def test_request_a_refill_from_the_orders_and_see_it_in_the_history(page, customer):
    order = factories.Order(account=customer.account)
    page.goto("/dashboard/orders/")

    page.get_by_role("button", name=f"Refill order {order.pk}").click()

    refill = Refill.objects.get()
    expect(page.get_by_role("status")).to_have_text(f"Requested {refill.pk} for {order.pk}.")
    expect(page.get_by_role("button", name="Refill order")).to_have_count(0)
    page.get_by_role("link", name="Refills", exact=True).click()
    expect(page.get_by_role("row", name=refill.pk)).to_contain_text("pending")


def test_refill_a_pasted_list(page, customer):
    order = factories.Order(account=customer.account)
    page.goto("/dashboard/orders/list/")

    page.get_by_label("IDs or numbers of orders").fill(f"{order.number}\n999999")
    page.get_by_role("button", name="Request refills").click()

    expect(page.get_by_role("status")).to_have_text("Requested refills for 1 of 2 orders.")
    expect(page.get_by_role("row", name=str(order.number))).to_contain_text(Refill.objects.get().pk)
    expect(page.get_by_role("row", name="999999")).to_contain_text("Order not found")


def test_everything_but_copying_and_trying_works_without_javascript(browser, customer, server):
    order = factories.Order(account=customer.account)
    with browsing(browser, server, customer.account, java_script_enabled=False) as page:
        page.goto("/dashboard/orders/")
        page.get_by_role("button", name="Refill order").click()
        expect(page.get_by_role("status")).to_contain_text(order.pk)

        page.goto("/developers/refill/")
        page.locator("summary", has_text="Python").first.click()
        expect(page.locator("code[data-language=Python]").first).to_be_visible()
        expect(page.locator("form[data-try-it]")).to_be_hidden()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def like(value):
    """Return ``value`` as JSON, with a placeholder for each id that is new in every run."""
    return re.sub(r"ref_\w{26}", "ref_…", json.dumps(value))


class TestExamples:
    """Run the examples of each action in turn, exactly as its page shows them once a key is typed in."""

    # For each language, what runs a program and what reads its output.
    RUN = {
        "curl": (["bash", "-c"], json.loads),
        "JavaScript": (["node", "--input-type=module", "-e"], lambda text: json.loads(as_json(text))),
        "Python": ([sys.executable, "-c"], ast.literal_eval),
    }

    @pytest.mark.parametrize("language", RUN)
    @pytest.mark.parametrize("action", ["refill", "refill_status", "status", "services"])
    def test_the_examples_get_the_responses_printed_next_to_them(self, page, customer, language, action):
        program, read = self.RUN[language]
        if shutil.which(program[0]) is None:
            pytest.skip(f"there is no {program[0]} on the PATH")
        # The service in the example response of action=services.
        service = factories.Service(id=1, name="Followers, refilled for 30 days", refill_days=30)
        factories.Order.create_batch(2, account=customer.account, service=service, remains=None)
        factories.Refill(order__account=customer.account, order__service=service, status="approved")
        page.goto(f"/developers/{action}/")
        page.get_by_label("Key").fill(customer.raw_key)

        for example in page.locator("section.example").all():
            text = example.locator(f"code[data-language={language}]").text_content()
            printed = json.loads(example.locator("code[data-response]").text_content())
            assert customer.raw_key in text
            assert like(read(shell([*program, text]))) == like(printed)
        assert Refill.objects.count() == (3 if action == "refill" else 1)


def as_json(text):
    """Turn an object as node prints it into JSON."""
    return re.sub(r"([{,]\s*)(\w+):", r'\1"\2":', text.replace("'", '"'))


class TestTryIt:
    def test_the_form_sends_the_request_and_shows_the_answer(self, page, customer):
        factories.Order(account=customer.account)
        page.goto("/developers/refill/")

        page.get_by_label("Key").fill(customer.raw_key)
        page.get_by_role("button", name="Send the request").click()

        expect(page.locator("[data-answer-status]")).to_have_text("200")
        expect(page.locator("[data-answer-body]")).to_contain_text(Refill.objects.get().pk)
        expect(page.locator("[data-answer-headers]")).to_contain_text("x-ratelimit-remaining: ")
        expect(page.locator("[data-answer-headers]")).to_contain_text("x-request-id: ")

    def test_the_key_is_gone_when_the_page_is_left(self, page, customer):
        page.goto("/developers/services/")
        page.get_by_label("Key").fill(customer.raw_key)

        page.reload()

        expect(page.get_by_label("Key")).to_have_value("")
        assert customer.raw_key not in page.url
        assert page.evaluate("localStorage.length + sessionStorage.length") == 0

    def test_a_page_kept_for_the_back_button_has_no_key(self, page, customer):
        page.goto("/developers/services/")
        before = page.locator("main").inner_text()
        page.get_by_label("Key").fill(customer.raw_key)
        page.get_by_role("button", name="Send the request").click()
        expect(page.locator("[data-answer-status]")).to_have_text("200")
        assert customer.raw_key in page.locator("main").inner_text()

        # Playwright's browser keeps no page, so send the event that a kept page gets.
        page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', {persisted: true}))")

        expect(page.get_by_label("Key")).to_have_value("")
        assert page.locator("main").inner_text() == before


def test_a_copy_button_copies_the_code_that_is_shown(page, customer):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto("/developers/services/")

    page.get_by_role("button", name="Copy").first.click()

    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    shown = page.locator("code[data-language=curl]").first.text_content()
    assert page.evaluate("navigator.clipboard.readText()") == shown


def test_the_refused_of_a_long_list_are_copied_without_scrolling_past_them(page, customer):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    refused = "\n".join(str(number) for number in range(1000, 1250))
    page.set_viewport_size({"width": 390, "height": 900})
    page.goto("/dashboard/orders/list/")
    page.get_by_label("IDs or numbers of orders").fill(refused)
    page.get_by_role("button", name="Request refills").click()

    page.get_by_text("250: Order not found").click()
    copy = page.get_by_role("button", name="Copy the refused: Order not found")
    expect(copy).to_be_in_viewport()
    copy.click()

    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == refused


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_are_accessible_and_fit_from_390_to_1920(browser, customer, server, scheme):
    account = customer.account
    refill = factories.Refill(order__account=account)
    factories.Order(account=account, link="https://example.com/" + "a" * 300)
    factories.Refill(order__account=account, status="completed")
    factories.Order(account=account, status="processing", service__name="W" * 255)
    key_page = f"/dashboard/api/{customer.api_key.pk}/"
    order_page = f"/dashboard/orders/{refill.order_id}/"
    of_this = [key_page, order_page, f"{key_page}change/", f"/dashboard/refills/?q={refill.pk}"]
    with browsing(browser, server, account, color_scheme=scheme) as page:
        found = {path: look(page, path) for path in [*PAGES, *of_this]}
        page.context.clear_cookies()
        found |= {path: look(page, path) for path in OF_VISITORS}
    assert {path: faults for path, faults in found.items() if faults} == {}


def look(page, path):
    """Return what is wrong with a page."""
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(path)
    violations = Axe().run(page).response["violations"]
    faults = [
        f"{each['id']}: {node['html']}"
        for each in violations
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]
    for width in (390, 768, 1920):
        page.set_viewport_size({"width": width, "height": 900})
        if (needed := page.evaluate("document.documentElement.scrollWidth")) > width:
            faults.append(f"it is {needed} wide at {width}")
    return faults


def test_a_form_error_is_announced_to_screen_readers(page, customer):
    page.goto("/dashboard/api/")
    page.get_by_label("Name").fill("shop")
    page.get_by_label("Your password").fill("wrong")
    page.get_by_role("button", name="Generate").click()

    password = page.get_by_label("Your password")
    expect(password).to_have_attribute("aria-invalid", "true")
    described = password.get_attribute("aria-describedby")
    expect(page.locator(f"#{described.split()[-1]}")).to_have_text(
        "This is not your password. Enter the one that you sign in with."
    )


@pytest.mark.parametrize("width", [390, 768, 1024, 1280])
class TestNoSidewaysScrolling:
    """The main thing on a page is in view without scrolling sideways, however long a name is."""

    @pytest.fixture
    def page(self, page, width):
        page.set_viewport_size({"width": width, "height": 900})
        return page

    def assert_in_view(self, page, *found):
        view = page.locator("main").bounding_box()
        for each in found:
            box = each.bounding_box()
            assert box["x"] >= view["x"]
            assert box["x"] + box["width"] <= view["x"] + view["width"]

    def test_the_refill_button_is_in_view(self, page, customer):
        factories.Order(account=customer.account, link=f"https://example.com/{'a' * 300}", service__name="W" * 255)
        page.goto("/dashboard/orders/")

        self.assert_in_view(
            page, page.get_by_text("completed", exact=True).last, page.get_by_role("button", name="Refill order")
        )

    @pytest.mark.parametrize("path", ["/dashboard/", "/dashboard/refills/"])
    def test_the_status_of_a_refill_is_in_view(self, page, customer, path):
        refill = factories.Refill(order__account=customer.account, order__service__name="W" * 255)
        page.goto(path)

        row = page.get_by_role("row", name=refill.pk)
        self.assert_in_view(page, row.get_by_text("pending", exact=True), *row.get_by_role("cell").all())

    def test_the_result_of_a_pasted_list_is_in_view(self, page, customer):
        order = factories.Order(account=customer.account)
        page.goto("/dashboard/orders/list/")
        page.get_by_label("IDs or numbers of orders").fill(f"{order.pk}\n{'x' * 100}")
        page.get_by_role("button", name="Request refills").click()

        self.assert_in_view(
            page, page.get_by_text(Refill.objects.get().pk), page.get_by_role("cell", name="Order not found")
        )

    def test_the_link_to_a_key_is_in_view(self, page, customer):
        networks = ("203.0.113.0/24", "198.51.100.0/24", "192.0.2.0/24", "2001:db8:1234:5678::/64")
        key, _ = create_api_key(customer.account, ApiKeyDetails("w" * 80, networks))
        page.goto("/dashboard/api/")

        self.assert_in_view(page, page.get_by_role("link", name=f"Manage {key}"))

    def test_a_new_key_is_in_view(self, page, customer):
        page.goto("/dashboard/api/")
        page.get_by_label("Name").fill("w" * 80)
        page.get_by_label("Your password").fill(PASSWORD)
        page.get_by_role("button", name="Generate").click()

        key = page.locator("#raw-key")
        self.assert_in_view(page, key)
        assert key.evaluate("code => code.parentElement.scrollWidth <= code.parentElement.clientWidth")


def test_fifty_orders_are_a_short_page_on_a_phone(page, customer):
    name, link = (
        "Followers of the best quality, refilled for 30 days",
        "https://www.example.com/a.long.name.of.someone/",
    )
    services = factories.Service(name=name, refill_days=30), factories.Service(name=name, refill=False)
    for number in range(50):
        status = ("completed", "in_progress", "partial")[number % 3]
        order = factories.Order(
            account=customer.account, service=services[number % 7 == 0], status=status, link=link, number=10**8 + number
        )
        if number % 6 == 0:
            factories.Refill(order=order)
    page.set_viewport_size({"width": 390, "height": 900})
    page.goto("/dashboard/orders/")

    assert page.locator(".orders tbody tr").count() == 50
    assert page.evaluate("document.documentElement.scrollHeight") < 6000


def test_the_language_that_was_chosen_opens_on_each_page_from_then_on(page, customer):
    page.goto("/developers/refill/")
    page.locator("summary", has_text="Python").last.click()

    expect(page.locator("code[data-language=Python]:visible")).to_have_count(2)
    expect(page.locator("code[data-language=curl]:visible")).to_have_count(0)
    page.goto("/developers/status/")
    expect(page.locator("code[data-language=Python]:visible")).to_have_count(2)
    page.goto("/developers/trying-again/")
    expect(page.locator("code[data-language=Python]")).to_be_visible()
    page.locator("summary", has_text="Ruby").click()
    page.goto("/developers/refill/")  # it is not printed in Ruby
    expect(page.locator("code[data-language=curl]:visible")).to_have_count(2)


def test_a_program_can_be_closed(page, customer):
    page.goto("/developers/trying-again/")
    page.locator("summary", has_text="JavaScript").click()

    expect(page.locator("code[data-language]:visible")).to_have_count(0)


def test_programs_are_coloured_also_with_a_key_in_them(page, customer):
    page.goto("/developers/refill/")
    page.get_by_label("Key", exact=True).fill("np_mine")

    coloured = page.evaluate("[...CSS.highlights.get('string')].map(String)")

    assert any('"key=np_mine&action=refill' in text for text in coloured)
    assert '"POST"' in coloured
    assert "np_mine" in page.locator("code[data-language=curl]").first.inner_text()


def test_errors_are_cards_on_a_phone_and_a_table_elsewhere(page, customer):
    page.goto("/developers/errors/")
    row = page.get_by_role("row", name="Rate limit exceeded")
    body, cause = row.get_by_role("cell").nth(1), row.get_by_role("cell").nth(2)

    assert body.bounding_box()["y"] == cause.bounding_box()["y"]
    for width in (1024, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert cause.bounding_box()["y"] >= body.bounding_box()["y"] + body.bounding_box()["height"]


def test_fifty_refills_are_a_short_page_on_a_phone(page, customer, staff):
    service = factories.Service(name="Followers of the best quality, refilled for 30 days")
    for number in range(50):
        order = factories.Order(account=customer.account, service=service, number=10**8 + number)
        refill = factories.Refill(order=order)
        if number % 3:
            settle([refill.pk], ("completed", "rejected")[number % 2], staff)
    page.set_viewport_size({"width": 390, "height": 900})
    page.goto("/dashboard/refills/")

    assert page.locator(".refills tbody tr").count() == 50
    expect(page.get_by_text("Nothing dropped.").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollHeight") < 6000


def test_a_link_to_a_schema_opens_it_without_a_script(browser, customer, server):
    with browsing(browser, server, java_script_enabled=False) as page:
        page.goto("/developers/reference/")
        schema = page.locator("#RefillRequest")
        expect(schema).to_be_hidden()

        page.get_by_role("link", name="RefillRequest", exact=True).click()

        expect(schema).to_be_in_viewport()


def test_a_copy_button_covers_no_code_and_says_what_it_copies(page, customer):
    page.set_viewport_size({"width": 768, "height": 900})
    page.goto("/developers/refill/")

    button = page.get_by_role("button", name="Copy curl: One order").bounding_box()
    code = page.locator("pre", has=page.locator("code[data-language=curl]")).first.bounding_box()

    assert code["x"] + code["width"] <= button["x"]


def test_revoking_a_key_takes_a_second_click(page, customer):
    page.goto(f"/dashboard/api/{customer.api_key.pk}/")
    revoke = page.get_by_role("button", name=f"Revoke {customer.api_key} for good")
    expect(revoke).to_be_hidden()

    page.get_by_text("Revoke this key").click()
    revoke.click()

    expect(page.get_by_role("status")).to_contain_text("is revoked")
