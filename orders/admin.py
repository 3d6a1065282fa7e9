from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminPasswordWidget

from notpanel.kit.admin import (
    FilteredAdmin,
    LargeTableAdmin,
    PanelsAdmin,
    ReadOnlyAdmin,
    UserNameFilter,
    sections_of,
)
from orders.models import Order, Service, Supplier
from orders.suppliers import save_supplier


class SupplierForm(forms.ModelForm):
    key = forms.CharField(
        max_length=500,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "off"}),
        help_text="Its API key, stored encrypted and never shown again. Leave it empty to keep the one that is stored.",
    )

    class Meta:
        model = Supplier
        fields = ("name", "url", "mode", "paused", "per_minute", "poll_seconds")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk and "key" in self.fields:  # without the permission to change it there are no fields
            self.fields["key"].required = False


@admin.register(Supplier)
class SupplierAdmin(PanelsAdmin, FilteredAdmin):
    form = SupplierForm
    list_display = ("name", "mode", "paused", "per_minute", "poll_seconds")
    list_filter = ("mode", "paused")
    search_fields = ("name",)
    fields = ("name", "url", "key", "mode", "paused", "per_minute", "poll_seconds")

    def get_fields(self, request: HttpRequest, obj: Supplier | None = None) -> Any:
        # Staff who may only view a supplier see no field for the key.
        may_write = self.has_change_permission(request, obj) if obj else True
        sections = [section.render for section in sections_of(Supplier)] if obj else []
        return (*(name for name in self.fields if name != "key" or may_write), *sections)

    def get_readonly_fields(self, request: HttpRequest, obj: Supplier | None = None) -> Any:
        return tuple(section.render for section in sections_of(Supplier)) if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: Supplier | None = None) -> bool:
        return False  # the history of refills refers to its account: switch it off instead

    def save_model(self, request: HttpRequest, obj: Supplier, form: Any, change: bool) -> None:
        save_supplier(obj, form.cleaned_data["key"])


@admin.register(Service)
class ServiceAdmin(FilteredAdmin):
    list_display = ("id", "name", "category", "type", "rate", "refill", "refill_days", "refill_limit", "active")
    list_display_links = ("id", "name")
    list_filter = ("active", "refill", "supplier", "category")
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
        ("account", "service", "supplier_order"),
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
        # Both sort the latest first, and an index serves each: one for a customer's orders, one for all orders.
        return ("-created_at", "-id") if request.GET.get(UserNameFilter.parameter_name) else ("-id",)

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        term = search_term.strip()
        return queryset.matching(term) if term else queryset, False
