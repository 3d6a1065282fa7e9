import threading
from contextvars import copy_context
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib.auth.forms import PasswordChangeForm, PasswordResetForm
from django.core.exceptions import ValidationError
from django.utils import timezone

from apikeys.attempts import TooManyAttempts, proving_the_password_of
from apikeys.keys import end_of
from apikeys.models import Account, ApiKey
from notpanel.kit.addresses import parse_network

MOST_NETWORKS = 20
MAIL_AFTER = 1.0  # seconds, in which the answer is sent


class LimitedForm(forms.BaseForm):
    """A form that looks at no password after too many wrong ones. What else was filled in is kept."""

    @property
    def wait(self) -> int:
        """Seconds until a password is looked at again, 0 if this one was."""
        errors = [error for errors in self.errors.as_data().values() for error in errors]
        return max((error.wait for error in errors if isinstance(error, TooManyAttempts)), default=0)


class ChangePasswordForm(LimitedForm, PasswordChangeForm):
    def clean_old_password(self) -> str:
        with proving_the_password_of(self.user):
            return super().clean_old_password()


class ResetPasswordForm(PasswordResetForm):
    """Sends its mail once the answer is gone: how long that takes would tell who has an account."""

    def send_mail(self, *args: Any, **kwargs: Any) -> None:
        # It reads nothing from the database. The context has the request's id, for the log if it cannot be sent.
        mail = threading.Timer(MAIL_AFTER, copy_context().run, (super().send_mail, *args), kwargs)
        mail.daemon = True
        mail.start()


class PasswordAgainForm(LimitedForm, forms.Form):
    """Asks whoever is signed in for their password, so that a browser left open gives no key away."""

    password = forms.CharField(
        label="Your password", strip=False, widget=forms.PasswordInput(attrs={"autocomplete": "current-password"})
    )

    def __init__(self, account: Account, *args: Any, **kwargs: Any) -> None:
        self.account = account
        super().__init__(*args, **kwargs)

    def clean_password(self) -> str:
        password: str = self.cleaned_data["password"]
        with proving_the_password_of(self.account):
            if not self.account.check_password(password):
                raise ValidationError("This is not your password.")
        return password


class ApiKeyForm(PasswordAgainForm):
    """What a customer may wish of a key, a new one or ``api_key``. ``wishes`` holds it by the fields of ApiKey."""

    name = forms.CharField(
        max_length=100, help_text="What it is for, such as “shop” or “test”.", widget=forms.TextInput()
    )
    allowed_networks = forms.CharField(
        label="Allowed addresses",
        required=False,
        widget=forms.Textarea(attrs={"rows": 2, "placeholder": "203.0.113.7\n2001:db8::/32"}),
        help_text=f"Addresses or networks, up to {MOST_NETWORKS}, one per line. Empty: from everywhere.",
    )
    expires_on = forms.DateField(
        label="Last day",
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
        help_text="It works to the end of this day (UTC). Empty: it never expires.",
    )

    field_order = ("name", "allowed_networks", "expires_on", "password")

    def __init__(self, account: Account, *args: Any, api_key: ApiKey | None = None, **kwargs: Any) -> None:
        if api_key is not None:
            kwargs["initial"] = {
                "name": api_key.name,
                "allowed_networks": "\n".join(api_key.allowed_networks),
                "expires_on": api_key.expires_at and (api_key.expires_at - timedelta.resolution).date(),
            }
        super().__init__(account, *args, **kwargs)

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if not name.isprintable():
            raise ValidationError("There are characters in it that cannot be shown.")
        return name

    def clean_allowed_networks(self) -> list[str]:
        texts = self.cleaned_data["allowed_networks"].replace(",", " ").split()
        networks = {text: parse_network(text) for text in texts}
        if wrong := [text for text, network in networks.items() if network is None]:
            raise ValidationError(f"Not an address or a network: {', '.join(wrong[:3])}")
        if len(networks) > MOST_NETWORKS:
            raise ValidationError(f"{MOST_NETWORKS} addresses and networks at most.")
        return list(dict.fromkeys(str(network) for network in networks.values()))

    def clean_expires_on(self) -> Any:
        day = self.cleaned_data["expires_on"]
        if day is not None and day < timezone.now().date():
            raise ValidationError("This day is over.")
        return day

    @property
    def wishes(self) -> dict[str, Any]:
        last_day = self.cleaned_data["expires_on"]
        return {
            "name": self.cleaned_data["name"],
            "allowed_networks": self.cleaned_data["allowed_networks"],
            "expires_at": None if last_day is None else end_of(last_day),
        }
