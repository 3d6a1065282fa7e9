"""A session that cannot be saved because the database is lost is not mistaken for one that has ended."""

import pytest
from django.contrib.sessions.backends.base import UpdateError
from django.db import OperationalError, connection
from django.test import Client
from django.urls import reverse

from apikeys.sessions import SessionStore


@pytest.fixture
def lost():
    """Return a wrapper that loses the database at each statement that changes a session."""

    def execute_or_lose(execute, sql, *arguments):
        if sql.startswith('UPDATE "django_session"'):
            raise OperationalError("No space left on device")
        return execute(sql, *arguments)

    return connection.execute_wrapper(execute_or_lose)


def test_the_error_of_the_database_is_raised(db, lost):
    session = SessionStore()
    session["name"] = "value"
    session.create()

    with lost, pytest.raises(OperationalError, match="No space left"):
        session.save()


def test_a_session_that_was_deleted_meanwhile_has_ended(db):
    session = SessionStore()
    session.create()
    SessionStore(session.session_key).delete()

    with pytest.raises(UpdateError):
        session.save()


def test_a_page_says_that_the_site_is_unavailable(staff, lost, settings):
    settings.SESSION_SAVE_EVERY_REQUEST = True
    browser = Client(raise_request_exception=False)
    browser.force_login(staff)

    with lost:
        answer = browser.get(reverse("admin:index"), secure=True)

    assert answer.status_code == 503
    assert answer["Retry-After"]
