"""What the apps' admins have in common."""

from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.functional import cached_property
from unfold.admin import ModelAdmin

from notpanel.kit import replica

COUNTED = 2_000
SHOWN_REFILLS = 50


class BoundedPaginator(Paginator):
    """Counts rows only so far: what lies past that in a list of millions is found by filter and search."""

    @cached_property
    def count(self) -> int:
        if isinstance(self.object_list, QuerySet):
            return self.object_list.order_by()[:COUNTED].count()
        return len(self.object_list)


class LargeTableAdmin(ModelAdmin):
    """For tables of millions of rows: no full counts, bounded pages, lists from the replica if there is one."""

    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = BoundedPaginator
    list_per_page = 50
    list_max_show_all = 200

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        view = super().changelist_view
        if request.method == "GET":
            view = replica.reads_may_lag(view, not_before=request.COOKIES.get(replica.COOKIE, ""))
        return view(request, extra_context)


class ShowsRefills:
    """For the pages of whatever has refills: ``latest_refills`` is a read-only field that lists them."""

    @admin.display(description="refills")
    def latest_refills(self, obj: Any) -> str:
        refills = obj.refills.select_related("settled_by", "reason").order_by("-created_at")[:SHOWN_REFILLS]
        return render_to_string("admin/refills/table.html", {"refills": refills})


class ReadOnlyAdmin(ModelAdmin):
    """Shows, and changes nothing."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False
