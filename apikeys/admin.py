from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin as BaseGroupAdmin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from apikeys.accounts import set_active
from apikeys.keys import revoke_api_key
from apikeys.models import Account, ApiKey
from apikeys.requests import SignedInRequest
from notpanel.kit.admin import FilteredAdmin, LargeTableAdmin, ReadOnlyAdmin, sections_of
from notpanel.kit.refusals import Refusal

SHOWN_EVENTS = 50  # suspensions and restorations of an account, the latest first

admin.site.unregister(Group)


@admin.register(Group)
class GroupAdmin(BaseGroupAdmin, FilteredAdmin):  # type: ignore[misc]
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
    lookup_allowed = LargeTableAdmin.lookup_allowed
    add_form = AccountCreationForm
    form = AccountChangeForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "tier", "email", "is_active", "is_staff")
    list_filter = ("tier", "is_active", "is_staff")
    search_fields = ("username__startswith", "email__iexact")
    ordering = ("username",)
    # A suspension needs a reason, so it has a form of its own.
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
        return False  # orders and refills refer to it: suspend it instead

    def get_urls(self) -> list[URLPattern]:
        suspend = self.admin_site.admin_view(self.suspend_view)
        return [path("<int:account_id>/suspend/", suspend, name="apikeys_account_suspend"), *super().get_urls()]

    def render_change_form(
        self,
        request: HttpRequest,
        context: Any,
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Account | None = None,
    ) -> HttpResponse:
        if obj is not None and request.user.has_perm("apikeys.suspend_account"):
            events = obj.suspension_events.select_related("by").order_by("-at", "-id")[:SHOWN_EVENTS]
            context |= {"may_suspend": True, "suspension_events": events}
        return super().render_change_form(request, context, add, change, form_url, obj)

    def suspend_view(self, request: SignedInRequest, account_id: int) -> HttpResponse:
        """Suspend or restore an account (POST: active, reason)."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not request.user.has_perm("apikeys.suspend_account"):
            raise PermissionDenied
        account = get_object_or_404(Account, pk=account_id)
        active = request.POST.get("active") == "yes"
        try:
            changed = set_active(account, active, request.user, request.POST.get("reason", ""))
        except Refusal as refusal:
            self.message_user(request, refusal.text, messages.ERROR)
        else:
            state = "active" if active else "suspended"
            words = f"{account} is {state} now." if changed else f"{account} was {state} before."
            self.message_user(request, words, messages.SUCCESS if changed else messages.WARNING)
        return redirect("admin:apikeys_account_change", account.pk)


@admin.register(ApiKey)
class ApiKeyAdmin(LargeTableAdmin, ReadOnlyAdmin):
    """Keys, without their values. They are created where they are shown: on the dashboard, or by createapikey."""

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
        revoked = [api_key for api_key in queryset if revoke_api_key(api_key)]
        for api_key in revoked:
            self.log_change(request, api_key, "Revoked.")
        self.message_user(request, f"Revoked: {len(revoked)}.", messages.SUCCESS)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("digest")
