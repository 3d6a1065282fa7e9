"""The list of refills as a CSV file."""

import csv
import re
from datetime import UTC, datetime
from itertools import chain

from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied, SuspiciousOperation
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
    "requested (UTC)": "created_at",
    "settled (UTC)": "settled_at",
    "settled_by": "settled_by__username",
    "delivered": "delivered",
    "reason": "reason_text",
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
        try:
            found = self.get_changelist_instance(request).queryset
        except IncorrectLookupParameters as error:  # of a value that a filter cannot have
            raise SuspiciousOperation("The list cannot be filtered by that.") from error
        refills = found.values_list(*EXPORTED.values())
        rows = (map(_safe_cell, row) for row in refills.iterator(chunk_size=1000))
        writer = csv.writer(_Echo())
        name = f"refills-{timezone.now():%Y-%m-%d}.csv"
        return StreamingHttpResponse(
            # Excel takes the file for UTF-8 only if it begins with a byte order mark.
            chain(["\ufeff"], (writer.writerow(row) for row in chain([EXPORTED], rows))),
            content_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )


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
