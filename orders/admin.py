from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from notpanel.kit.admin import (
    FilteredAdmin,
    LargeTableAdmin,
    PanelsAdmin,
    ReadOnlyAdmin,
    UserNameFilter,
    sections_of,
)
from orders.models import Order, Service


@admin.register(Service)
class ServiceAdmin(FilteredAdmin):
    list_display = ("id", "name", "category", "type", "rate", "refill", "refill_days", "refill_limit", "active")
    list_display_links = ("id", "name")
    list_filter = ("active", "refill", "category")
    search_fields = ("=id", "name")

    def has_delete_permission(self, request: HttpRequest, obj: Service | None = None) -> bool:
        return False  # orders refer to it: make it inactive instead

    def get_readonly_fields(self, request: HttpRequest, obj: Service | None = None) -> tuple[str, ...]:
        return ("id",) if obj else ()  # a service with another id is another service


@admin.register(Order)
class OrderAdmin(PanelsAdmin, LargeTableAdmin, ReadOnlyAdmin):
    list_display = ("id", "number", "account", "service", "quantity", "status", "created_at", "completed_at")
    list_select_related = ("account", "service")
    list_filter = (UserNameFilter,)
    list_filter_submit = True
    search_fields = ("number",)
    search_help_text = "Ids, numbers or links of orders"
    fields = (
        ("id", "number"),
        ("account", "service"),
        "link",
        ("quantity", "start_count", "remains"),
        ("charge", "currency"),
        "status",
        ("created_at", "completed_at"),
    )
    readonly_fields = ("id",)

    def get_fields(self, request: HttpRequest, obj: Order | None = None) -> tuple[Any, ...]:
        return (*self.fields, *(section.render for section in sections_of(Order)))

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        # Both orders show the latest first. Each is that of an index: of a customer's orders, and of all.
        return ("-created_at", "-id") if request.GET.get(UserNameFilter.parameter_name) else ("-id",)

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        term = search_term.strip()
        return queryset.matching(term) if term else queryset, False
