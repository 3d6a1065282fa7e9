"""Refills as a CSV file: the list as it is filtered, or those that were settled in a period."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any

from django import forms
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db.models import QuerySet
from django.http import HttpResponseBase, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminTextInputWidget, UnfoldBooleanWidget

from apikeys.requests import SignedInRequest
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
    """Which settled refills to export: by the day of their settlement, with the columns that are wanted."""

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
        return _csv(found, EXPORTED, f"refills-{timezone.now():%Y-%m-%d}")

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
            return _csv(settled.order_by("settled_at", "id"), sent["columns"], name)
        context = {
            "opts": self.opts,
            "title": "Export by settlement date",
            "form": form,
            "zone": timezone.get_current_timezone_name(),
        }
        return TemplateResponse(
            request, "admin/refills/refill/export.html", self.admin_site.each_context(request) | context
        )


def _csv(refills: QuerySet[Refill], columns: Iterable[str], name: str) -> HttpResponseBase:
    """Stream refills as CSV. The database keeps the rows until they are read."""
    columns = list(columns)
    found = refills.values_list(*(EXPORTED[column] for column in columns))
    rows = found.iterator(chunk_size=1000)
    first = list(islice(rows, 1))  # runs the query before the answer begins: if it fails, the agent is told so
    lines = chain([columns], (map(_safe_cell, row) for row in chain(first, rows)))
    writer = csv.writer(_Echo())
    return StreamingHttpResponse(
        # Excel takes the file for UTF-8 only if it begins with a byte order mark.
        _File(chain(["\ufeff"], (writer.writerow(line) for line in lines)), rows.close),  # type: ignore[attr-defined]
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}.csv"'},
    )


@dataclass
class _File:
    """The lines of the file. Django closes it with the answer, also if the browser has gone: that ends the query."""

    lines: Iterator[str]
    close: Callable[[], None]

    def __iter__(self) -> Iterator[str]:
        return self.lines


class _Echo:
    """A file for csv.writer that returns each line instead of keeping it."""

    def write(self, line: str) -> str:
        return line


# Where a spreadsheet may see the beginning of a formula: at the beginning of a cell, and after what may end one where
# people write lists with semicolons, or where a quoted cell is not understood. Blanks before it do not count. Some
# programs take full-width signs for the plain ones.
_INVISIBLE = r"[\s\u200b-\u200f\u2060\ufeff]*"
_FORMULA = re.compile(rf"(^|[;|\t\r\n])({_INVISIBLE}[=+\-@＝＋－＠])")
_NOT_FIRST = ("\t", "\r", "\n", "\xa0")


def _safe_cell(value: object) -> object:
    """Keep a spreadsheet from reading what a customer wrote as a formula, and let it read times as times."""
    if isinstance(value, str):
        value = _FORMULA.sub(r"\1'\2", value)
        return f"'{value}" if value.startswith(_NOT_FIRST) else value
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if isinstance(value, datetime) else value
