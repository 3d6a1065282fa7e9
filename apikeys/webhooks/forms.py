from datetime import timedelta

from django import forms
from django.utils import timezone

from apikeys.forms import PasswordAgainForm
from apikeys.webhooks.models import EVENTS
from notpanel.kit.outbound import LONGEST_URL

AS_TYPED = "%Y-%m-%dT%H:%M"  # by a field for date and time


class WebhookForm(PasswordAgainForm):
    """Ask for the URL and the events of a new endpoint, and for the password."""

    # A field of text, not of URLs, because add_endpoint() says what is wrong with a URL.
    url = forms.CharField(
        label="URL",
        max_length=LONGEST_URL,
        widget=forms.TextInput(attrs={"inputmode": "url", "placeholder": "https://shop.example/hooks/notpanel"}),
        help_text="Where to post the events: https://, at port 443 or a port from 1024 on.",
    )
    events = forms.MultipleChoiceField(
        choices=[(event, event) for event in EVENTS],
        initial=EVENTS,
        widget=forms.CheckboxSelectMultiple,
        help_text="Which events are posted.",
    )

    field_order = ("url", "events", "password")


class ReplayForm(forms.Form):
    """Ask from which time on failed deliveries are to be replayed."""

    since = forms.DateTimeField(
        label="Since (UTC)",
        input_formats=[AS_TYPED],
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format=AS_TYPED),
        initial=lambda: timezone.now() - timedelta(days=1),
    )
