"""Limits on attempts to prove who one is: per address, and per name, whether or not there is such an account."""

import functools
import math
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django_ratelimit.core import get_usage

from notpanel.addresses import counted_address

PERIOD = 15 * 60  # seconds

View = Callable[..., HttpResponseBase]


def count_attempt(request: HttpRequest, name: str) -> int:
    """Count an attempt in the name of ``name``. Returns the seconds to wait until one is allowed, 0 if this one is."""
    counted = (
        get_usage(
            request, group=f"attempts:{of}", key=lambda *args, value=value: value, rate=(limit, PERIOD), increment=True
        )
        for of, value, limit in (
            ("address", counted_address(request), settings.ATTEMPTS_PER_ADDRESS),
            ("name", name.strip().casefold(), settings.ATTEMPTS_PER_NAME),
        )
    )
    spent = [usage for usage in counted if usage is None or usage["should_limit"]]
    # A window of django-ratelimit includes the second in which it ends.
    return max((max(usage["time_left"], 0) + 1 if usage else 1 for usage in spent), default=0)


def posted(field: str) -> Callable[[HttpRequest], str]:
    """Return what finds the name in a field of the form that was POSTed."""
    return lambda request: request.POST.get(field, "")


def own_name(request: HttpRequest) -> str:
    """Return the name of whoever is signed in."""
    return request.user.get_username()


def limit_attempts(name_of: Callable[[HttpRequest], str]) -> Callable[[View], View]:
    """Limit what is POSTed to a view, counted on the address and on the name that ``name_of`` finds in the request."""

    def decorate(view: View) -> View:
        @functools.wraps(view)
        def limited(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
            if request.method == "POST" and (wait := count_attempt(request, name_of(request))):
                response = render(request, "too_many_attempts.html", {"minutes": math.ceil(wait / 60)}, status=429)
                response["Retry-After"] = str(wait)
                return response
            return view(request, *args, **kwargs)

        return limited

    return decorate
