"""Limit wrong passwords: so many in a quarter of an hour.

An attempt is counted before its password is checked, so that attempts at the same time cannot exceed a limit together.
An attempt with the right password is counted again, as right. The difference of the two counts is limited.
"""

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django_ratelimit.core import get_usage

from apikeys.models import Account
from apikeys.refusals import TooManyAttempts
from notpanel.kit.addresses import client_address, counted

PERIOD = 15 * 60  # seconds

View = Callable[..., HttpResponseBase]


def begin(group: str, value: str, limit: int) -> int:
    """Count an attempt on ``value``. Returns 0 if it is allowed, and else the seconds to wait for the next one."""
    begun, right = _usage(group, value, limit), _usage(f"{group}:right", value, limit, count=False)
    if begun["count"] and begun["count"] - right["count"] <= limit:  # it is 0 if the attempt could not be counted
        return 0
    # The window includes the second in which it ends.
    return int(max(begun["time_left"], 0)) + 1


def succeed(group: str, value: str, limit: int) -> None:
    """Count an attempt, which ``begin`` has counted, as right."""
    _usage(f"{group}:right", value, limit)


def _usage(group: str, value: str, limit: int, *, count: bool = True) -> dict[str, Any]:
    # The window depends on the value alone, so that it is the same for the two counts.
    return get_usage(
        None, group=f"attempts:{group}", key=lambda group, request: value, rate=(limit, PERIOD), increment=count
    )


@contextmanager
def proving_the_password_of(account: Account) -> Iterator[None]:
    """Wrap the check of the password of a user who is signed in. The check raises if the password is wrong.

    Raises TooManyAttempts. These attempts are counted apart from those to sign in, which anybody can make in the name
    of the account.
    """
    counter = ("password", str(account.pk), settings.ATTEMPTS_PER_NAME)
    if wait := begin(*counter):
        raise TooManyAttempts(wait)
    yield
    succeed(*counter)


def posted(field: str) -> Callable[[HttpRequest], str]:
    """Return a function that reads the name from a field of the POSTed form."""
    return lambda request: request.POST.get(field, "")


def limit_attempts(
    group: str, name_of: Callable[[HttpRequest], str], is_right: Callable[[HttpResponseBase], bool]
) -> Callable[[View], View]:
    """Limit the POSTs to a view by address and by name, whether or not the name has an account.

    ``name_of`` reads the name from the request. ``is_right`` tells from the answer whether the attempt was right.
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


# Both sign-in forms, the site's and the admin's, redirect after a right password. A wrong one shows the form again.
limit_sign_in = limit_attempts("sign-in", posted("username"), lambda answer: answer.status_code == 302)
# The answer is the same whether or not the address belongs to an account.
limit_resets = limit_attempts("reset", posted("email"), lambda answer: False)
