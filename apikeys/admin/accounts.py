from typing import Any, cast

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django_otp.plugins.otp_totp.models import TOTPDevice
from unfold.forms import AdminPasswordChangeForm

from apikeys import second_factor
from apikeys.accounts import may_manage, set_active
from apikeys.admin.forms import AccountChangeForm, AccountCreationForm
from apikeys.admin.rights import is_superuser
from apikeys.admin.staff import StaffPages
from apikeys.admin.steps import on_an_account
from apikeys.models import Account
from apikeys.requests import SignedInRequest
from apikeys.staff import may_be_invited
from notpanel.kit.admin import LargeTableAdmin, PanelsAdmin, sections_of

SHOWN_EVENTS = 50  # suspensions and restorations of an account, the latest first
RIGHTS = ("is_staff", "is_superuser", "groups", "user_permissions")

admin.site.unregister(TOTPDevice)  # its page shows the secret


def may_suspend(request: HttpRequest) -> bool:
    """Return whether the user may suspend and restore customers."""
    return request.user.has_perm("apikeys.suspend_account")


@admin.register(Account)
class AccountAdmin(StaffPages, PanelsAdmin, UserAdmin, LargeTableAdmin):  # type: ignore[misc]
    add_form = AccountCreationForm
    form = AccountChangeForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "tier", "email", "is_active")
    list_filter = ("tier", "is_active")
    search_fields = ("username__startswith", "email__iexact")
    ordering = ("username",)
    filter_horizontal = ()  # Django's two lists side by side are wider than the page
    # A suspension needs a reason, so it has a form of its own.
    readonly_fields = ("is_active", "last_login", "date_joined", "balance", "currency")
    change_form_outer_before_template = "admin/apikeys/account/top.html"
    change_form_outer_after_template = "admin/apikeys/account/second_factor.html"
    list_before_template = "admin/apikeys/account/list_before.html"
    add_fieldsets = (*UserAdmin.add_fieldsets, ("API", {"fields": ("tier",)}))

    def get_fieldsets(self, request: HttpRequest, obj: Account | None = None) -> Any:
        if obj is None:
            return super().get_fieldsets(request, obj)
        sections = [(title, {"fields": (render,)}) for title, render in sections_of(Account)]
        changes = self.has_change_permission(request, obj)
        account = {"fields": ("username", *(["password"] if changes else []), "email", "tier")}
        books = {"fields": ("balance", "currency")}
        names = {"fields": ("first_name", "last_name")}
        rights = {"fields": RIGHTS}
        dates = {"fields": ("is_active", "date_joined", "last_login")}
        return [
            (None, account),
            ("At the last import", books),
            *([("Name", names)] if changes else []),
            *([("Permissions", rights)] if is_superuser(request) else []),
            (None, dates),
            *sections,
        ]

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("<int:account_id>/suspend/", wrap(self.suspend_view), name="apikeys_account_suspend"),
            path(
                "<int:account_id>/reset-second-factor/",
                wrap(self.reset_second_factor_view),
                name="apikeys_account_reset_second_factor",
            ),
            *super().get_urls(),
        ]

    def get_list_display(self, request: HttpRequest) -> Any:
        return (*super().get_list_display(request), *(["is_staff"] if is_superuser(request) else []))

    def get_list_filter(self, request: HttpRequest) -> Any:
        return (*super().get_list_filter(request), *(["is_staff"] if is_superuser(request) else []))

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        if lookup.split("__")[0] in RIGHTS and not (request and is_superuser(request)):
            return False
        return LargeTableAdmin.lookup_allowed(self, lookup, value, request)  # UserAdmin's own allows any field

    def has_change_permission(self, request: HttpRequest, obj: Account | None = None) -> bool:
        allowed = super().has_change_permission(request, obj)
        return allowed and (obj is None or (not obj.erased_at and may_manage(cast(Account, request.user), obj)))

    def save_model(self, request: HttpRequest, obj: Account, form: Any, change: bool) -> None:
        if not change:
            super().save_model(request, obj, form, change)
            return
        # Save only what was changed here: meanwhile the account may have been suspended or been given a password.
        columns = {field.name for field in Account._meta.concrete_fields}
        obj.save(update_fields=columns & set(form.changed_data))

    def get_readonly_fields(self, request: HttpRequest, obj: Account | None = None) -> Any:
        return (*super().get_readonly_fields(request, obj), *(section.render for section in sections_of(Account)))

    def has_delete_permission(self, request: HttpRequest, obj: Account | None = None) -> bool:
        return False  # orders and refills refer to it: suspend it instead

    def render_change_form(
        self,
        request: HttpRequest,
        context: Any,
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Account | None = None,
    ) -> HttpResponse:
        if obj is not None and may_suspend(request) and may_manage(cast(Account, request.user), obj):
            events = obj.suspension_events.select_related("by").order_by("-at", "-id")[:SHOWN_EVENTS]
            context |= {"may_suspend": True, "suspension_events": events}
        if obj is not None and is_superuser(request):
            context |= {
                "has_second_factor": second_factor.device_of(obj) is not None,
                "may_be_invited": may_be_invited(obj),
                "may_leave": (obj.is_staff or obj.is_superuser) and obj.pk != request.user.pk,
            }
        return super().render_change_form(request, context, add, change, form_url, obj)

    @on_an_account(may_suspend)
    def suspend_view(self, request: SignedInRequest, account: Account) -> tuple[str, bool]:
        """Suspend or restore an account (POST: active, reason)."""
        active = request.POST.get("active") == "yes"
        changed = set_active(account, active, request.user, request.POST.get("reason", ""))
        state = "active" if active else "suspended"
        return (f"{account} is now {state}." if changed else f"{account} was already {state}."), changed

    @on_an_account(is_superuser)
    def reset_second_factor_view(self, request: SignedInRequest, account: Account) -> tuple[str, bool]:
        """Remove the second factor of somebody who has lost it."""
        done = second_factor.reset(account, request.user)
        return (
            f"{account} now signs in with the password alone." if done else f"{account} has no second factor."
        ), done
