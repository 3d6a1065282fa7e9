"""The forms with which staff settle refills. ``status_changes.apply_change`` takes the ``change`` of a valid form."""

from django import forms
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from refills.models import LONGEST_NOTE, LONGEST_REASON, RejectionReason
from refills.settlement import StatusChange
from refills.statuses import RefillStatus

CHOOSE_STATUS = "Choose what to do with the refill: approve, complete or reject it."
ENTER_UNITS = "Enter the delivered units as a whole number, or leave the field empty."


class RejectForm(forms.Form):
    """Why refills are rejected: a reason from the list or words of its own for the customer, and a note for staff."""

    reason = forms.ModelChoiceField(
        RejectionReason.objects.filter(active=True),
        required=False,
        empty_label="Choose a reason",
        widget=UnfoldAdminSelectWidget,
        help_text="The customer reads it.",
        error_messages={"invalid_choice": "Choose a reason from the list: the one that was sent is not active."},
    )
    words = forms.CharField(
        label="Or words of your own",
        required=False,
        max_length=LONGEST_REASON,
        widget=UnfoldAdminTextInputWidget,
        help_text="The customer reads them instead of the reason.",
        error_messages={"max_length": "Shorten the words to %(limit_value)s characters: they have %(show_value)s."},
    )
    note = forms.CharField(
        required=False,
        max_length=LONGEST_NOTE,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text="Only staff read it.",
        error_messages={"max_length": "Shorten the note to %(limit_value)s characters: it has %(show_value)s."},
    )

    @property
    def change(self) -> StatusChange:
        """Return what the form asks for. It must be valid."""
        sent = self.cleaned_data
        return StatusChange(RefillStatus.REJECTED, sent["note"], sent["reason"], words=sent["words"])


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
    delivered_confirmed = forms.BooleanField(
        label="It may be more than the quantity of the order", required=False, widget=UnfoldBooleanWidget
    )

    @property
    def change(self) -> StatusChange:
        """Return what the form asks for. It must be valid."""
        sent = self.cleaned_data
        return StatusChange(
            sent["to"],
            sent["note"],
            sent["reason"],
            sent["delivered"],
            sent["words"],
            delivered_confirmed=sent["delivered_confirmed"],
        )
