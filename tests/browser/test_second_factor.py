"""Staff set up a second factor and sign in with it, in a real browser."""

import os
import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from django_otp.oath import totp
from django_otp.plugins.otp_totp.models import TOTPDevice
from playwright.sync_api import expect

from tests.browser.conftest import browsing

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("customer")]

PASSWORD = "correct-horse-7"
SHOTS = os.environ.get("SCREENSHOTS")  # a directory to look at the pages in


@pytest.fixture
def account(agent, settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher"]  # which the server has too
    agent.set_password(PASSWORD)
    agent.is_superuser = True
    agent.save()
    return agent


def code_of_the_app():
    return f"{totp(TOTPDevice.objects.get().bin_key):06}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_set_up_sign_in_and_take_away(browser, server, account, width, scheme):
    def look(name):
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        result = Axe().run(page)
        assert result.violations_count == 0, result.generate_report()
        if SHOTS:
            page.screenshot(path=str(Path(SHOTS) / f"{name}-{width}-{scheme}.png"), full_page=True)

    size = {"width": width, "height": 900}
    with browsing(browser, server, account, viewport=size, color_scheme=scheme) as page:
        page.goto("/dashboard/second-factor/")
        look("enable")
        page.get_by_label("Your password").fill(PASSWORD)
        page.get_by_role("button", name="Continue").click()
        expect(page.get_by_role("img", name="QR code")).to_be_visible()
        look("confirm")
        page.get_by_role("textbox", name="Code").fill(code_of_the_app())
        page.get_by_role("button", name="Turn it on").click()
        codes = page.locator("#recovery-codes").inner_text().split()
        assert len(codes) == 10
        look("recovery-codes")
        page.get_by_role("link", name="I have stored them").click()
        expect(page).to_have_url(re.compile("/admin/$"))

    with browsing(browser, server, viewport=size, color_scheme=scheme) as page:
        page.goto("/dashboard/sign-in/")
        look("sign-in")
        page.get_by_label("Username").fill("agent")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("textbox", name="Code")).to_be_focused()
        look("code")
        page.get_by_role("textbox", name="Code").fill(codes[0])
        page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile("/admin/$"))
        expect(page.get_by_text("You have used a recovery code. You have 9 left.")).to_be_visible()

        page.goto("/dashboard/second-factor/")
        look("overview")
        section = page.get_by_role("region", name="Turn it off")
        section.get_by_label("Your password").fill(PASSWORD)
        section.get_by_role("textbox", name="Code").fill(codes[1])
        section.get_by_role("button", name="Turn it off").click()
        expect(page.get_by_role("status")).to_have_text("You now sign in with your password alone.")
        assert not TOTPDevice.objects.exists()
        page.goto("/dashboard/password/")
        look("password")
