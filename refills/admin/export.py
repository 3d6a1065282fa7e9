"""The list of refills as a CSV file."""

import csv
from itertools import chain

from django.core.exceptions import PermissionDenied
from django.http import HttpResponseBase, StreamingHttpResponse
from django.urls import URLPattern, path
from django.utils import timezone
from unfold.admin import ModelAdmin

from apikeys.requests import SignedInRequest

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
    "requested": "created_at",
    "settled": "settled_at",
    "settled_by": "settled_by__username",
    "delivered": "delivered",
    "reason": "reason__text",
    "note": "note",
}


class Export(ModelAdmin):
    def get_urls(self) -> list[URLPattern]:
        export = self.admin_site.admin_view(self.export_view)
        return [path("export/", export, name="refills_refill_export"), *super().get_urls()]

    def export_view(self, request: SignedInRequest) -> HttpResponseBase:
        """Stream the list as it is filtered, all of its pages, as CSV."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        refills = self.get_changelist_instance(request).queryset.values_list(*EXPORTED.values())
        rows = (map(_safe_cell, row) for row in refills.iterator(chunk_size=1000))
        writer = csv.writer(_Echo())
        name = f"refills-{timezone.now():%Y-%m-%d}.csv"
        return StreamingHttpResponse(
            (writer.writerow(row) for row in chain([EXPORTED], rows)),
            content_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )


class _Echo:
    """A file for csv.writer that returns each line instead of keeping it."""

    def write(self, line: str) -> str:
        return line


def _safe_cell(value: object) -> object:
    """Keep a spreadsheet from reading what a customer wrote as a formula."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value.isoformat() if hasattr(value, "isoformat") else value
