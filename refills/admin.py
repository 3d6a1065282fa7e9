import csv
from collections.abc import Iterable, Iterator
from typing import Any, cast

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseNotAllowed, StreamingHttpResponse
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.decorators import display
from unfold.views import ChangeList

from apikeys.models import Account
from notpanel.kit.admin import LargeTableAdmin, ReadOnlyAdmin
from notpanel.kit.durations import duration
from notpanel.kit.public_id import parse
from notpanel.kit.refusals import Refusal
from orders.models import Order
from refills import desk, filters
from refills.colours import STATUS_COLOURS, TIMELINESS_COLOURS
from refills.forms import RejectForm, SettleForm
from refills.models import Refill, RejectionReason
from refills.requesting import tally_refills
from refills.rules import Tally, cap_of
from refills.settlement import TRANSITIONS, Outcome, StatusChange, change_status, claim, claimed_by_another, release
from refills.statuses import IN_FLIGHT, RefillStatus

LARGEST_SELECTION = 1000  # refills settled at once
FOUND_ACCOUNTS = 20  # whose user names begin with what is searched for

EXPORTED = {
    "refill": "id",
    "number": "number",
    "status": "status",
    "order": "order__id",
    "order_number": "order__number",
    "link": "order__link",
    "service": "service_id",
    "service_name": "service__name",
    "account": "account__username",
    "requested": "created_at",
    "settled": "settled_at",
    "settled_by": "settled_by__username",
    "delivered": "delivered",
    "reason": "reason__text",
    "note": "note",
}


@admin.register(RejectionReason)
class RejectionReasonAdmin(ModelAdmin):
    list_display = ("text", "active")

    def has_delete_permission(self, request: HttpRequest, obj: RejectionReason | None = None) -> bool:
        return False  # refills refer to it: it is made inactive


class RefillList(ChangeList):
    result_list: Any

    def get_results(self, request: HttpRequest) -> None:
        """Add to each refill of the page how many of its order's count, in one statement for all."""
        super().get_results(request)
        self.result_list = list(self.result_list)
        tallies = tally_refills({refill.order_id for refill in self.result_list})
        now, back = timezone.now(), request.GET.urlencode()
        may_settle = request.user.has_perm("refills.settle_refill")
        for refill in self.result_list:
            refill.tally = tallies.get(refill.order_id, Tally())
            refill.viewer, refill.shown_at = request.user, now
            refill.buttons_shown, refill.back = may_settle, back


