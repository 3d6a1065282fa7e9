"""What the apps' admins have in common."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth import get_user_model
from django.core.exceptions import SuspiciousOperation, ValidationError
from django.core.paginator import Paginator
from django.db import connections
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.functional import cached_property
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import TextFilter

from notpanel.kit import replica

COUNTED = 2_000


class BoundedPaginator(Paginator):
    """Counts rows up to a bound only. In a list of millions, staff find the rows past it by filter, search and sort."""

    template_name = "admin/bounded_pages.html"

    @cached_property
    def count(self) -> int:
        """Return the number of rows, COUNTED at most; ``has_more`` says whether there are more."""
        return min(self._counted, COUNTED)

    @property
    def has_more(self) -> bool:
        return self._counted > COUNTED

    @cached_property
    def _counted(self) -> int:
        if isinstance(self.object_list, QuerySet):
            # The ordering is kept: its index finds the first rows, while without it the whole table may be read.
            return self.object_list[: COUNTED + 1].count()
        return len(self.object_list)


def bounded_counts(querysets: Iterable[QuerySet[Any]]) -> list[int]:
    """Count the rows of each queryset, COUNTED + 1 at most, in one statement.

    Keeps their ordering, because its index finds the first rows.
    """
    querysets = list(querysets)
    parts = [queryset.values("pk")[: COUNTED + 1].query.sql_with_params() for queryset in querysets]
    counts = ", ".join(f"(SELECT count(*) FROM ({sql}) AS counted)" for sql, _ in parts)  # noqa: S608
    with connections[querysets[0].db].cursor() as cursor:
        cursor.execute(f"SELECT {counts}", [value for _, values in parts for value in values])
        return list(cursor.fetchone())


class FilteredAdmin(ModelAdmin):
    """Filters its list by ``list_filter`` alone.

    Django's own admin takes any lookup of any field from the query string. Many fail in the database (``note__regex``,
    ``created_at__year``, ``pk__range``), and some ask about what staff may not see.
    """

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Return whether a filter of the list writes this parameter."""
        return any(lookup in _parameters(entry) for entry in self.get_list_filter(request))

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Run an action on what was selected. Django itself fails on an invalid id."""
        try:
            return super().response_action(request, queryset)
        except ValidationError as error:
            raise SuspiciousOperation("The selection has an invalid id.") from error


def _parameters(entry: Any) -> set[str]:
    """Return the parameters that an entry of ``list_filter`` reads."""
    if isinstance(entry, type):
        return set(getattr(entry, "parameter_names", [entry.parameter_name]))  # type: ignore[attr-defined]
    field = entry if isinstance(entry, str) else entry[0]
    return {f"{field}__{lookup}" for lookup in ("exact", "id__exact", "isnull", "isempty")}


class LargeTableAdmin(FilteredAdmin):
    """For tables of millions of rows: no full counts, bounded pages, lists from the replica if there is one."""

    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = BoundedPaginator
    list_per_page = 50
    list_max_show_all = 200

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        changelist = super().get_changelist_instance(request)
        # Otherwise the theme shows the bounded count at the head of the page as if it were the total. The pager below
        # the list says that it is bounded.
        changelist.full_result_count = getattr(changelist, "result_count", None)
        return changelist

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        view = super().changelist_view
        if request.method in ("GET", "HEAD"):
            view = replica.reads_may_lag(view, not_before=request.COOKIES.get(replica.COOKIE, ""))
        return view(request, extra_context)


class ReadOnlyAdmin(ModelAdmin):
    """Shows objects, and lets nobody change them."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class Section(NamedTuple):
    """A part of an object's page that another app adds."""

    title: str
    render: Callable[[Any], str]  # as ``readonly_fields`` take it


_sections: defaultdict[type[Model], list[Section]] = defaultdict(list)


def add_section(model: type[Model], title: str, render: Callable[[Any], str]) -> None:
    """Show what ``render`` returns for an object of ``model``, as HTML, at the end of the object's page."""
    _sections[model].append(Section(title, admin.display(render, description=title)))


def sections_of(model: type[Model]) -> list[Section]:
    """Return the sections that were added to the pages of ``model``. Its admin shows them."""
    return _sections[model]


# Returns HTML for an object and the request that shows its page, or "".
Panel = Callable[[Any, HttpRequest], str]

_panels: defaultdict[type[Model], list[Panel]] = defaultdict(list)


def add_panel(model: type[Model], render: Panel) -> None:
    """Show what ``render`` returns at the top of the page of an object of ``model``. It may hold forms of its own."""
    _panels[model].append(render)


class PanelsAdmin(ModelAdmin):
    """Shows the panels that were added to the pages of its model."""

    change_form_outer_before_template = "admin/panels.html"

    def render_change_form(
        self,
        request: HttpRequest,
        context: Any,
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        if obj is not None:
            context["panels"] = [render(obj, request) for render in _panels[self.model]]
        return super().render_change_form(request, context, add, change, form_url, obj)


class UserNameFilter(TextFilter):
    """Takes the whole user name of a customer, because a panel has too many of them to choose from a list."""

    title = "customer"
    parameter_name = "account"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self.value():
            return queryset
        # Look the account up first: with a join, the list could not use its indexes.
        accounts = list(get_user_model().objects.filter(username=self.value()).values_list("pk", flat=True))
        return queryset.filter(account__in=accounts)

    def chip(self) -> str | None:
        return self.value() or None
