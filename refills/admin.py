from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME, ActionForm
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.timesince import timesince

from apikeys.models import Account
from notpanel.admin import LargeTableAdmin, ReadOnlyAdmin
from notpanel.public_id import parse
from orders.models import Order
from refills.models import IN_FLIGHT, Refill, Status
from refills.settlement import settle

LARGEST_SELECTION = 1000  # refills settled at once


class NoteForm(ActionForm):
    note = forms.CharField(
        required=False,
        max_length=1000,
        widget=forms.TextInput(attrs={"placeholder": "Note; needed to reject", "size": 40}),
    )


class StatusFilter(admin.SimpleListFilter):
    """What waits, unless one asks for something else; a search looks everywhere."""

    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(value, str(label)) for value, label in Status.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Refill]) -> QuerySet[Refill]:
        if self.value() in Status.values:
            return queryset.filter(status=self.value())
        return queryset if request.GET.get("q") else queryset.filter(status__in=IN_FLIGHT)

    def choices(self, changelist: Any) -> Any:
        everything, *statuses = super().choices(changelist)
        yield everything | {"display": "In flight"}
        yield from statuses


@admin.register(Refill)
class RefillAdmin(LargeTableAdmin, ReadOnlyAdmin):
    list_display = ("id", "number", "status", "age", "order_link", "service", "account", "note")
    list_select_related = ("order__service", "order__account")
    list_filter = (StatusFilter, "order__service")
    ordering = ("created_at", "id")
    search_fields = ("number",)
    search_help_text = "A refill's or an order's id or number"
    action_form = NoteForm
    actions = ("approve", "complete", "reject")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Refill], search_term: str
    ) -> tuple[QuerySet[Refill], bool]:
        if not search_term:
            return queryset, False
        refill, order = parse("ref", search_term), parse("ord", search_term)
        # Looked up by itself: joined, the list could not use its indexes.
        order_ids = list(Order.objects.named([order]).values_list("id", flat=True))
        wanted = Q(order__in=order_ids) | (Q(number=refill) if isinstance(refill, int) else Q(pk=refill))
        return queryset.filter(wanted), False

    @admin.display(description="age", ordering="created_at")
    def age(self, refill: Refill) -> str:
        return timesince(refill.created_at, depth=1)

    @admin.display(description="order")
    def order_link(self, refill: Refill) -> str:
        url = reverse("admin:orders_order_change", args=[refill.order_id])
        return format_html('<a href="{}">{}</a>', url, refill.order_id)

    @admin.display(description="service", ordering="order__service")
    def service(self, refill: Refill) -> str:
        return str(refill.order.service)

    @admin.display(description="account", ordering="order__account__username")
    def account(self, refill: Refill) -> str:
        return refill.order.account.username

    def has_settle_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("refills.settle_refill")

    @admin.action(description="Approve selected refills", permissions=["settle"])
    def approve(self, request: HttpRequest, queryset: QuerySet[Refill]) -> None:
        self._settle(request, queryset, Status.APPROVED)

    @admin.action(description="Complete selected refills", permissions=["settle"])
    def complete(self, request: HttpRequest, queryset: QuerySet[Refill]) -> None:
        self._settle(request, queryset, Status.COMPLETED)

    @admin.action(description="Reject selected refills", permissions=["settle"])
    def reject(self, request: HttpRequest, queryset: QuerySet[Refill]) -> None:
        self._settle(request, queryset, Status.REJECTED)

    def _settle(self, request: HttpRequest, queryset: QuerySet[Refill], to: Status) -> None:
        # Not the queryset: its filter leaves out what a colleague has settled since the page was loaded.
        ids = request.POST.getlist(ACTION_CHECKBOX_NAME)
        if request.POST.get("select_across") == "1":
            ids = list(queryset.values_list("pk", flat=True)[: LARGEST_SELECTION + 1])
        if len(ids) > LARGEST_SELECTION:
            self.message_user(request, f"Select {LARGEST_SELECTION} refills at most.", messages.ERROR)
            return
        try:
            settlement = settle(ids, to, cast(Account, request.user), request.POST.get("note", ""))
        except ValidationError as error:
            self.message_user(request, error.message, messages.ERROR)
            return
        parts = [f"{to.label}: {len(settlement.settled)}."]
        if settlement.refused:
            reasons = "; ".join(f"{refill_id}: {why}" for refill_id, why in settlement.refused.items())
            parts.append(f"Refused: {len(settlement.refused)} ({reasons}).")
        self.message_user(request, " ".join(parts), messages.WARNING if settlement.refused else messages.SUCCESS)
