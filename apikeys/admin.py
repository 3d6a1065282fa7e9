from typing import Any, cast

from django.contrib import admin, messages
from django.contrib.admin.models import LogEntry
from django.contrib.auth.admin import GroupAdmin as BaseGroupAdmin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path
from django.utils import timezone
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from apikeys.accounts import set_active
from apikeys.models import Account, ApiKey
from notpanel.kit.admin import LargeTableAdmin, ReadOnlyAdmin, sections_of

admin.site.unregister(Group)


@admin.register(Group)
class GroupAdmin(BaseGroupAdmin, ModelAdmin):
    pass


class AccountCreationForm(UserCreationForm):
    class Meta(UserCreationForm.Meta):
        model = Account
        fields = ("username", "tier")


class AccountChangeForm(UserChangeForm):
    class Meta(UserChangeForm.Meta):
        model = Account


@admin.register(Account)
class AccountAdmin(UserAdmin, LargeTableAdmin):  # type: ignore[misc]
    add_form = AccountCreationForm
    form = AccountChangeForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "tier", "email", "is_active", "is_staff")
    list_filter = ("tier", "is_active", "is_staff")
    search_fields = ("username__startswith", "email__iexact")
    ordering = ("username",)
    # Suspending has a reason, and so a form of its own.
    readonly_fields = ("is_active", "last_login", "date_joined")
    change_form_outer_after_template = "admin/apikeys/account/suspend.html"
    customer_fieldsets = ((None, {"fields": ("username", "email", "tier", "is_active", "date_joined", "last_login")}),)
    fieldsets = (
        *(UserAdmin.fieldsets or ()),
        ("API", {"fields": ("tier",)}),
    )
    add_fieldsets = (*UserAdmin.add_fieldsets, ("API", {"fields": ("tier",)}))

    def get_fieldsets(self, request: HttpRequest, obj: Account | None = None) -> Any:
        if obj is None:
            return super().get_fieldsets(request, obj)
        sections = ((title, {"fields": (render,)}) for title, render in sections_of(Account))
        if not self.has_change_permission(request, obj):
            return (*self.customer_fieldsets, *sections)  # without the password and the permissions
        return (*super().get_fieldsets(request, obj), *sections)

    def get_readonly_fields(self, request: HttpRequest, obj: Account | None = None) -> Any:
        return (*super().get_readonly_fields(request, obj), *(section.render for section in sections_of(Account)))

    def has_delete_permission(self, request: HttpRequest, obj: Account | None = None) -> bool:
        return False  # orders and refills refer to it: it is suspended

    def get_urls(self) -> list[URLPattern]:
        suspend = self.admin_site.admin_view(self.suspend_view)
        return [path("<int:account_id>/suspend/", suspend, name="apikeys_account_suspend"), *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        past = LogEntry.objects.filter(
            content_type=ContentType.objects.get_for_model(Account),
            object_id=object_id,
            change_message__regex="^(Suspended|Restored): ",
        ).select_related("user")[:10]
        context = {"may_suspend": request.user.has_perm("apikeys.suspend_account"), "suspensions": past}
        return super().change_view(request, object_id, form_url, context | (extra_context or {}))

    def suspend_view(self, request: HttpRequest, account_id: int) -> HttpResponse:
        """Suspend or restore an account (POST: active, reason)."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not request.user.has_perm("apikeys.suspend_account"):
            raise PermissionDenied
        account = get_object_or_404(Account, pk=account_id)
        active = request.POST.get("active") == "yes"
        try:
            changed = set_active(account, active, cast(Account, request.user), request.POST.get("reason", ""))
        except ValidationError as error:
            self.message_user(request, error.message, messages.ERROR)
        else:
            state = "active" if active else "suspended"
            words = f"{account} is {state} now." if changed else f"{account} was {state} before."
            self.message_user(request, words, messages.SUCCESS if changed else messages.WARNING)
        return redirect("admin:apikeys_account_change", account.pk)


@admin.register(ApiKey)
class ApiKeyAdmin(LargeTableAdmin, ReadOnlyAdmin):
    """Keys are created by whoever gets to see them: by createapikey, never here."""

    list_display = (
        "prefix",
        "account",
        "name",
        "limit_per_minute",
        "created_at",
        "last_used_at",
        "expires_at",
        "revoked_at",
    )
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
