"""The list of refills: its columns, its filters and its search."""

from copy import copy
from functools import cached_property
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ORDER_VAR, SEARCH_VAR
from django.core.exceptions import SuspiciousOperation
from django.db.models import QuerySet
from django.http import HttpRequest, QueryDict
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.views import ChangeList

from apikeys.requests import SignedInRequest
from notpanel.kit.admin import COUNTED, UserNameFilter, bounded_counts
from notpanel.kit.durations import duration
from notpanel.templatetags.components import time_tag
from refills import desk
from refills.admin import filters
from refills.admin.filters import SORTS, TABS, VIEWS
from refills.admin.status_changes import LARGEST_SELECTION, may_settle
from refills.colours import STATUS_COLOURS, TIMELINESS_COLOURS
from refills.models import Refill
from refills.querysets import RefillQuerySet
from refills.requesting import tally_refills
from refills.rules import Tally, cap_of
from refills.search import NOTHING, Found, search
from refills.settlement import claimed_by_another


class Tab(NamedTuple):
    """A link to one of the lists that agents work through."""

    label: str
    url: str
    refills: str  # how many, "2,000+" at most
    is_current: bool


class Chip(NamedTuple):
    """A filter that is set: what it lets through, and the address of the list without it."""

    name: str
    value: str
    url: str


class SortLink(NamedTuple):
    """An order that the list offers."""

    label: str
    url: str
    is_current: bool


class RefillList(ChangeList):
    """The list, as one request shows it. The columns are methods, so that they know the viewer and the time."""

    def __init__(self, request: SignedInRequest, model: type[Refill], list_display: list[str], *options: Any) -> None:
        self.viewer, self.now = request.user, timezone.now()
        self.has_buttons = may_settle(request.user)
        self.back = request.GET.urlencode()  # where the buttons of a row return to
        self.view = filters.view_of(request)
        self.found = Found(NOTHING)  # get_search_results() replaces it
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
        # Replaces what Django has set: only the columns by which the view can be sorted.
        self.sortable_by = [column for column in columns if _sort_of(column) in VIEWS[self.view].sorts]

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Refill]:
        found = super().get_queryset(request, exclude_parameters)
        self.found = getattr(request, "found", self.found)
        return found

    def get_results(self, request: HttpRequest) -> None:
        """Read a page of the list, count the refills of its orders in one statement, and the tabs in another one."""
        super().get_results(request)
        # What the rows show of other tables is read for the page alone, not for all rows that were sorted.
        page = self.result_list.select_related(None).values("pk")  # type: ignore[has-type]
        rows = self.root_queryset.filter(pk__in=page)
        self.result_list = rows.select_related(*self.list_select_related).order_by(*SORTS[self.sort][1])
        self.tallies = tally_refills({refill.order_id for refill in self.result_list})
        self.shown = self._shown() if self.has_buttons else ""
        self.tab_counts = bounded_counts(
            VIEWS[name].select(self.root_queryset, self.now, self.viewer).order_by(*SORTS[VIEWS[name].sorts[0]][1])
            for name in TABS
        )

    def _shown(self) -> str:
        """Return the numbers of all refills of a list that has several pages, if they can be selected as a whole.

        "Select all 76" means these: whatever comes into the list after it was shown is not selected.
        """
        if not len(self.result_list) < self.result_count <= LARGEST_SELECTION:
            return ""
        return " ".join(map(str, self.queryset.values_list("number", flat=True)[:LARGEST_SELECTION]))

    # ---- The order. The address has a name of SORTS, or the number of a column from a click on its head.

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Refill]) -> list[str]:
        return list(SORTS[self.sort][1])

    def get_ordering_field_columns(self) -> dict[int, str]:
        direction = "desc" if self.sort.startswith("-") else "asc"
        columns = [_sort_of(column) for column in self.list_display]
        return {columns.index(name): direction for name in [self.sort.removeprefix("-")] if name in columns}

    @property
    def sort(self) -> str:
        """Return the name of the order that the list has: as the address asks, if the view offers it."""
        offered = VIEWS[self.view].sorts
        return self._asked_sort if self._asked_sort in offered else offered[0]

    @property
    def sort_refusal(self) -> str:
        """Say why the list is not in the order that the address asks for, or return ""."""
        asked = self._asked_sort
        return filters.why_not_sorted(asked) if asked in SORTS and asked not in VIEWS[self.view].sorts else ""

    @cached_property
    def _asked_sort(self) -> str:
        asked = self.params.get(ORDER_VAR, "").split(".")[0]
        column = asked.removeprefix("-")
        if not (column.isascii() and column.isdigit() and int(column) < len(self.list_display)):
            return asked
        name = _sort_of(self.list_display[int(column)])
        return f"-{name}" if asked.startswith("-") else name

    # ---- What stands above the list.

    @property
    def tabs(self) -> list[Tab]:
        """Return the lists that agents work through, each with the number of its refills."""
        return [
            Tab(
                VIEWS[name].label,
                "?" if name == TABS[0] else f"?{urlencode({'status': name})}",
                f"{count:,}" if count <= COUNTED else f"{COUNTED:,}+",
                name == self.view,
            )
            for name, count in zip(TABS, self.tab_counts, strict=True)
        ]

    @property
    def chips(self) -> list[Chip]:
        """Return what the list is filtered by, and the search."""
        chips = [Chip("search", self.query, self._without(SEARCH_VAR))] if self.query else []
        return chips + [
            Chip(spec.title, value, self._without(*spec.expected_parameters()))
            for spec in self.filter_specs
            if (value := spec.chip())
        ]

    @property
    def sorts(self) -> list[SortLink]:
        """Return the orders that the view offers."""
        return [
            SortLink(SORTS[name][0], self.get_query_string({ORDER_VAR: name}), name == self.sort)
            for name in VIEWS[self.view].sorts
        ]

    @property
    def other_end(self) -> str:
        """Return the address of the list in the opposite order, or "" if the view does not offer that."""
        opposite = self.sort.removeprefix("-") if self.sort.startswith("-") else f"-{self.sort}"
        if self.sort == "flight":
            opposite = "settlement"
        return self.get_query_string({ORDER_VAR: opposite}) if opposite in VIEWS[self.view].sorts else ""

    def _without(self, *names: str) -> str:
        return self.get_query_string(dict.fromkeys(names))

    # ---- The columns.

    @display(description="refill")
    def refill(self, refill: Refill) -> str:
        url = f"{reverse('admin:refills_refill_change', args=[refill.pk])}?{urlencode({'queue': self.back})}"
        html = '<a href="{}" class="text-link font-medium" title="{}">#{}</a>'
        return format_html(html, url, refill.pk, refill.number)

    @display(description="age", ordering="age", label=TIMELINESS_COLOURS)
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

    @display(description="service", ordering="service")
    def service_name(self, refill: Refill) -> str:
        return format_html('<span title="{0}">{0}</span>', refill.service)

    @display(description="customer", ordering="customer")
    def customer(self, refill: Refill) -> str:
        return format_html('<span title="{0}">{0} ({1})</span>', refill.account.username, refill.account.tier)

    @display(description="attempts")
    def attempts(self, refill: Refill) -> str:
        return f"{self.tallies.get(refill.order_id, Tally()).used} of {cap_of(refill.service)}"

    @display(description="status", label=STATUS_COLOURS)
    def state(self, refill: Refill) -> tuple[str, str]:
        return refill.status, refill.get_status_display()

    @display(description="settlement", ordering="settlement")
    def settle_buttons(self, refill: Refill) -> str:
        if refill.settled_at:
            return format_html("{} by {}", time_tag(timezone.localtime(refill.settled_at)), refill.settled_by)
        if not self.has_buttons:
            return ""
        context = {
            "refill": refill,
            "viewer": self.viewer,
            "taken_by_another": claimed_by_another(refill, self.viewer, self.now),
            "back": self.back,
        }
        return render_to_string("admin/refills/refill/row_buttons.html", context)


