"""The page on which staff choose the time zone in which they see the times of the desk."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils import timezone
from unfold.widgets import UnfoldAdminSelectWidget

from apikeys.accounts import set_time_zone
from apikeys.requests import SignedInRequest
from apikeys.time_zones import CHOOSE, time_zones


class TimeZoneForm(forms.Form):
    time_zone = forms.ChoiceField(
        label="Time zone",
        choices=lambda: [(name, name) for name in time_zones()],
        widget=UnfoldAdminSelectWidget,
        error_messages={"required": CHOOSE, "invalid_choice": CHOOSE},
    )


def time_zone(request: SignedInRequest) -> HttpResponse:
    """Show the time zone of the signed-in user, or change it (POST: time_zone)."""
    if request.method not in ("GET", "HEAD", "POST"):
        return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
    data = request.POST if request.method == "POST" else None
    form = TimeZoneForm(data, initial={"time_zone": request.user.time_zone})
    if form.is_valid():
        set_time_zone(request.user, form.cleaned_data["time_zone"])
        messages.success(request, f"The desk now shows times in {form.cleaned_data['time_zone']}.")
        return redirect("time-zone")
    context: dict[str, Any] = {"title": "My time zone", "form": form, "now": timezone.now()}
    return TemplateResponse(request, "admin/time_zone.html", admin.site.each_context(request) | context)
