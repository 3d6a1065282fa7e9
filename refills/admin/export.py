"""Refills as a CSV file: the list as it is filtered, or those that were settled in a period."""

from typing import Any

from django import forms
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminTextInputWidget, UnfoldBooleanWidget

from apikeys.requests import SignedInRequest
from notpanel.kit.csv_answers import csv_answer
from refills.models import Refill

# The columns of the file, and the fields that they show.
EXPORTED = {
    "refill": "id",
    "number": "number",
    "status": "status",
    "order": "order__id",
    "order_number": "order__number",
    "link": "order__link",
    "service": "service_id",
    "service_name": "service__name",
    "account": "account__username",
    "requested (UTC)": "created_at",
    "settled (UTC)": "settled_at",
    "settled_by": "settled_by__username",
    "delivered": "delivered",
    "reason": "reason_text",
    "note": "note",
}

NOT_FOR_SUPPLIERS = ("account", "settled_by", "note")  # names of customers and staff, and what staff wrote for staff
REMEMBERED = "desk.export"  # in the session: the columns that were chosen last
WRONG_DATE = "Enter a date such as 2026-05-31."
CHOOSE_COLUMNS = "Choose at least one column."


def _day_field(label: str) -> forms.DateField:
    return forms.DateField(
        label=label,
        input_formats=["%Y-%m-%d"],
        widget=UnfoldAdminTextInputWidget(attrs={"type": "date"}),
        error_messages={"required": WRONG_DATE, "invalid": WRONG_DATE},
    )


class ExportForm(forms.Form):
    """Ask which settled refills to export, by the day of their settlement, and which columns."""

    since = _day_field("Settled from")
    until = _day_field("Settled up to and including")
    columns = forms.MultipleChoiceField(
        choices=[(column, column) for column in EXPORTED],
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": CHOOSE_COLUMNS, "invalid_choice": CHOOSE_COLUMNS},
    )
    for_supplier = forms.BooleanField(
        required=False,
        widget=UnfoldBooleanWidget,
        help_text="Leaves out names of customers and staff, and notes.",
    )

    def clean(self) -> dict[str, Any]:
        sent = super().clean() or self.cleaned_data
        since, until = sent.get("since"), sent.get("until")
        if since and until and until < since:
            self.add_error("until", "Choose a last day that is not before the first.")
        for name, day in (("since", since), ("until", until)):
            if day and not 1971 <= day.year <= 9000:
                self.add_error(name, "Choose a year from 1971 to 9000.")
        if sent.get("for_supplier") and sent.get("columns"):
            sent["columns"] = [column for column in sent["columns"] if column not in NOT_FOR_SUPPLIERS]
            if not sent["columns"]:
                self.add_error("columns", "Choose a column that a supplier may see.")
        return sent


class Export(ModelAdmin):
    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("export/", wrap(self.export_view), name="refills_refill_export"),
            path("export/settled/", wrap(self.export_form_view), name="refills_refill_export_form"),
            *super().get_urls(),
        ]

    def export_view(self, request: SignedInRequest) -> HttpResponseBase:
        """Stream the list as it is filtered, all of its pages, as CSV."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        request.reads_no_rows = True  # type: ignore[attr-defined]
        try:
            found = self.get_changelist_instance(request).queryset
        except IncorrectLookupParameters as error:  # of a value that a filter cannot have
            raise SuspiciousOperation("The list cannot be filtered by that.") from error
        return csv_answer(found, EXPORTED, f"refills-{timezone.now():%Y-%m-%d}")

    def export_form_view(self, request: SignedInRequest) -> HttpResponseBase:
        """Ask for the days of the settlement, and stream the refills as CSV once they are given."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        remembered = request.session.get(REMEMBERED, list(EXPORTED))
        form = ExportForm(request.GET if "since" in request.GET else None, initial={"columns": remembered})
        if form.is_valid():
            sent = form.cleaned_data
            request.session[REMEMBERED] = request.GET.getlist("columns")
            settled = Refill.objects.settled_on_days(sent["since"], sent["until"])
            name = f"refills-settled-{sent['since']}-{sent['until']}"
            columns = {column: EXPORTED[column] for column in sent["columns"]}
            return csv_answer(settled.order_by("settled_at", "id"), columns, name)
        context = {
            "opts": self.opts,
            "title": "Export by settlement date",
            "form": form,
            "zone": timezone.get_current_timezone_name(),
        }
        return TemplateResponse(
            request, "admin/refills/refill/export.html", self.admin_site.each_context(request) | context
        )
