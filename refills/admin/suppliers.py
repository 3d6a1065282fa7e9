"""The refills that went to suppliers, the answers of suppliers, and a supplier's figures, in the admin."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.contrib.filters.admin import DropdownFilter

from notpanel.kit.admin import FilteredAdmin, LargeTableAdmin, ReadOnlyAdmin
from orders.models import Supplier
from refills.models import Dispatch, SupplierText
from refills.querysets import DispatchQuerySet
from refills.supplier_statistics import score_of


class WaitsFilter(DropdownFilter):
    title = "waiting for"
    parameter_name = "waits"
    all_option = ["", "All"]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("person", "An agent's decision")]

    def queryset(self, request: HttpRequest, queryset: DispatchQuerySet) -> DispatchQuerySet:
        return queryset.waiting_for_decision() if self.value() == "person" else queryset


@admin.register(Dispatch)
class DispatchAdmin(LargeTableAdmin, ReadOnlyAdmin):
    """The list of what went to suppliers. Each leads to the page of its refill."""

    list_display = ("refill_page", "supplier", "state", "supplier_refill", "attempts", "words", "asked_at", "next_at")
    list_display_links = None
    list_select_related = ("refill", "supplier")
    list_filter = (WaitsFilter, "state", "supplier", "breaks_promise")
    ordering = ("-asked_at", "-refill_id")

    @admin.display(description="refill")
    def refill_page(self, dispatch: Dispatch) -> str:
        url = reverse("admin:refills_refill_change", args=[dispatch.refill_id])
        return format_html('<a class="text-link" href="{}">#{}</a>', url, dispatch.refill.number)


@admin.register(SupplierText)
class SupplierTextAdmin(FilteredAdmin):
    list_display = ("text", "action", "reason", "hours", "breaks_promise")
    list_filter = ("action", "breaks_promise")
    list_select_related = ("reason",)


def scorecard(supplier: Supplier) -> str:
    """Return the figures of a supplier for the last 30 days, as HTML."""
    return render_to_string("admin/refills/scorecard.html", {"score": score_of(supplier, timezone.now())})
