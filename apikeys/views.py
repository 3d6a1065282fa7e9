"""The pages on which customers sign in, change their password and manage their API keys."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth import views as auth
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse, reverse_lazy
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables

from apikeys import emails, second_factor
from apikeys.attempts import forget_wrong_sign_ins, limit_resets, limit_sign_in
from apikeys.forms import (
    ApiKeyForm,
    ChangePasswordForm,
    EmailForm,
    NewPasswordForm,
    ResetPasswordForm,
    RotateKeyForm,
    SignInForm,
    with_wait,
)
from apikeys.keys import (
    LARGEST_NUMBER_OF_KEYS,
    change_api_key,
    create_api_key,
    latest_prefix,
    revoke_api_key,
    rotate_api_key,
)
from apikeys.models import ApiKey
from apikeys.passwords import STAFF_LENGTH, began_too_short, is_too_short_for_staff, remember_too_short
from apikeys.requests import SignedInRequest
from apikeys.second_factor_views import ask_for_code
from apikeys.settlement_mails import MAILS_EVERY
from notpanel.api.examples import curl
from notpanel.kit.refusals import Refusal

SHOWN = 50  # revoked and expired keys, the latest first


class SignIn(auth.LoginView):
    """The first page of the sign-in, and the only one for an account without a second factor."""

    form_class = SignInForm
    template_name = "dashboard/sign_in.html"
    redirect_authenticated_user = True

    def form_valid(self, form: Any) -> HttpResponse:
        account, too_short = form.get_user(), is_too_short_for_staff(form.cleaned_data["password"])
        if second_factor.device_of(account) is not None:
            return ask_for_code(self.request, account, account.backend, self.get_success_url(), too_short)
        response = super().form_valid(form)
        remember_too_short(self.request.session, too_short)
        return response


class DeskSignIn(SignIn):
    """The same sign-in on the admin's page, for staff only."""

    template_name = "admin/login.html"
    redirect_authenticated_user = False

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if admin.site.has_permission(request):
            return redirect("admin:index")
        return super().get(request, *args, **kwargs)

    def get_form_class(self) -> Any:
        return admin.site.login_form

    def get_default_redirect_url(self) -> str:
        return reverse("admin:index")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        own = {
            "title": "Log in",
            "app_path": self.request.get_full_path(),
            "username": self.request.user.get_username(),
        }
        return super().get_context_data(**admin.site.each_context(self.request), **own, **kwargs)


sign_in = limit_sign_in(SignIn.as_view())
sign_in_at_the_desk = limit_sign_in(DeskSignIn.as_view())
password_changed = auth.PasswordChangeDoneView.as_view(template_name="dashboard/password_changed.html")
reset_password = limit_resets(
    auth.PasswordResetView.as_view(
        form_class=ResetPasswordForm,
        template_name="dashboard/reset_password.html",
        email_template_name="dashboard/reset_password.txt",
        subject_template_name="dashboard/reset_password_subject.txt",
        success_url=reverse_lazy("dashboard:reset-sent"),
    )
)
reset_sent = auth.PasswordResetDoneView.as_view(template_name="dashboard/reset_sent.html")
password_set = auth.PasswordResetCompleteView.as_view(template_name="dashboard/password_set.html")


class SetPassword(auth.PasswordResetConfirmView):
    form_class = NewPasswordForm
    template_name = "dashboard/set_password.html"
    success_url = reverse_lazy("dashboard:password-set")

    def form_valid(self, form: Any) -> HttpResponse:
        response = super().form_valid(form)
        forget_wrong_sign_ins(form.user)
        _tell_of_revoked_keys(self.request, form)
        return response


def sign_out(request: HttpRequest) -> HttpResponse:
    if request.method != "POST":  # else a link on another site could sign a user out
        return redirect("dashboard:overview")
    return auth.LogoutView.as_view(next_page=reverse_lazy("dashboard:sign-in"))(request)


class ChangePassword(auth.PasswordChangeView):
    form_class = ChangePasswordForm
    template_name = "dashboard/change_password.html"
    success_url = reverse_lazy("dashboard:password-changed")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(**kwargs, for_the_desk=self._is_for_the_desk(), staff_length=STAFF_LENGTH)

    def form_valid(self, form: Any) -> HttpResponse:
        to_the_desk = self._is_for_the_desk()
        response = super().form_valid(form)
        remember_too_short(self.request.session, is_too_short_for_staff(form.cleaned_data["new_password1"]))
        _tell_of_revoked_keys(self.request, form)
        return redirect("admin:index") if to_the_desk else response

    def _is_for_the_desk(self) -> bool:
        """Return whether the desk stays closed to the user until the password is changed."""
        return self.request.user.is_staff and began_too_short(self.request.session)

    def form_invalid(self, form: Any) -> HttpResponse:
        return with_wait(form, super().form_invalid(form))


@login_required
@never_cache
@sensitive_post_parameters("password")
def email(request: SignedInRequest) -> HttpResponse:
    """Show the e-mail address and the mails. A POST sends a link to a new address, or to the current one."""
    account = request.user
    form = EmailForm(account, request.POST or None, initial={"email": account.email})
    if form.is_valid():
        address = form.cleaned_data["email"]
        if emails.send_link(account, address, request.build_absolute_uri):
            messages.success(request, f"A link was sent to {address}. Follow it to confirm the address.")
            return redirect("dashboard:email")
        form.add_error(None, "The mail could not be sent. Try again later.")
    context = {
        "form": form,
        "gets_settlement_mails": emails.gets_settlement_mails(account),
        "minutes": MAILS_EVERY // timedelta(minutes=1),
    }
    return with_wait(form, render(request, "dashboard/email.html", context))


