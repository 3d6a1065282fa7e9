"""Limit how many passwords, and how many wrong ones, are checked in a quarter of an hour.

An attempt is counted as wrong before its password is checked, so that concurrent attempts cannot exceed a limit
together. If the password was right, the attempt is uncounted. The counters are rows in PostgreSQL: every process sees
them, and none is evicted early, however many names are tried.
"""

import functools
import math
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth.forms import AuthenticationForm
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from django.utils.crypto import salted_hmac

from apikeys import acting
from apikeys.models import Account, AttemptCounter, AuditEvent
from apikeys.refusals import TooManyAttempts
from notpanel.kit import request_facts, security_log
from notpanel.kit.addresses import client_address, counted
from notpanel.kit.request_facts import DeniedBy
from notpanel.kit.sql import execute, fetch

PERIOD = timedelta(minutes=15)

# Counts an attempt unless the limit is reached. Returns when the counter ends, whether this attempt was the last one
# allowed, and whether the counter is new; no row if the limit is reached.
_COUNT = """
    INSERT INTO apikeys_attemptcounter AS counter (key, ends_at, wrong, checked)
    VALUES (%(key)s, %(ends_at)s, 1, 1)
    ON CONFLICT (key) DO UPDATE SET
        ends_at = CASE WHEN counter.ends_at <= %(now)s THEN excluded.ends_at ELSE counter.ends_at END,
        wrong = CASE WHEN counter.ends_at <= %(now)s THEN 1 ELSE counter.wrong + 1 END,
        checked = CASE WHEN counter.ends_at <= %(now)s THEN 1 ELSE counter.checked + 1 END
    WHERE counter.ends_at <= %(now)s OR (counter.wrong < %(most_wrong)s AND counter.checked < %(most)s)
    RETURNING ends_at, wrong = %(most_wrong)s OR checked = %(most)s, xmax = 0
"""
# Each new counter deletes up to two that have ended: only a few at a time, so that no attempt waits long.
_DELETE_ENDED = """
    DELETE FROM apikeys_attemptcounter WHERE key IN (
        SELECT key FROM apikeys_attemptcounter WHERE ends_at <= %(now)s ORDER BY ends_at LIMIT 2 FOR UPDATE SKIP LOCKED
    )
"""

View = Callable[..., HttpResponseBase]


@dataclass
class Counter:
    """The attempts on one value of a group, such as the attempts to sign in under one name."""

    group: str
    value: str
    most_wrong: int
    most: int = 2**31 - 1  # right ones included
    _ends_at: datetime | None = None
    _is_last: bool = False

    def begin(self) -> int:
        """Count an attempt as wrong. Returns 0 if it is allowed, otherwise the seconds until the next one is."""
        now = timezone.now()
        figures = {"most_wrong": self.most_wrong, "most": self.most, "ends_at": now + PERIOD, "now": now}
        while not (counted := fetch(_COUNT, {"key": self._key, **figures})):
            ends_at = self._end()
            if ends_at is not None and ends_at > now:
                request_facts.add(limited_by=self.group)
                security_log.report("attempt_refused", limit=self.group, address=acting.address())
                return math.ceil((ends_at - now).total_seconds())
        [(self._ends_at, self._is_last, is_new)] = counted
        if is_new:
            execute(_DELETE_ENDED, {"now": now})
        return 0

    def succeed(self) -> None:
        """Uncount the attempt that ``begin`` counted as wrong."""
        execute(
            "UPDATE apikeys_attemptcounter SET wrong = wrong - 1"
            " WHERE key = %(key)s AND ends_at = %(ends_at)s AND wrong > 0",
            {"key": self._key, "ends_at": self._ends_at},
        )

    def fail(self, account: Account | None) -> None:
        """Record that a limit is reached, if this wrong attempt was the last one allowed."""
        if self._is_last:
            AuditEvent.record(AuditEvent.Kind.LOCKED, account, {"limit": self.group})

    def clear(self) -> None:
        """Forget the wrong attempts."""
        execute("UPDATE apikeys_attemptcounter SET wrong = 0 WHERE key = %(key)s", {"key": self._key})

    def _end(self) -> datetime | None:
        rows = fetch("SELECT ends_at FROM apikeys_attemptcounter WHERE key = %(key)s", {"key": self._key})
        return rows[0][0] if rows else None

    @property
    def _key(self) -> str:
        # A name may have any length, and some people type their password into the field for the name.
        return salted_hmac(f"apikeys.attempts.{self.group}", self.value, algorithm="sha256").hexdigest()


