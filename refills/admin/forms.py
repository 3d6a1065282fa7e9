"""The forms of the desk. ``status_changes.apply_change`` takes the ``change`` of a valid form that settles refills."""

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.utils import timezone
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from refills.models import LONGEST_NOTE, LONGEST_REASON, RejectionReason
from refills.settlement import StatusChange
from refills.statuses import RefillStatus

CHOOSE_STATUS = "Choose what to do with the refill: approve, complete or reject it."
CHOOSE_TIME = "Choose until when to snooze the refill."
ENTER_UNITS = "Enter the delivered units as a whole number, or leave the field empty."
SHORTEN = {"max_length": "Shorten the text to %(limit_value)s characters: it has %(show_value)s."}


def _note_field(**options: Any) -> forms.CharField:
    return forms.CharField(
        max_length=LONGEST_NOTE,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2, "data-key": "n"}),
        help_text="Only staff read it.",
        error_messages=SHORTEN | {"required": "Write the note first."},
        **options,
    )


class NoteForm(forms.Form):
    note = _note_field()


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
    words = forms.CharField(
        label="Or words of your own",
        required=False,
        max_length=LONGEST_REASON,
        widget=UnfoldAdminTextInputWidget,
        help_text="The customer reads them instead of the reason.",
        error_messages=SHORTEN,
    )
    note = _note_field(required=False)

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
    delivered_confirmed = forms.BooleanField(required=False)

    @property
    def change(self) -> StatusChange:
        """Return what the form asks for. It must be valid."""
        sent = self.cleaned_data
        return StatusChange(
            sent["to"],
            sent["note"],
            sent["reason"],
            sent["delivered"],
            words=sent["words"],
            delivered_confirmed=sent["delivered_confirmed"],
        )


class SnoozeForm(forms.Form):
    """Until when a refill leaves the queue, and why."""

    HOURS = {"1": "1 hour", "4": "4 hours", "24": "a day", "72": "3 days", "168": "a week"}

    hours = forms.TypedChoiceField(
        label="For",
        choices=list(HOURS.items()),
        coerce=int,
        widget=UnfoldAdminSelectWidget,
        initial="4",
        error_messages={"required": CHOOSE_TIME, "invalid_choice": CHOOSE_TIME},
    )
    note = _note_field(required=False)

    @property
    def until(self) -> datetime:
        """Return the moment at which the snoozing ends. The form must be valid."""
        return timezone.now() + timedelta(hours=self.cleaned_data["hours"])
