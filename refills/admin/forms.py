"""The forms with which staff settle refills. ``status_changes.apply_change`` takes the ``change`` of a valid form."""

from django import forms
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
)

from refills.models import RejectionReason
from refills.settlement import StatusChange
from refills.statuses import RefillStatus

CHOOSE_STATUS = "Choose what to do with the refill: approve, complete or reject it."
ENTER_UNITS = "Enter the delivered units as a whole number, or leave the field empty."


class RejectForm(forms.Form):
    """Why refills are rejected: a reason that the customer reads, a note that only staff read."""

    reason = forms.ModelChoiceField(
        RejectionReason.objects.filter(active=True),
        required=False,
        empty_label="Choose a reason",
        widget=UnfoldAdminSelectWidget,
        help_text="The customer reads it.",
        error_messages={"invalid_choice": "Choose a reason from the list: the one that was sent is not active."},
    )
    note = forms.CharField(
        required=False,
        max_length=1000,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text="Only staff read it.",
        error_messages={"max_length": "Shorten the note to %(limit_value)s characters: it has %(show_value)s."},
    )

    @property
    def change(self) -> StatusChange:
        """Return what the form asks for. It must be valid."""
        return StatusChange(RefillStatus.REJECTED, self.cleaned_data["note"], self.cleaned_data["reason"])


class SettleForm(RejectForm):
    """Everything that a button on a refill's page or row may send."""

    to = forms.TypedChoiceField(
        choices=RefillStatus.choices,
        coerce=RefillStatus,
        error_messages={"required": CHOOSE_STATUS, "invalid_choice": CHOOSE_STATUS},
    )
    delivered = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=2**63 - 1,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="Units, if they are known.",
        error_messages={"invalid": ENTER_UNITS, "min_value": ENTER_UNITS, "max_value": ENTER_UNITS},
    )

    @property
    def change(self) -> StatusChange:
        """Return what the form asks for. It must be valid."""
        sent = self.cleaned_data
        return StatusChange(sent["to"], sent["note"], sent["reason"], sent["delivered"])