@login_required
def settlement_mails(request: SignedInRequest) -> HttpResponse:
    """Switch the mails about settlements on (POST: mails=on), or off."""
    if request.method != "POST":  # a customer who had to sign in first arrives by GET
        return redirect("dashboard:email")
    chosen = request.POST.get("mails") == "on"
    try:
        emails.choose_settlement_mails(request.user, chosen, request.build_absolute_uri("/"))
    except Refusal as refusal:
        messages.error(request, refusal.text)
    else:
        text = "You will get mails about settled refills." if chosen else "You will no longer get these mails."
        messages.success(request, text)
    return redirect("dashboard:email")


@never_cache
def confirm_email(request: HttpRequest, token: str) -> HttpResponse:
    """Ask for a click to confirm an address, because programs that scan mails follow links. A POST confirms it."""
    try:
        if request.method != "POST":
            return render(request, "dashboard/confirm_email.html", {"link": emails.read_link(token)})
        account = emails.confirm(token)
    except Refusal as refusal:
        return render(request, "dashboard/confirm_email.html", {"error": refusal.text})
    messages.success(request, f"{account.email} is confirmed.")
    return redirect("dashboard:email")


@login_required
@never_cache
@sensitive_post_parameters("password")
def keys(request: SignedInRequest) -> HttpResponse:
    """List the keys. A POST creates one and shows its value, only this once."""
    account, now = request.user, timezone.now()
    form = ApiKeyForm(account, request.POST or None)
    if form.is_valid():
        try:
            created = create_api_key(account, form.details, latest=request.POST.get("latest", ""))
            return _show_once(request, *created)
        except Refusal as refusal:
            form.add_error(None, refusal.text)
    active = ApiKey.objects.active(now).filter(account=account).order_by("-created_at")
    ended = account.api_keys.exclude(pk__in=active).order_by("-created_at")[:SHOWN]
    context = {
        "form": form,
        "active": list(active),
        "ended": list(ended),
        "latest": latest_prefix(account),
        "most": LARGEST_NUMBER_OF_KEYS,
        "general_limit": settings.RATE_LIMIT_KEYS[account.tier],
    }
    return with_wait(form, render(request, "dashboard/keys.html", context))


@login_required
@never_cache
@sensitive_post_parameters("password")
def key(request: SignedInRequest, key_id: int) -> HttpResponse:
    """Show a key. A POST rotates it and shows its new value, only this once."""
    api_key = get_object_or_404(ApiKey.objects.active(timezone.now()), pk=key_id, account=request.user)
    form = RotateKeyForm(request.user, request.POST or None)
    if form.is_valid():
        grace = timedelta(hours=form.cleaned_data["grace"] or 0)
        try:
            return _show_once(request, api_key, rotate_api_key(api_key, request.POST.get("prefix", ""), grace))
        except Refusal as refusal:
            form.add_error(None, refusal.text)
    context = {
        "form": form,
        "api_key": api_key,
        "general_limit": settings.RATE_LIMIT_KEYS[request.user.tier],
        "old_value_works": api_key.previous_until is not None and api_key.previous_until > timezone.now(),
    }
    return with_wait(form, render(request, "dashboard/key.html", context))


@login_required
@never_cache
@sensitive_post_parameters("password")
def change_key(request: SignedInRequest, key_id: int) -> HttpResponse:
    """Change the name of a key, from where it may be used, and until when."""
    api_key = get_object_or_404(ApiKey.objects.active(timezone.now()), pk=key_id, account=request.user)
    form = ApiKeyForm(request.user, request.POST or None, api_key=api_key)
    if form.is_valid():
        try:
            change_api_key(api_key, form.details)
        except Refusal as refusal:
            form.add_error(None, refusal.text)
        else:
            messages.success(request, f"{api_key} was changed.")
            return redirect("dashboard:keys")
    return with_wait(form, render(request, "dashboard/change_key.html", {"form": form, "api_key": api_key}))


@login_required
def revoke(request: SignedInRequest, key_id: int) -> HttpResponse:
    """Revoke a key for good."""
    if request.method != "POST":  # a user who had to sign in first is redirected here
        return redirect("dashboard:keys")
    api_key = get_object_or_404(ApiKey, pk=key_id, account=request.user)
    if revoke_api_key(api_key):
        messages.success(request, f"{api_key} is revoked: requests with it are refused from now on.")
    else:
        messages.warning(request, f"{api_key} is already revoked.")
    return redirect("dashboard:keys")


def _tell_of_revoked_keys(request: HttpRequest, form: NewPasswordForm) -> None:
    if form.revoked:
        keys = "key is" if form.revoked == 1 else "keys are"
        messages.success(request, f"{form.revoked} API {keys} revoked: requests with them are refused from now on.")


@sensitive_variables("raw_key", "line", "context")
def _show_once(request: HttpRequest, api_key: ApiKey, raw_key: str) -> HttpResponse:
    line = curl(request.build_absolute_uri(reverse("api-v2")), {"key": raw_key, "action": "services"})
    context = {"api_key": api_key, "raw_key": raw_key, "curl": line}
    return render(request, "dashboard/new_key.html", context)
