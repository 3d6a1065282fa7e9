"""The forms of accounts in the admin."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from unfold.forms import UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminEmailInputWidget, UnfoldAdminRadioSelectWidget, UnfoldAdminTextInputWidget

from apikeys.accounts import lock_with_superusers
from apikeys.models import Account
from apikeys.refusals import LastSuperuser
from apikeys.staff import ROLES


class AccountCreationForm(UserCreationForm):
    class Meta(UserCreationForm.Meta):
        model = Account
        fields = ("username", "tier")


class AccountChangeForm(UserChangeForm):
    class Meta(UserChangeForm.Meta):
        model = Account

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if {"is_staff", "is_superuser"} <= self.fields.keys():
            # The admin saves the form in the same transaction, so the lock holds until then.
            account, others = lock_with_superusers(self.instance)
            was = account.is_active and account.is_staff and account.is_superuser
            if was and not others and not (cleaned.get("is_staff") and cleaned.get("is_superuser")):
                raise ValidationError(LastSuperuser.message)
        return cleaned


class NewAgentForm(forms.ModelForm):
    """Ask who the new agent is. The agent sets a password by following the link in the invitation."""

    email = forms.EmailField(
        label="Email address", widget=UnfoldAdminEmailInputWidget, help_text="The invitation is sent there."
    )
    role = forms.ChoiceField(
        choices=[(role, f"{role}: {what}") for role, what in ROLES.items()],
        initial=next(iter(ROLES)),
        widget=UnfoldAdminRadioSelectWidget,
        error_messages={"required": "Choose a role.", "invalid_choice": "Choose a role from the list."},
    )

    class Meta:
        model = Account
        fields = ("username", "email")
        labels = {"username": "Name"}
        help_texts = {"username": "The agent signs in with this name. Use letters, digits and @/./+/-/_ only."}
        widgets = {"username": UnfoldAdminTextInputWidget}
