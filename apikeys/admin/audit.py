from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from apikeys.models import Account, AuditEvent
from notpanel.kit.admin import LargeTableAdmin, ReadOnlyAdmin
from notpanel.kit.times import time_text


@admin.register(AuditEvent)
class AuditEventAdmin(LargeTableAdmin, ReadOnlyAdmin):
    """The audit log. Only superusers see it, because there is no permission to give to others."""

    list_display = ("when", "kind", "account", "by", "address", "more")
    list_select_related = ("account", "by")
    list_filter = ("kind", "at")
    search_fields = ("account__username",)  # get_search_results() does more
    search_help_text = "Enter a user name to see what was done to the account or by it."
    fields = list_display
    sortable_by = ()

    @admin.display(description="when")
    def when(self, event: AuditEvent) -> str:
        return time_text(event.at, seconds=True)

    @admin.display(description="details")
    def more(self, event: AuditEvent) -> str:
        told = {name: value for name, value in event.details.items() if value not in ("", [], None)}
        return ", ".join(f"{name}: {_as_text(value)}" for name, value in told.items())

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[AuditEvent], search_term: str
    ) -> tuple[QuerySet[AuditEvent], bool]:
        if not search_term:
            return queryset, False
        # Look the account up first: a condition on the joined name would read everybody's events.
        account_id = Account.objects.filter(username=search_term).values_list("pk", flat=True).first()
        return queryset.filter(Q(account_id=account_id) | Q(by_id=account_id)) if account_id else queryset.none(), False


def _as_text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_as_text(inner)}" for name, inner in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