@contextmanager
def proving_the_password_of(account: Account) -> Iterator[None]:
    """Wrap the check of a signed-in user's password. The check must raise if the password is wrong.

    Raises TooManyAttempts. These attempts are counted separately from attempts to sign in, which anybody can make under
    the account's name.
    """
    counter = Counter("password", str(account.pk), settings.ATTEMPTS_PER_NAME, settings.PASSWORD_CHECKS)
    if wait := counter.begin():
        raise TooManyAttempts(wait)
    try:
        yield
    except ValidationError:
        AuditEvent.record(AuditEvent.Kind.PROOF_FAILED, account)
        counter.fail(account)
        raise
    counter.succeed()


def posted_username(request: HttpRequest) -> str | None:
    """Return the name that the sign-in form would look up, or None if it would look up none."""
    try:
        name: str = AuthenticationForm().fields["username"].clean(request.POST.get("username"))
    except ValidationError:
        return None
    return name if request.POST.get("password") else None


def posted_email(request: HttpRequest) -> str | None:
    """Return the posted address in the form in which Django's password reset compares addresses."""
    return _comparable(request.POST.get("email", "").strip()) or None


def _comparable(email: str) -> str:
    return unicodedata.normalize("NFKC", email).casefold()


def forget_wrong_sign_ins(account: Account) -> None:
    """Lift the limit of the account's name, for example after its owner has proved who they are by mail."""
    Counter("sign-in:name", _counted(account), settings.ATTEMPTS_PER_NAME).clear()


def forget(account: Account) -> None:
    """Delete the counters of an account and of its address."""
    counted_under = {
        "sign-in:name": _counted(account),
        "password": str(account.pk),
        "code": str(account.pk),
        "reset:name": _comparable(account.email),
    }
    keys = [Counter(group, value, settings.ATTEMPTS_PER_NAME)._key for group, value in counted_under.items()]
    AttemptCounter.objects.filter(key__in=keys).delete()


def _counted(account: Account) -> str:
    """Return the name under which attempts on an account are counted. No form accepts a NUL, so nobody can type it."""
    return f"\0{account.pk}"


def limit_attempts(
    group: str, name_of: Callable[[HttpRequest], str | None], is_right: Callable[[HttpResponseBase], bool]
) -> Callable[[View], View]:
    """Limit the POSTs to a view by address and by name, whether or not the name has an account.

    ``name_of`` reads the name from the request. ``is_right`` tells from the answer whether the attempt was right.
    """

    def decorate(view: View) -> View:
        @functools.wraps(view)
        def limited(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
            if request.method != "POST":
                return view(request, *args, **kwargs)
            address, name = counted(client_address(request)), name_of(request)
            account = Account.objects.who_signs_in(name) if group == "sign-in" and name is not None else None
            counters = [Counter(f"{group}:address", address, settings.ATTEMPTS_PER_ADDRESS, settings.PASSWORD_CHECKS)]
            if name is not None:
                value = _counted(account) if account else name.casefold()
                counters.append(Counter(f"{group}:name", value, settings.ATTEMPTS_PER_NAME))
            for counter in counters:  # a refused address is not counted against the name
                if wait := counter.begin():
                    response = render(request, "too_many_attempts.html", {"minutes": math.ceil(wait / 60)}, status=429)
                    response["Retry-After"] = str(wait)
                    return response
            answer = view(request, *args, **kwargs)
            if is_right(answer):
                for counter in counters:
                    counter.succeed()
                return answer
            if group == "sign-in" and name is not None:
                request_facts.add(denied_by=DeniedBy.SIGN_IN)
                AuditEvent.record(AuditEvent.Kind.SIGN_IN_FAILED, account)
            for counter in counters:
                counter.fail(account)
            return answer

        return limited

    return decorate


# Both sign-in forms, the site's and the admin's, redirect after a right password. A wrong one shows the form again.
limit_sign_in = limit_attempts("sign-in", posted_username, lambda answer: answer.status_code == 302)
# The answer is the same whether or not the address belongs to an account.
limit_resets = limit_attempts("reset", posted_email, lambda answer: False)
