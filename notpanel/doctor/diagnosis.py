"""All checks of an installation, in the order in which an operator sets it up."""

from collections.abc import Iterator

from django.db import Error

from notpanel.doctor import database, settings, surroundings
from notpanel.doctor.checks import Finding, make, make_over
from notpanel.server.checks import Unready, connect


def diagnose(mail_to: str | None = None) -> Iterator[Finding]:
    """Yield what each check finds now. ``mail_to`` is sent a mail, if it is given."""
    yield from map(make, settings.CHECKS)
    yield from _of_database()
    yield from map(make, surroundings.checks(mail_to))


def _of_database() -> Iterator[Finding]:
    reached = "The database can be reached."
    try:
        connection = connect()
    except (Unready, Error) as error:  # Django itself refuses a server that is much too old
        yield Finding("reach", reached, (f"{str(error).rstrip('.')}.",))
        yield from make_over(None, database.CHECKS)
        return
    try:
        yield Finding("reach", reached)
        yield from make_over(connection, database.CHECKS)
    finally:
        connection.close()
