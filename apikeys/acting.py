"""Who is acting, and from where: what the audit log says about the request that is being answered."""

import contextvars
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.http import HttpRequest

from notpanel.kit.addresses import client_address

_request: contextvars.ContextVar[HttpRequest | None] = contextvars.ContextVar("acting_request", default=None)


@contextmanager
def through(request: HttpRequest) -> Iterator[None]:
    """Record ``request`` as the one through which somebody acts. Its user is looked up only when asked for."""
    token = _request.set(request)
    try:
        yield
    finally:
        _request.reset(token)


def account_id() -> int | None:
    """Return the id of the account that is acting, or None if nobody has signed in or a command runs on the server."""
    user: Any = getattr(_request.get(), "user", None)
    return None if user is None or user.is_anonymous else int(user.pk)


def address() -> str | None:
    """Return the address of the client that is acting, or None if a command runs on the server."""
    request = _request.get()
    found = client_address(request) if request is not None else None
    return None if found is None else str(found)


def is_through_a_page() -> bool:
    """Return whether somebody acts through a page rather than by a command."""
    return _request.get() is not None
