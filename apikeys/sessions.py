from django.contrib.sessions.backends import db
from django.contrib.sessions.backends.base import UpdateError
from django.db import InterfaceError, OperationalError


class SessionStore(db.SessionStore):
    """Sessions in the database. SESSION_ENGINE names this module."""

    def save(self, must_create: bool = False) -> None:
        """Save the session. If the database was lost, raises its error.

        Django would assume instead that the session was deleted meanwhile, and answer 400.
        """
        try:
            super().save(must_create)
        except UpdateError as error:
            if isinstance(error.__context__, OperationalError | InterfaceError):
                raise error.__context__ from None
            raise
