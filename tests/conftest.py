import io
import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from html import unescape
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.messages import get_messages
from django.core.cache import caches
from django.db import ProgrammingError, connection, connections
from django.test import Client, TransactionTestCase

from apikeys.keys import create_api_key
from apikeys.models import Account, ApiKey
from refills.settlement import StatusChange, change_status
from tests import factories

# Every test can use the fixtures of these modules without an import.
pytest_plugins = ["tests.server", "tests.redis_server", "tests.pgbouncer"]

FORM = "application/x-www-form-urlencoded"
TIME_LIMIT = "1min"  # of a statement, and of its wait for a lock

# Triggers that keep the history are out of force meanwhile, and keys of other tables too.
EMPTY_TABLES = """
DO $$
DECLARE name text;
BEGIN
    SET LOCAL session_replication_role = replica;
    FOR name IN
        SELECT tablename FROM pg_tables WHERE schemaname = 'public'
            AND tablename NOT IN ('django_migrations', 'django_content_type', 'auth_permission')
    LOOP
        EXECUTE format('DELETE FROM %I', name);
    END LOOP;
END $$
"""


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker):
    """Let a COMMIT in the tests' database return before it is on the disk: no test ends PostgreSQL under it.

    On a busy machine fifty requests may wait for one lock longer than in production: here they may, for a minute.
    """
    options = connection.settings_dict["OPTIONS"]
    options["pool"]["timeout"] = 60
    if "options" in options:  # not through PgBouncer
        options["options"] += f" -c lock_timeout={TIME_LIMIT} -c statement_timeout={TIME_LIMIT}"
    with django_db_blocker.unblock():
        name = connection.ops.quote_name(connection.settings_dict["NAME"])
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
        connection.close()
        connection.close_pool()  # what connects from now on has the new setting


@pytest.fixture(scope="session", autouse=True)
def _empty_tables_quickly():
    """Empty tables by DELETE after tests that commit: Django's TRUNCATE takes longer than most of these tests."""
    truncate = TransactionTestCase._fixture_teardown

    def empty(test_case):
        try:
            for alias in test_case._databases_names(include_mirrors=False):
                with connections[alias].cursor() as cursor:
                    cursor.execute(EMPTY_TABLES)
        except ProgrammingError:  # the role of DATABASE_URL is no superuser
            truncate(test_case)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", empty)
        yield


@pytest.fixture(autouse=True)
def _quick_and_clean(settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.STORAGES = {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
    for name in settings.CACHES:
        caches[name].clear()


@dataclass
class Customer:
    """A customer with an API key. ``post`` calls the API as the customer's program does."""

    account: Account
    api_key: ApiKey
    raw_key: str

    def post(self, action: str | None = None, **parameters: Any) -> Any:
        return post(key=self.raw_key, **({"action": action} if action else {}), **parameters)

    def refill(self, order: Any) -> Any:
        return self.post("refill", order=getattr(order, "pk", order)).json()


def post(**parameters: Any) -> Any:
    return Client().post("/api/v2", urlencode(parameters), content_type=FORM)


def post_json(body: Any) -> Any:
    return Client().post(
        "/api/v2", body if isinstance(body, bytes) else json.dumps(body), content_type="application/json"
    )


def settle(
    ids: Any,
    to: Any,
    by: Any,
    note: str = "",
    *,
    reason: Any = None,
    delivered: Any = None,
    words: str | None = None,
    confirmed: bool = False,
    **how: Any,
) -> Any:
    """Give refills (ids) a status, as staff do. A rejection has words for the customer unless others are given."""
    if words is None:
        words = "Nothing dropped." if to == "rejected" and reason is None else ""
    change = StatusChange(to, note, reason, delivered, words, delivered_confirmed=confirmed)
    return change_status(ids, change, by, **how)


def new_customer(**fields: Any) -> Customer:
    account: Any = factories.Account(**fields)
    return Customer(account, *create_api_key(account))


@pytest.fixture
def customer(db) -> Customer:
    return new_customer()


@pytest.fixture
def customers(db) -> Callable[..., Customer]:
    return new_customer


@pytest.fixture
def staff(db) -> Any:
    return factories.Account(username="agent", is_staff=True, is_superuser=True)


class Log:
    """What the handler of settings.LOGGING has written since the test began."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    def clear(self) -> None:
        self.stream.seek(0)
        self.stream.truncate()

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    def records(self, logger: str = "") -> list[dict[str, Any]]:
        """Return the lines as they are parsed, those of ``logger`` if it is given."""
        records = [json.loads(line) for line in self.lines]
        return [record for record in records if logger in ("", record["logger"])]

    @property
    def requests(self) -> list[dict[str, Any]]:
        return self.records("notpanel.request_log")

    @property
    def security(self) -> list[dict[str, Any]]:
        return self.records("notpanel.security")


@pytest.fixture
def log():
    [handler] = [handler for handler in logging.getLogger().handlers if type(handler) is logging.StreamHandler]
    log = Log()
    before = handler.setStream(log.stream)
    yield log
    handler.setStream(before)


def messages_of(response: Any) -> list[str]:
    """Return what the messages of a response say, without their buttons."""
    sent = get_messages(response.wsgi_request)
    texts = [re.sub(r"<button.*?</button>|<[^>]+>", "", str(message), flags=re.DOTALL) for message in sent]
    return [" ".join(unescape(text).split()) for text in texts]


def end(response: Any) -> None:
    """End a stream that a test does not read, as a server does. The end of its query would disturb a later test."""
    for close in response._resource_closers:
        close()
