import contextlib
import importlib
import os
import shutil
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import Group
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Browser, Page, expect, sync_playwright

from refills.models import Refill
from tests import factories
from tests.server import Server, backends, until

SWITCHES = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
PATIENCE = 30_000  # milliseconds that a busy machine may take for a page; only a failure waits as long
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not on the PATH (apt-get install chromium)")
    # Playwright runs an event loop in this thread, and Django refuses to use the database in such a thread.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture
def agent(transactional_db) -> Any:
    """Return a member of the support staff, with the permissions that the migration grants."""
    # The migration's group is gone as soon as one test has emptied the tables.
    importlib.import_module("refills.migrations.0009_roles").create_roles(apps, None)
    importlib.import_module("refills.migrations.0011_answers_of_suppliers").extend_roles(apps, None)
    agent: Any = factories.Account(username="agent", is_staff=True)
    agent.groups.add(Group.objects.get(name="Support"))
    return agent


@pytest.fixture
def page(browser, agent, server) -> Iterator[Page]:
    """Yield a page of an agent who has signed in."""
    with browsing(browser, server, agent) as page:
        yield page


@pytest.fixture
def page_of_new_server(browser, agent, tmp_path) -> Iterator[Page]:
    """Yield a page like ``page``, of a server that remembers no figures of another test for the start page."""
    server = Server(tmp_path)
    with browsing(browser, server.url, agent) as page:
        yield page
    server.stop()


@pytest.fixture
def queue(agent) -> list[Refill]:
    """Return twelve refills in flight, the oldest first."""
    now, service = timezone.now(), factories.Service(name="Likes")
    for age in range(12, 0, -1):
        factories.Refill(order__service=service, created_at=now - timedelta(hours=age))
    return list(Refill.objects.order_by("created_at"))


@contextlib.contextmanager
def browsing(browser: Browser, url: str, account: Any = None, **options: Any) -> Iterator[Page]:
    """Yield a page of ``account``, signed in, or of a visitor. Fails if the browser reports any error on it."""
    context = browser.new_context(base_url=url, **{"viewport": {"width": 1280, "height": 900}} | options)
    if account:
        client = Client()
        client.force_login(account)
        session = client.cookies[settings.SESSION_COOKIE_NAME]
        context.add_cookies([{"name": session.key, "value": session.value, "url": url}])
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("response", lambda response: complaints.append(response.url) if response.status >= 400 else None)
    try:
        yield page
    finally:
        context.close()
        # What the page had requested may still write, while the tables are emptied for the next test.
        until(lambda: backends("backend_type = 'client backend' AND state <> 'idle' AND pid <> pg_backend_pid()") == 0)
    assert complaints == []
