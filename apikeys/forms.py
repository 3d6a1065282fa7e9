import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from datetime import date, timedelta
from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm, PasswordResetForm, SetPasswordForm
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpResponse
from django.utils import timezone
from django_otp.plugins.otp_totp.models import TOTPDevice

from apikeys import second_factor
from apikeys.attempts import proving_the_password_of
from apikeys.keys import ApiKeyDetails, end_of, revoke_all_api_keys
from apikeys.models import Account, ApiKey
from apikeys.refusals import TooManyAttempts, TooManyCodes, WrongCode
from notpanel.kit.addresses import parse_network

MOST_NETWORKS = 20
MAIL_AFTER = 1.0  # seconds, after which the answer has been sent


class LimitedForm(forms.BaseForm):
    """A form that stops checking passwords after too many wrong ones. It keeps what was filled into other fields."""

    _wait = 0

    @property
    def wait(self) -> int:
        """Return the seconds until a password is checked again, or 0 if this one was checked."""
        return self._wait if self.errors else 0

    @contextmanager
    def proving_the_password_of(self, account: Account) -> Iterator[None]:
        """Wrap the check of a password, which must raise if it is wrong. Too many wrong ones become a form error."""
        try:
            with proving_the_password_of(account):
                yield
        except TooManyAttempts as refusal:
            self._wait = refusal.wait
            raise ValidationError(refusal.text) from refusal

    @contextmanager
    def checking_a_code(self, field: str = "") -> Iterator[None]:
        """Wrap the check of a code of the second factor. What is wrong with it becomes an error of the form."""
        try:
            yield
        except (TooManyCodes, WrongCode) as refusal:
            if isinstance(refusal, TooManyCodes):
                self._wait = refusal.wait
            raise ValidationError({field: refusal.text} if field else refusal.text) from refusal


def with_wait(form: LimitedForm, response: HttpResponse) -> HttpResponse:
    """Give the page that shows the form the status 429 while no password or code is checked."""
    if form.wait:
        response.status_code = 429
        response["Retry-After"] = str(form.wait)
    return response


class NewPasswordForm(SetPasswordForm):
    """Ask for a new password, and whether to revoke the keys: somebody who knew the old one may have created some."""

    revoke_keys = forms.BooleanField(
        label="Revoke all my API keys",
        required=False,
        help_text="Choose this if somebody else may know your password. Your programs will need new keys.",
    )
    revoked = 0  # keys, by save()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not (self.user and ApiKey.objects.active(timezone.now()).filter(account=self.user).exists()):
            del self.fields["revoke_keys"]

    def save(self, commit: bool = True) -> Any:
        with transaction.atomic():
            account = super().save(commit)
            if self.cleaned_data.get("revoke_keys"):
                self.revoked = revoke_all_api_keys(account)
        return account


class ChangePasswordForm(LimitedForm, NewPasswordForm, PasswordChangeForm):
    def clean_old_password(self) -> str:
        password: str = self.cleaned_data["old_password"]
        with self.proving_the_password_of(self.user):
            if not self.user.proves_password(password):
                raise ValidationError(self.error_messages["password_incorrect"], "password_incorrect")
        return password


class ResetPasswordForm(PasswordResetForm):
    """Send the mail after the answer, because the time it takes would reveal whether the address has an account."""

    def send_mail(self, *args: Any, **kwargs: Any) -> None:
        # Sending reads nothing from the database. The context holds the request's id, for the log if sending fails.
        mail = threading.Timer(MAIL_AFTER, copy_context().run, (super().send_mail, *args), kwargs)
        mail.name, mail.daemon = "reset-mail", True
        mail.start()


class PasswordAgainForm(LimitedForm, forms.Form):
    """Ask the signed-in user for the password, so that nobody gets a key from an unattended browser."""

    password = forms.CharField(
        label="Your password", strip=False, widget=forms.PasswordInput(attrs={"autocomplete": "current-password"})
    )

    def __init__(self, account: Account, *args: Any, **kwargs: Any) -> None:
        self.account = account
        super().__init__(*args, **kwargs)

    def clean_password(self) -> str:
        password: str = self.cleaned_data["password"]
        with self.proving_the_password_of(self.account):
            if not self.account.proves_password(password):
                raise ValidationError("This is not your password. Enter the one that you sign in with.")
        return password


def _code_field() -> forms.CharField:
    attrs = {"autocomplete": "one-time-code", "autocapitalize": "none", "spellcheck": "false"}
    return forms.CharField(label="Code", max_length=40, help_text="", widget=forms.TextInput(attrs=attrs))


