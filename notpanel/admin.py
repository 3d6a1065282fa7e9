from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from procrastinate.contrib.django.models import ProcrastinateJob
from unfold.contrib.filters.admin import DropdownFilter

from notpanel.kit.admin import LargeTableAdmin, ReadOnlyAdmin

admin.site.unregister(ProcrastinateJob)  # its page does not use the theme, and loads every event of every job


class StatusFilter(DropdownFilter):
    """Filters by status. PostgreSQL has a type for the statuses, and fails on any other word."""

    title = "status"
    parameter_name = "status"
    all_option = ["", "All"]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(status, status) for status in ProcrastinateJob.STATUSES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ProcrastinateJob]) -> QuerySet[ProcrastinateJob]:
        return queryset.filter(status=self.value()) if self.value() in ProcrastinateJob.STATUSES else queryset


@admin.register(ProcrastinateJob)
class JobAdmin(LargeTableAdmin, ReadOnlyAdmin):
    """The jobs that wait, that run and that failed."""

    list_display = ("id", "task_name", "args", "status", "attempts", "scheduled_at")
    list_filter = (StatusFilter, "task_name")
    fields = ("task_name", "args", "status", "attempts", "scheduled_at", "queue_name")
    ordering = ("-id",)
