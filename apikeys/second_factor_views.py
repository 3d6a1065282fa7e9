"""The pages of the second factor: the code at the sign-in, setting up an app, recovery codes, and turning it off."""

import base64
from typing import Any

import segno
from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django_otp import login as remember_device
from django_otp.plugins.otp_totp.models import TOTPDevice

from apikeys import second_factor
from apikeys.forms import CodeForm, DisableSecondFactorForm, PasswordAgainForm, with_wait
from apikeys.models import Account
from apikeys.passwords import remember_too_short
from apikeys.requests import SignedInRequest
from notpanel.kit.refusals import Refusal

_PENDING = "sign_in_waits_for_code"  # in the session: who has given the password, and when
_PREPARED = "second_factor_prepared"  # in the session: the app that is being set up, and since when
MINUTES = 10  # until the second step of signing in, or of setting up an app


def ask_for_code(
    request: HttpRequest, account: Account, backend: str, then: str, password_too_short: bool
) -> HttpResponse:
    """Redirect to the second page of the sign-in. The user is not signed in until the code there is right.

    ``password_too_short``: for staff (``apikeys.passwords``).
    """
    request.session[_PENDING] = {
        "account": account.pk,
        "password": account.get_session_auth_hash(),  # a new password ends this sign-in
        "backend": backend,
        "then": then,
        "password_too_short": password_too_short,
        "at": timezone.now().timestamp(),
    }
    return redirect("dashboard:sign-in-code")


@never_cache
@sensitive_post_parameters("code")
def sign_in_code(request: HttpRequest) -> HttpResponse:
    """Ask for the code that completes a sign-in."""
    pending = request.session.get(_PENDING)
    account = _account_of(pending)
    if account is None or pending is None:
        return redirect("dashboard:sign-in")
    form = CodeForm(account, request.POST or None)
    if form.is_valid():
        del request.session[_PENDING]
        login(request, account, backend=pending["backend"])
        remember_too_short(request.session, pending.get("password_too_short", False))
        remember_device(request, form.device)
        if form.used_recovery_code:
            left = second_factor.recovery_codes_left(account)
            messages.warning(request, f"You have used a recovery code. You have {left} left.")
        return redirect(pending["then"])
    return with_wait(form, render(request, "dashboard/sign_in_code.html", {"form": form}))


@login_required
@never_cache
@sensitive_post_parameters("password", "code")
def overview(request: SignedInRequest) -> HttpResponse:
    """Show whether there is a second factor. A POST begins to set one up, renews the codes, or turns it off."""
    account = request.user
    device = second_factor.device_of(account)
    if device is None:
        return _begin(request)
    posted = request.POST or None
    renew = PasswordAgainForm(account, posted if "renew" in request.POST else None, auto_id="renew_%s")
    disable = DisableSecondFactorForm(account, posted if "disable" in request.POST else None, auto_id="disable_%s")
    if renew.is_valid():
        try:
            return _show_codes(request, second_factor.renew_recovery_codes(account))
        except Refusal as refusal:  # it was turned off in another window meanwhile
            renew.add_error(None, refusal.text)
    if disable.is_valid():
        try:
            second_factor.disable(account)
        except Refusal as refusal:
            messages.error(request, refusal.text)
        else:
            messages.success(request, "You now sign in with your password alone.")
        return redirect("dashboard:second-factor")
    context = {
        "device": device,
        "left": second_factor.recovery_codes_left(account),
        "renew": renew,
        "disable": disable,
        "is_required": second_factor.is_required(account),
    }
    response = render(request, "dashboard/second_factor.html", context)
    return with_wait(disable if "disable" in request.POST else renew, response)


@login_required
@never_cache
@sensitive_post_parameters("code")
def confirm(request: SignedInRequest) -> HttpResponse:
    """Show the secret of a new app. A POST of a code that the app shows makes it the second factor."""
    device = _prepared(request)
    if device is None:
        return redirect("dashboard:second-factor")
    form = CodeForm(request.user, request.POST or None, device=device)
    if form.is_valid():
        del request.session[_PREPARED]
        remember_device(request, device)
        return _show_codes(request, form.recovery_codes)
    secret = _in_groups(device)
    # Black on white in dark mode too: many apps read nothing else.
    code = segno.make(device.config_url).svg_inline(scale=5, dark="#000", light="#fff", omitsize=False)
    context = {"form": form, "qr_code": code, "secret": secret}
    return with_wait(form, render(request, "dashboard/second_factor_confirm.html", context))


def _begin(request: SignedInRequest) -> HttpResponse:
    """Ask for the password before a second factor is set up."""
    account = request.user
    if not account.is_staff:
        raise Http404
    form = PasswordAgainForm(account, request.POST or None)
    if form.is_valid():
        device = second_factor.prepare(account)
        request.session[_PREPARED] = {"device": device.pk, "at": timezone.now().timestamp()}
        return redirect("dashboard:second-factor-confirm")
    context = {"form": form, "is_required": second_factor.is_required(account)}
    return with_wait(form, render(request, "dashboard/second_factor_enable.html", context))


def _show_codes(request: HttpRequest, codes: list[str]) -> HttpResponse:
    return render(request, "dashboard/recovery_codes.html", {"codes": codes})


def _account_of(pending: Any) -> Account | None:
    """Return the account whose sign-in waits for a code; None if it waited too long, or its password has changed."""
    if not pending or not _is_recent(pending):
        return None
    account = Account.objects.filter(pk=pending["account"], is_active=True).first()
    return account if account and account.get_session_auth_hash() == pending["password"] else None


def _prepared(request: SignedInRequest) -> TOTPDevice | None:
    prepared = request.session.get(_PREPARED)
    if not prepared or not _is_recent(prepared):
        return None
    device: TOTPDevice | None = TOTPDevice.objects.filter(
        pk=prepared["device"], user=request.user, confirmed=False
    ).first()
    return device


def _is_recent(step: dict[str, Any]) -> bool:
    return 0 <= timezone.now().timestamp() - step["at"] < MINUTES * 60


def _in_groups(device: TOTPDevice) -> str:
    """Return the secret in groups of characters, as people type it into an app."""
    secret = base64.b32encode(device.bin_key).decode().rstrip("=")
    return " ".join(secret[at : at + 4] for at in range(0, len(secret), 4))
