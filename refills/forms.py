from django import forms
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
)

from refills.models import RejectionReason
from refills.statuses import RefillStatus


class RejectForm(forms.Form):
    """Why refills are rejected: a reason that the customer reads, a note that only staff read."""

    reason = forms.ModelChoiceField(
        RejectionReason.objects.filter(active=True),
        required=False,
        empty_label="Choose a reason",
        widget=UnfoldAdminSelectWidget,
        help_text="The customer reads it.",
    )
    note = forms.CharField(
        required=False,
        max_length=1000,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text="Only staff read it.",
    )


class SettleForm(RejectForm):
    """All that a button on a refill's page or row may send."""

    to = forms.TypedChoiceField(choices=RefillStatus.choices, coerce=RefillStatus)
    delivered = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=2**63 - 1,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="Units, if they are known.",
    )
