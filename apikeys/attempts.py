"""Limits on wrong attempts to prove who one is, in a quarter of an hour.

An attempt is counted before its password is looked at, so that no number of attempts at once gets past a limit. A right
one is counted once more, as right: what is limited is the attempts that were not.
"""

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django_ratelimit.core import get_usage

from apikeys.models import Account
from notpanel.kit.addresses import client_address, counted

PERIOD = 15 * 60  # seconds

View = Callable[..., HttpResponseBase]


class TooManyAttempts(ValidationError):
    """No password is looked at for ``wait`` seconds."""

    def __init__(self, wait: int) -> None:
        self.wait = wait
        minutes = math.ceil(wait / 60)
        super().__init__(f"Too many wrong passwords. Try it again in {minutes} minute{'s' if minutes > 1 else ''}.")


def begin(group: str, value: str, limit: int) -> int:
    """Count an attempt on ``value``. Returns the seconds to wait until one is allowed, 0 if this one is."""
    begun, right = _usage(group, value, limit), _usage(f"{group}:right", value, limit, count=False)
    if begun["count"] and begun["count"] - right["count"] <= limit:  # it is 0 where it could not be counted
        return 0
    # A window of django-ratelimit includes the second in which it ends.
    return int(max(begun["time_left"], 0)) + 1


def succeed(group: str, value: str, limit: int) -> None:
    """Count an attempt that was begun as a right one."""
    _usage(f"{group}:right", value, limit)


def _usage(group: str, value: str, limit: int, *, count: bool = True) -> dict[str, Any]:
    # Its window depends on the value alone: that of the right attempts is that of all.
    return get_usage(
        None, group=f"attempts:{group}", key=lambda group, request: value, rate=(limit, PERIOD), increment=count
    )


@contextmanager
def proving_the_password_of(account: Account) -> Iterator[None]:
    """Around the check of the password of who is signed in, which raises if it is wrong. Raises TooManyAttempts.

    Counted apart from signing in, for which everybody may name the account.
    """
    counter = ("password", str(account.pk), settings.ATTEMPTS_PER_NAME)
    if wait := begin(*counter):
        raise TooManyAttempts(wait)
    yield
    succeed(*counter)


def posted(field: str) -> Callable[[HttpRequest], str]:
    """Return what finds the name in a field of the form that was POSTed."""
    return lambda request: request.POST.get(field, "")


def limit_attempts(
    group: str, name_of: Callable[[HttpRequest], str], is_right: Callable[[HttpResponseBase], bool]
) -> Callable[[View], View]:
    """Limit what is POSTed to a view, counted on the address and on the name, whether or not there is such an account.

    ``name_of`` finds the name in the request; ``is_right`` tells from the view's answer whether the attempt was right.
    """

    def decorate(view: View) -> View:
        @functools.wraps(view)
        def limited(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
            if request.method != "POST":
                return view(request, *args, **kwargs)
            counters = (
                (f"{group}:address", counted(client_address(request)), settings.ATTEMPTS_PER_ADDRESS),
                (f"{group}:name", name_of(request).strip().casefold(), settings.ATTEMPTS_PER_NAME),
            )
            if wait := max([begin(*each) for each in counters]):
                response = render(request, "too_many_attempts.html", {"minutes": math.ceil(wait / 60)}, status=429)
                response["Retry-After"] = str(wait)
                return response
            answer = view(request, *args, **kwargs)
            if is_right(answer):
                for each in counters:
                    succeed(*each)
            return answer

        return limited

    return decorate


# The site's form and the admin's send on whoever gave the right password, and show all others the form again.
limit_sign_in = limit_attempts("sign-in", posted("username"), lambda answer: answer.status_code == 302)
# Nobody learns whether it was an account's address.
limit_resets = limit_attempts("reset", posted("email"), lambda answer: False)