class CodeForm(LimitedForm, forms.Form):
    """Ask for a code of the authenticator app. With ``device``, a new app, a right code makes it the second factor."""

    code = _code_field()

    def __init__(self, account: Account, *args: Any, device: TOTPDevice | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.account, self.new_device = account, device
        self.fields["code"].widget.attrs["autofocus"] = True
        self.fields["code"].help_text = (
            "The six digits that the app shows now."
            if device
            else "The six digits that your authenticator app shows, or a recovery code."
        )

    def clean_code(self) -> str:
        code: str = self.cleaned_data["code"]
        with self.checking_a_code():
            if self.new_device:
                self.recovery_codes = second_factor.enable(self.account, self.new_device, code)
            else:
                self.device = second_factor.prove(self.account, code)
                self.used_recovery_code = not second_factor.looks_like_the_apps(code)
        return code


class DisableSecondFactorForm(PasswordAgainForm):
    """Ask for the password and for a code before the second factor is removed."""

    code = _code_field()

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        if not self.errors:
            with self.checking_a_code("code"):
                second_factor.prove(self.account, self.cleaned_data["code"])
        return cleaned


class EmailForm(PasswordAgainForm):
    """Ask for an address to send a link to, and for the password: the owner of the address can reset the password."""

    email = forms.EmailField(
        label="E-mail address",
        max_length=254,
        help_text="We send a link to it. The address changes once you follow the link.",
        widget=forms.EmailInput(attrs={"autocomplete": "email"}),
    )

    field_order = ("email", "password")


class SignInForm(AuthenticationForm):
    """Ask for the user name or the confirmed e-mail address (``AccountManager.who_signs_in``), and the password."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        name = self.fields["username"]
        name.label, name.widget.attrs["maxlength"] = "Username or e-mail address", 254


class ApiKeyForm(PasswordAgainForm):
    """Ask for the details of a new key, or of ``api_key``, and for the password."""

    name = forms.CharField(
        max_length=100, help_text="What it is for, such as “shop” or “test”.", widget=forms.TextInput()
    )
    allowed_networks = forms.CharField(
        label="Allowed addresses",
        required=False,
        widget=forms.Textarea(attrs={"rows": 2, "placeholder": "203.0.113.7\n2001:db8::/32"}),
        help_text=f"Up to {MOST_NETWORKS} addresses or networks, one per line. Leave it empty to allow all.",
    )
    expires_on = forms.DateField(
        label="Last day",
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
        help_text="The key works until the end of this day (UTC). Leave it empty for a key that never expires.",
    )

    answers = forms.ChoiceField(
        choices=ApiKey.Answers.choices,
        required=False,
        initial=ApiKey.Answers.NOTPANEL,
        help_text="Choose “As most panels answer” if your program was written for other panels.",
    )
    read_only = forms.BooleanField(
        label="Read-only",
        required=False,
        help_text="The key can read everything, but cannot request refills or change webhooks.",
    )

    field_order = ("name", "allowed_networks", "expires_on", "answers", "read_only", "password")

    def __init__(self, account: Account, *args: Any, api_key: ApiKey | None = None, **kwargs: Any) -> None:
        self.answers_before = api_key.answers if api_key else ApiKey.Answers.NOTPANEL
        if api_key is not None:
            kwargs["initial"] = {
                "name": api_key.name,
                "allowed_networks": "\n".join(api_key.allowed_networks),
                "answers": api_key.answers,
                "read_only": api_key.read_only,
                "expires_on": api_key.expires_at and (api_key.expires_at - timedelta.resolution).date(),
            }
        super().__init__(account, *args, **kwargs)

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if not name.isprintable():
            raise ValidationError("Use letters, digits, spaces and other characters that can be shown.")
        return name

    def clean_allowed_networks(self) -> tuple[str, ...]:
        texts = self.cleaned_data["allowed_networks"].replace(",", " ").split()
        networks = {text: parse_network(text) for text in texts}
        if wrong := [text for text, network in networks.items() if network is None]:
            raise ValidationError(f"Enter addresses or networks. These are neither: {', '.join(wrong[:3])}")
        if len(networks) > MOST_NETWORKS:
            raise ValidationError(f"Enter at most {MOST_NETWORKS} addresses and networks.")
        return tuple(dict.fromkeys(str(network) for network in networks.values()))

    def clean_expires_on(self) -> date | None:
        day: date | None = self.cleaned_data["expires_on"]
        if day is not None and day < timezone.now().date():
            raise ValidationError("Choose today or a later day.")
        return day

    @property
    def details(self) -> ApiKeyDetails:
        """Return what the form asks for. It must be valid."""
        last_day = self.cleaned_data["expires_on"]
        return ApiKeyDetails(
            name=self.cleaned_data["name"],
            allowed_networks=self.cleaned_data["allowed_networks"],
            expires_at=None if last_day is None else end_of(last_day),
            answers=self.cleaned_data["answers"] or self.answers_before,
            read_only=self.cleaned_data["read_only"],
        )


class RotateKeyForm(PasswordAgainForm):
    """Ask how long the old value of a key still works, and for the password."""

    HOURS = (0, 1, 6, 24)

    grace = forms.TypedChoiceField(
        label="The old value",
        coerce=int,
        required=False,
        initial=0,
        choices=[
            (hours, f"works for {hours} hour{'s' * (hours > 1)} more" if hours else "stops working at once")
            for hours in HOURS
        ],
        help_text="Leave time to update all of your programs. If others may have seen the old value, stop it at once.",
    )

    field_order = ("grace", "password")
