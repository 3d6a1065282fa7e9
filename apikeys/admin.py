from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.forms import AdminUserCreationForm, UserChangeForm
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from apikeys.models import Account, ApiKey
from notpanel.admin import LargeTableAdmin, ReadOnlyAdmin


class AccountCreationForm(AdminUserCreationForm):
    class Meta(AdminUserCreationForm.Meta):
        model = Account
        fields = ("username", "tier")


class AccountChangeForm(UserChangeForm):
    class Meta(UserChangeForm.Meta):
        model = Account


@admin.register(Account)
class AccountAdmin(LargeTableAdmin, UserAdmin):
    add_form = AccountCreationForm
    form = AccountChangeForm
    list_display = ("username", "tier", "email", "is_active", "is_staff")
    list_filter = ("tier", "is_active", "is_staff")
    fieldsets = (*(UserAdmin.fieldsets or ()), ("API", {"fields": ("tier",)}))
    add_fieldsets = (*UserAdmin.add_fieldsets, ("API", {"fields": ("tier",)}))


@admin.register(ApiKey)
class ApiKeyAdmin(LargeTableAdmin, ReadOnlyAdmin):
    """Keys are created by whoever gets to see them: by createapikey, never here."""

    list_display = ("prefix", "account", "name", "limit_per_minute", "created_at", "last_used_at", "revoked_at")
    list_select_related = ("account",)
    list_filter = (("revoked_at", admin.EmptyFieldListFilter),)
    search_fields = ("prefix__startswith", "account__username__exact")
    exclude = ("digest",)
    actions = ("revoke",)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("apikeys.change_apikey")

    @admin.action(description="Revoke selected keys, for good", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        now = timezone.now()
        revoked = [api_key for api_key in queryset if api_key.revoke(now)]
        for api_key in revoked:
            self.log_change(request, api_key, "Revoked.")
        self.message_user(request, f"Revoked: {len(revoked)}.", messages.SUCCESS)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("digest")