@admin.register(Refill)
class RefillAdmin(LargeTableAdmin, ReadOnlyAdmin):
    list_display = (
        "refill",
        "age",
        "order_and_link",
        "service_name",
        "customer",
        "attempts",
        "state",
        "settle_buttons",
    )
    list_display_links = None
    list_select_related = ("order", "service", "account", "claimed_by", "settled_by")
    list_filter = (
        filters.StatusFilter,
        filters.AgeFilter,
        ("service", AutocompleteSelectFilter),
        filters.CategoryFilter,
        filters.AccountFilter,
        filters.TierFilter,
        filters.SettledByFilter,
    )
    list_filter_submit = True
    list_filter_sheet = True
    list_fullwidth = True
    list_per_page = 30  # most of the time that a page takes goes into its rows
    list_before_template = "admin/refills/refill/list_before.html"
    ordering = ("created_at", "id")
    search_fields = ("number",)
    search_help_text = "A refill's or an order's id or number, a link, or the beginning of a user name"
    actions = ("approve", "complete", "reject")

    # ---- The list

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return RefillList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Refill], search_term: str
    ) -> tuple[QuerySet[Refill], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        refill, order = parse("ref", term), parse("ord", term)
        # Each is looked up by itself: joined, the list could not use its indexes.
        found = Q(number=refill) if isinstance(refill, int) else Q(pk=refill)
        orders = Order.objects.named([order]) if order else Order.objects.filter(link=term)
        if order_ids := list(orders.values_list("id", flat=True)[:LARGEST_SELECTION]):
            found |= Q(order__in=order_ids)
        accounts = Account.objects.filter(username__startswith=term).values_list("id", flat=True)
        if account_ids := list(accounts[:FOUND_ACCOUNTS]):
            found |= Q(account__in=account_ids)
        return queryset.filter(found), False

    @display(description="refill")
    def refill(self, refill: Refill) -> str:
        url = reverse("admin:refills_refill_change", args=[refill.pk])
        return format_html(
            '<a href="{}" class="text-link font-medium" title="{}">#{}</a>', url, refill.pk, refill.number
        )

    @display(description="age", label=TIMELINESS_COLOURS)
    def age(self, refill: Any) -> tuple[str, str]:
        if refill.settled_at:
            return "settled", f"settled in {duration(refill.settled_at - refill.created_at)}"
        state = desk.timeliness(refill, refill.shown_at)
        age = duration(refill.shown_at - refill.created_at)
        return state, age if state == "on time" else f"{age} · {state}"

    @display(description="order")
    def order_and_link(self, refill: Refill) -> str:
        url = reverse("admin:orders_order_change", args=[refill.order_id])
        html = '<a href="{}" class="text-link" title="{}">#{}</a> <span class="desk-link" title="{}">{}</span>'
        return format_html(
            html, url, refill.order_id, refill.order.number, refill.order.link, _without_scheme(refill.order.link)
        )

    @display(description="service")
    def service_name(self, refill: Refill) -> str:
        return refill.service.name

    @display(description="customer")
    def customer(self, refill: Refill) -> str:
        return f"{refill.account.username} ({refill.account.tier})"

    @display(description="attempts")
    def attempts(self, refill: Any) -> str:
        refill.order.service = refill.service
        return f"{refill.tally.used} of {cap_of(refill.service)}"

    @display(description="status", label=STATUS_COLOURS)
    def state(self, refill: Refill) -> tuple[str, str]:
        return refill.status, refill.get_status_display()

    @display(description="")
    def settle_buttons(self, refill: Any) -> str:
        if not refill.buttons_shown or refill.status not in IN_FLIGHT:
            return f"by {refill.settled_by}" if refill.settled_by else ""
        taken = claimed_by_another(refill, refill.viewer, refill.shown_at)
        return render_to_string("admin/refills/refill/row_buttons.html", {"refill": refill, "taken_by_another": taken})

    # ---- A refill's page

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("export/", wrap(self.export_view), name="refills_refill_export"),
            path("<str:object_id>/settle/", wrap(self.settle_view), name="refills_refill_settle"),
            path("<str:object_id>/claim/", wrap(self.claim_view), name="refills_refill_claim"),
            *super().get_urls(),
        ]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        if request.method != "GET":
            raise PermissionDenied  # nothing of a refill is edited
        refill = self._get(object_id)
        if refill is None or not self.has_view_permission(request, refill):
            return super().change_view(request, object_id, form_url, extra_context)
        by = cast(Account, request.user)
        return TemplateResponse(
            request,
            "admin/refills/refill/page.html",
            self.admin_site.each_context(request)
            | {
                "opts": self.opts,
                "original": refill,
                "title": f"Refill #{refill.number}",
                "look": desk.look_at(refill, by, timezone.now()),
                "may_settle": self.has_settle_permission(request) and refill.status in IN_FLIGHT,
                "may_approve": refill.status in TRANSITIONS[RefillStatus.APPROVED],
                "form": SettleForm(auto_id="%s"),
                "media": self.media,
            },
        )

    def _get(self, object_id: str) -> Refill | None:
        reference = parse("ref", object_id.replace("_5F", "_"))  # as the admin quotes it
        related = ("order__service", "account", "api_key", "settled_by", "approved_by", "claimed_by", "reason")
        return Refill.objects.select_related(*related).named([reference]).first()

    def settle_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Settle one refill, from its page or, with ``?back=``, from its row in the list."""
        refill = self._may_work_on(request, object_id)
        if not isinstance(refill, Refill):
            return refill
        form = SettleForm(request.POST)
        if not form.is_valid():
            for name, errors in form.errors.items():
                self.message_user(request, f"{name}: {' '.join(map(str, errors))}", messages.ERROR)
            return self._back(request, refill)
        outcome = self._settle(
            request,
            [refill.pk],
            form.cleaned_data["to"],
            note=form.cleaned_data["note"],
            reason=form.cleaned_data["reason"],
            delivered=form.cleaned_data["delivered"],
        )
        if "back" in request.GET or outcome is None or not outcome.done:
            return self._back(request, refill)
        following = desk.next_in_queue(cast(Account, request.user), timezone.now(), refill)
        if following is None:
            self.message_user(request, "The queue is empty.", messages.SUCCESS)
            return redirect("admin:refills_refill_changelist")
        return redirect("admin:refills_refill_change", following.pk)

    def claim_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Take a refill, take it over from a colleague, or give it back."""
        refill = self._may_work_on(request, object_id)
        if not isinstance(refill, Refill):
            return refill
        by = cast(Account, request.user)
        if request.POST.get("claim") == "release":
            release([refill.pk], by)
        else:
            outcome = claim([refill.pk], by, take_over=request.POST.get("claim") == "take_over")
            for why in outcome.refused.values():
                self.message_user(request, f"Refill #{refill.number} was not taken: {why.text}.", messages.WARNING)
        return self._back(request, refill)

    def _may_work_on(self, request: HttpRequest, object_id: str) -> Refill | HttpResponseBase:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_settle_permission(request):
            raise PermissionDenied
        return self._get(object_id) or cast(
            HttpResponseBase, self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        )

    def _back(self, request: HttpRequest, refill: Refill) -> HttpResponse:
        if "back" not in request.GET:
            return redirect("admin:refills_refill_change", refill.pk)
        return redirect(f"{reverse('admin:refills_refill_changelist')}?{request.GET['back']}")

    # ---- Settling

    def has_settle_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("refills.settle_refill")

    @admin.action(description="Approve selected refills", permissions=["settle"])
    def approve(self, request: HttpRequest, queryset: QuerySet[Refill]) -> None:
        self._settle(request, self._selected(request, queryset), RefillStatus.APPROVED)

    @admin.action(description="Complete selected refills", permissions=["settle"])
    def complete(self, request: HttpRequest, queryset: QuerySet[Refill]) -> None:
        self._settle(request, self._selected(request, queryset), RefillStatus.COMPLETED)

    @admin.action(description="Reject selected refills…", permissions=["settle"])
    def reject(self, request: HttpRequest, queryset: QuerySet[Refill]) -> HttpResponse | None:
        selected = self._selected(request, queryset)
        form = RejectForm(request.POST if "confirmed" in request.POST else None)
        if form.is_valid():
            self._settle(request, selected, RefillStatus.REJECTED, **form.cleaned_data)
            return None
        context = {"opts": self.opts, "title": "Reject refills", "form": form, "selected": selected}
        return TemplateResponse(
            request, "admin/refills/refill/reject.html", self.admin_site.each_context(request) | context
        )

    def _selected(self, request: HttpRequest, queryset: QuerySet[Refill]) -> list[str]:
        if request.POST.get("select_across") == "1":
            return list(queryset.values_list("pk", flat=True)[: LARGEST_SELECTION + 1])
        # Not the queryset: its filter leaves out what a colleague has settled since the page was loaded.
        return request.POST.getlist(ACTION_CHECKBOX_NAME)

    def _settle(self, request: HttpRequest, ids: list[str], to: RefillStatus, **details: Any) -> Outcome | None:
        """Settle, and say in one message how many were settled, and which were refused and why."""
        if len(ids) > LARGEST_SELECTION:
            self.message_user(request, f"Select {LARGEST_SELECTION} refills at most.", messages.ERROR)
            return None
        try:
            outcome = change_status(ids, StatusChange(to, **details), cast(Account, request.user))
        except Refusal as refusal:
            self.message_user(request, refusal.text, messages.ERROR)
            return None
        parts = [f"{to.label}: {len(outcome.done)}."]
        if outcome.refused:
            reasons = "; ".join(f"{refill_id}: {why.text}" for refill_id, why in outcome.refused.items())
            parts.append(f"Refused: {len(outcome.refused)} ({reasons}).")
        self.message_user(request, " ".join(parts), messages.WARNING if outcome.refused else messages.SUCCESS)
        return outcome

    # ---- Export

    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        """Stream the filtered list, all of its pages, as CSV."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        refills = self.get_changelist_instance(request).queryset.values_list(*EXPORTED.values())
        rows = (map(_safe_cell, row) for row in refills.iterator(chunk_size=1000))
        writer = csv.writer(_Echo())
        lines = (writer.writerow(row) for row in _chain(EXPORTED, rows))
        name = f"refills-{timezone.now():%Y-%m-%d}.csv"
        return StreamingHttpResponse(
            lines,
            content_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )


def _without_scheme(link: str) -> str:
    return link.removeprefix("https://").removeprefix("http://").removeprefix("www.")


class _Echo:
    """A file for csv.writer that hands back each line instead of keeping it."""

    def write(self, line: str) -> str:
        return line


def _chain(header: Iterable[str], rows: Iterable[Iterable[object]]) -> Iterator[Iterable[object]]:
    yield header
    yield from rows


def _safe_cell(value: object) -> object:
    """Keep a spreadsheet from taking what a customer wrote for a formula."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value.isoformat() if hasattr(value, "isoformat") else value