def _sort_of(column: Any) -> str:
    return getattr(column, "admin_order_field", "")


class UnreadList(RefillList):
    """The list as it is filtered and ordered, without reading its rows."""

    def get_results(self, request: HttpRequest) -> None:
        pass


class RefillListAdmin(ModelAdmin):
    list_display = ()  # RefillList has the columns
    list_display_links = None
    list_select_related = ("order", "service", "account", "claimed_by", "settled_by")
    list_filter = (
        filters.ViewFilter,
        filters.AgeFilter,
        ("service", filters.ServiceFilter),
        filters.CategoryFilter,
        UserNameFilter,
        filters.TierFilter,
        filters.SettledByFilter,
        filters.SettledFilter,
    )
    list_filter_submit = True
    list_filter_sheet = True
    list_fullwidth = True
    list_per_page = 30  # most of the time that a page takes goes into its rows
    list_before_template = "admin/refills/refill/list_before.html"
    ordering = ("created_at", "id")
    search_fields = ("number",)  # the admin shows no search without it; get_search_results does the searching
    search_help_text = "Ids, numbers, a link, a name or an e-mail address"

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return UnreadList if getattr(request, "reads_no_rows", False) else RefillList

    def filtered(self, request: SignedInRequest, query: str) -> RefillQuerySet:
        """Return the refills of the list at the address with ``query``, in its order; all of them if it is wrong."""
        for tried in (query, ""):
            unread = copy(request)
            unread.GET, unread.reads_no_rows = QueryDict(tried), True  # type: ignore[attr-defined]
            try:
                return self.get_changelist_instance(unread).queryset
            except (IncorrectLookupParameters, SuspiciousOperation):
                continue
        raise AssertionError("the list without a filter cannot be wrong")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Refill], search_term: str
    ) -> tuple[QuerySet[Refill], bool]:
        """Search for what staff are given. Remarks about the search are left on the request, for the list to show."""
        if not search_term.strip():
            return queryset, False
        request.found = search(search_term, timezone.now())  # type: ignore[attr-defined]
        return queryset.filter(request.found.refills), False  # type: ignore[attr-defined]


def _without_scheme(link: str) -> str:
    return link.removeprefix("https://").removeprefix("http://").removeprefix("www.")
