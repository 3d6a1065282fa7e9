from django.contrib.sessions.backends import db
from django.contrib.sessions.backends.base import UpdateError
from django.db import InterfaceError, OperationalError


class SessionStore(db.SessionStore):
    """Sessions in the database. SESSION_ENGINE names this module."""

    def save(self, must_create: bool = False) -> None:
        """Save the session. Raises what the database raised if it was lost.

        Django would take such a session for one that was deleted meanwhile, and answer 400.
        """
        try:
            super().save(must_create)
        except UpdateError as error:
            if isinstance(error.__context__, OperationalError | InterfaceError):
                raise error.__context__ from None
            raise
