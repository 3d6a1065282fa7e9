from typing import Any, cast

from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin as BaseGroupAdmin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path
from django_otp.plugins.otp_totp.models import TOTPDevice
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from apikeys import second_factor
from apikeys.accounts import lock_with_superusers, may_manage, set_active
from apikeys.keys import revoke_api_key
from apikeys.models import Account, ApiKey, AuditEvent
from apikeys.refusals import LastSuperuser
from apikeys.requests import SignedInRequest
from notpanel.kit.admin import FilteredAdmin, LargeTableAdmin, ReadOnlyAdmin, sections_of
from notpanel.kit.refusals import Refusal

SHOWN_EVENTS = 50  # suspensions and restorations of an account, the latest first
RIGHTS = ("is_staff", "is_superuser", "groups", "user_permissions")

admin.site.unregister(Group)
admin.site.unregister(TOTPDevice)  # its page shows the secret


def _is_superuser(request: HttpRequest) -> bool:
    return bool(request.user.is_active and request.user.is_superuser)


@admin.register(Group)
class GroupAdmin(BaseGroupAdmin, FilteredAdmin):  # type: ignore[misc]
    """Groups give permissions, so only superusers see and change them, whatever permissions somebody has."""

    filter_horizontal = ()  # Django's two lists side by side are wider than the page

    def has_module_permission(self, request: HttpRequest) -> bool:
        return _is_superuser(request)

    def has_view_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return _is_superuser(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return _is_superuser(request)

    def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return _is_superuser(request)

    def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return _is_superuser(request)


class AccountCreationForm(UserCreationForm):
    class Meta(UserCreationForm.Meta):
        model = Account
        fields = ("username", "tier")


class AccountChangeForm(UserChangeForm):
    class Meta(UserChangeForm.Meta):
        model = Account

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if {"is_staff", "is_superuser"} <= self.fields.keys():
            # The admin saves the form in the transaction that this locks in.
            account, others = lock_with_superusers(self.instance)
            was = account.is_active and account.is_staff and account.is_superuser
            if was and not others and not (cleaned.get("is_staff") and cleaned.get("is_superuser")):
                raise ValidationError(LastSuperuser.message)
        return cleaned


@admin.register(Account)
class AccountAdmin(UserAdmin, LargeTableAdmin):  # type: ignore[misc]
    add_form = AccountCreationForm
    form = AccountChangeForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "tier", "email", "is_active")
    list_filter = ("tier", "is_active")
    search_fields = ("username__startswith", "email__iexact")
    ordering = ("username",)
    filter_horizontal = ()  # Django's two lists side by side are wider than the page
    # A suspension needs a reason, so it has a form of its own.
    readonly_fields = ("is_active", "last_login", "date_joined")
    change_form_outer_after_template = "admin/apikeys/account/suspend.html"
    add_fieldsets = (*UserAdmin.add_fieldsets, ("API", {"fields": ("tier",)}))

    def get_fieldsets(self, request: HttpRequest, obj: Account | None = None) -> Any:
        if obj is None:
            return super().get_fieldsets(request, obj)
        sections = [(title, {"fields": (render,)}) for title, render in sections_of(Account)]
        changes = self.has_change_permission(request, obj)
        account = {"fields": ("username", *(["password"] if changes else []), "email", "tier")}
        names = {"fields": ("first_name", "last_name")}
        rights = {"fields": RIGHTS}
        dates = {"fields": ("is_active", "date_joined", "last_login")}
        return [
            (None, account),
            *([("Name", names)] if changes else []),
            *([("Permissions", rights)] if _is_superuser(request) else []),
            (None, dates),
            *sections,
        ]

    def get_list_display(self, request: HttpRequest) -> Any:
        return (*super().get_list_display(request), *(["is_staff"] if _is_superuser(request) else []))

    def get_list_filter(self, request: HttpRequest) -> Any:
        return (*super().get_list_filter(request), *(["is_staff"] if _is_superuser(request) else []))

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        if lookup.split("__")[0] in RIGHTS and not (request and _is_superuser(request)):
            return False
        return LargeTableAdmin.lookup_allowed(self, lookup, value, request)  # UserAdmin's own allows any field

    def has_change_permission(self, request: HttpRequest, obj: Account | None = None) -> bool:
        allowed = super().has_change_permission(request, obj)
        return allowed and (obj is None or may_manage(cast(Account, request.user), obj))

    def save_model(self, request: HttpRequest, obj: Account, form: Any, change: bool) -> None:
        if not change:
            super().save_model(request, obj, form, change)
            return
        # Nothing but what was changed here: the account may have been suspended, or have got a password, meanwhile.
        columns = {field.name for field in Account._meta.concrete_fields}
        obj.save(update_fields=columns & set(form.changed_data))

    def get_readonly_fields(self, request: HttpRequest, obj: Account | None = None) -> Any:
        return (*super().get_readonly_fields(request, obj), *(section.render for section in sections_of(Account)))

    def has_delete_permission(self, request: HttpRequest, obj: Account | None = None) -> bool:
        return False  # orders and refills refer to it: suspend it instead

    def get_urls(self) -> list[URLPattern]:
        suspend = self.admin_site.admin_view(self.suspend_view)
        reset = self.admin_site.admin_view(self.reset_second_factor_view)
        return [
            path("<int:account_id>/suspend/", suspend, name="apikeys_account_suspend"),
            path("<int:account_id>/reset-second-factor/", reset, name="apikeys_account_reset_second_factor"),
            *super().get_urls(),
        ]

    def render_change_form(
        self,
        request: HttpRequest,
        context: Any,
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Account | None = None,
    ) -> HttpResponse:
        if (
            obj is not None
            and request.user.has_perm("apikeys.suspend_account")
            and may_manage(cast(Account, request.user), obj)
        ):
            events = obj.suspension_events.select_related("by").order_by("-at", "-id")[:SHOWN_EVENTS]
            context |= {"may_suspend": True, "suspension_events": events}
        if obj is not None and _is_superuser(request):
            context |= {"has_second_factor": second_factor.device_of(obj) is not None}
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

    def reset_second_factor_view(self, request: SignedInRequest, account_id: int) -> HttpResponse:
        """Take away the second factor of somebody who has lost it (POST)."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_view_permission(request):
            raise PermissionDenied
        account = get_object_or_404(Account, pk=account_id)
        try:
            done = second_factor.reset(account, request.user)
        except Refusal as refusal:
            self.message_user(request, refusal.text, messages.ERROR)
        else:
            words = f"{account} signs in with the password alone now." if done else f"{account} has no second factor."
            self.message_user(request, words, messages.SUCCESS if done else messages.WARNING)
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


@admin.register(AuditEvent)
class AuditEventAdmin(LargeTableAdmin, ReadOnlyAdmin):
    """The audit log. Only superusers see it, because nobody can be given a permission for it."""

    list_display = ("when", "kind", "account", "by", "address", "more")
    list_select_related = ("account", "by")
    list_filter = ("kind", "at")
    search_fields = ("account__username",)  # get_search_results() does more
    search_help_text = "A user name: what was done to the account, or by it."
    fields = list_display
    sortable_by = ()

    @admin.display(description="when")
    def when(self, event: AuditEvent) -> str:
        return f"{event.at:%Y-%m-%d %H:%M:%S}"

    @admin.display(description="details")
    def more(self, event: AuditEvent) -> str:
        told = {name: value for name, value in event.details.items() if value not in ("", [], None)}
        return ", ".join(f"{name}: {_as_text(value)}" for name, value in told.items())

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[AuditEvent], search_term: str
    ) -> tuple[QuerySet[AuditEvent], bool]:
        if not search_term:
            return queryset, False
        # The account first: a condition on the joined name would read the events of everybody.
        account_id = Account.objects.filter(username=search_term).values_list("pk", flat=True).first()
        return queryset.filter(Q(account_id=account_id) | Q(by_id=account_id)) if account_id else queryset.none(), False


def _as_text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_as_text(inner)}" for name, inner in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
