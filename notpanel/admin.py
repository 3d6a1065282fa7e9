from django.contrib import admin
from procrastinate.contrib.django.models import ProcrastinateJob

from notpanel.kit.admin import LargeTableAdmin, ReadOnlyAdmin

admin.site.unregister(ProcrastinateJob)  # its page is not that of the theme, and loads every event of every job


@admin.register(ProcrastinateJob)
class JobAdmin(LargeTableAdmin, ReadOnlyAdmin):
    """The jobs that wait, that run and that failed."""

    list_display = ("id", "task_name", "args", "status", "attempts", "scheduled_at")
    list_filter = ("status", "task_name")
    fields = ("task_name", "args", "status", "attempts", "scheduled_at", "queue_name")
    ordering = ("-id",)
