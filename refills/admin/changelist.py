"""The list of refills: its columns, its filters and its search."""

from copy import copy
from typing import Any
from urllib.parse import urlencode

from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import SuspiciousOperation
from django.db.models import Q, QuerySet
from django.http import HttpRequest, QueryDict
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.decorators import display
from unfold.views import ChangeList

from apikeys.models import Account
from apikeys.requests import SignedInRequest
from notpanel.kit.durations import duration
from notpanel.kit.public_id import parse
from orders.models import Order
from refills import desk
from refills.admin import filters
from refills.admin.status_changes import may_settle
from refills.colours import STATUS_COLOURS, TIMELINESS_COLOURS
from refills.models import Refill
from refills.querysets import RefillQuerySet
from refills.requesting import tally_refills
from refills.rules import Tally, cap_of
from refills.settlement import claimed_by_another
from refills.statuses import IN_FLIGHT

FOUND_ORDERS = 1000  # how many orders on one link a search looks up
FOUND_ACCOUNTS = 20  # how many accounts a search looks up by the beginning of a user name


class RefillList(ChangeList):
    """The list, as one request shows it. The columns are methods, so that they know the viewer and the time."""

    def __init__(self, request: SignedInRequest, model: type[Refill], list_display: list[str], *options: Any) -> None:
        self.viewer, self.now = request.user, timezone.now()
        self.has_buttons = may_settle(request.user)
        self.back = request.GET.urlencode()  # where the buttons of a row return to
        columns = (
            self.refill,
            self.age,
            self.order_and_link,
            self.service_name,
            self.customer,
            self.attempts,
            self.state,
            self.settle_buttons,
        )
        super().__init__(request, model, [*list_display, *columns], *options)

    def get_results(self, request: HttpRequest) -> None:
        """Read a page of the list, and count the refills of its orders in one statement."""
        super().get_results(request)
        self.tallies = tally_refills({refill.order_id for refill in self.result_list})

    @display(description="refill")
    def refill(self, refill: Refill) -> str:
        url = f"{reverse('admin:refills_refill_change', args=[refill.pk])}?{urlencode({'queue': self.back})}"
        html = '<a href="{}" class="text-link font-medium" title="{}">#{}</a>'
        return format_html(html, url, refill.pk, refill.number)

    @display(description="age", label=TIMELINESS_COLOURS)
    def age(self, refill: Refill) -> tuple[str, str]:
        if refill.settled_at:
            return "settled", f"settled in {duration(refill.settled_at - refill.created_at)}"
        state, age = desk.timeliness(refill, self.now), duration(self.now - refill.created_at)
        return state, age if state == "on time" else f"{age} · {state}"

    @display(description="order")
    def order_and_link(self, refill: Refill) -> str:
        order, url = refill.order, reverse("admin:orders_order_change", args=[refill.order_id])
        html = '<a href="{}" class="text-link" title="{}">#{}</a> <span class="desk-link" title="{}">{}</span>'
        return format_html(html, url, order.pk, order.number, order.link, _without_scheme(order.link))

    @display(description="service")
    def service_name(self, refill: Refill) -> str:
        return refill.service.name

    @display(description="customer")
    def customer(self, refill: Refill) -> str:
        return f"{refill.account.username} ({refill.account.tier})"

    @display(description="attempts")
    def attempts(self, refill: Refill) -> str:
        return f"{self.tallies.get(refill.order_id, Tally()).used} of {cap_of(refill.service)}"

    @display(description="status", label=STATUS_COLOURS)
    def state(self, refill: Refill) -> tuple[str, str]:
        return refill.status, refill.get_status_display()

    @display(description="")
    def settle_buttons(self, refill: Refill) -> str:
        if not self.has_buttons or refill.status not in IN_FLIGHT:
            return f"by {refill.settled_by}" if refill.settled_by else ""
        context = {
            "refill": refill,
            "viewer": self.viewer,
            "taken_by_another": claimed_by_another(refill, self.viewer, self.now),
            "back": self.back,
        }
        return render_to_string("admin/refills/refill/row_buttons.html", context)


class UnreadList(RefillList):
    """The list as it is filtered and ordered, without reading its rows."""

    def get_results(self, request: HttpRequest) -> None:
        pass


class RefillListAdmin(ModelAdmin):
    list_display = ()  # RefillList has the columns
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
    search_fields = ("number",)  # the admin shows no search without it; get_search_results does the searching
    search_help_text = "A refill's or an order's id or number, a link, or the beginning of a user name"

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return UnreadList if getattr(request, "reads_no_rows", False) else RefillList

    def filtered(self, request: SignedInRequest, query: str) -> RefillQuerySet:
        """Return the refills of the list whose address has ``query``, in its order; if it is wrong, of the whole."""
        for tried in (query, ""):
            unread = copy(request)
            unread.GET, unread.reads_no_rows = QueryDict(tried), True  # type: ignore[attr-defined]
            try:
                return self.get_changelist_instance(unread).queryset
            except (IncorrectLookupParameters, SuspiciousOperation):
                continue
        raise AssertionError("the list without a filter is right")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Refill], search_term: str
    ) -> tuple[QuerySet[Refill], bool]:
        """Search by what staff are told: ids and numbers, links, user names.

        Orders and accounts are looked up first. If they were joined, the list could not use its indexes.
        """
        term = search_term.strip()
        if not term:
            return queryset, False
        refill = parse("ref", term)
        found = Q(number=refill) if isinstance(refill, int) else Q(pk=refill)
        if order_ids := list(Order.objects.matching(term).values_list("id", flat=True)[:FOUND_ORDERS]):
            found |= Q(order__in=order_ids)
        accounts = Account.objects.filter(username__startswith=term).values_list("id", flat=True)
        if account_ids := list(accounts[:FOUND_ACCOUNTS]):
            found |= Q(account__in=account_ids)
        return queryset.filter(found), False


def _without_scheme(link: str) -> str:
    return link.removeprefix("https://").removeprefix("http://").removeprefix("www.")
