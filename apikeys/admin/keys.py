from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from apikeys.keys import revoke_api_key
from apikeys.models import ApiKey, PanelKey
from notpanel.kit.admin import LargeTableAdmin, ReadOnlyAdmin


@admin.register(ApiKey)
class ApiKeyAdmin(LargeTableAdmin, ReadOnlyAdmin):
    """Keys, without their values. They are created where they are shown: on the dashboard, or by createapikey."""

    list_display = (
        "prefix",
        "account",
        "name",
        "limit_per_minute",
        "answers",
        "read_only",
        "created_at",
        "last_used_at",
        "expires_at",
        "revoked_at",
    )
    list_select_related = ("account",)
    list_filter = (("revoked_at", admin.EmptyFieldListFilter),)
    ordering = ("-id",)
    search_fields = ("prefix__startswith", "account__username__exact")
    actions = ("revoke",)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("apikeys.change_apikey")

    @admin.action(description="Revoke selected keys, for good", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        revoked = [api_key for api_key in queryset if revoke_api_key(api_key)]
        for api_key in revoked:
            self.log_change(request, api_key, "Revoked.")
        self.message_user(request, f"Revoked: {len(revoked)}.", messages.SUCCESS)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("digest", "previous_digest")


@admin.register(PanelKey)
class PanelKeyAdmin(LargeTableAdmin, ReadOnlyAdmin):
    """Panel keys, without their values. Only superusers see them, because there is no permission to give to others."""

    list_display = ("name", "prefix", "allowed_networks", "created_at", "last_used_at", "revoked_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("digest")
