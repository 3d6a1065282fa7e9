"""The views and filters of the list of refills. An index of the table of refills alone serves each of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin import SimpleListFilter
from django.contrib.admin.options import IncorrectLookupParameters
from django.http import HttpRequest
from django.utils import timezone
from unfold.contrib.filters.admin import AutocompleteSelectFilter, DropdownFilter
from unfold.widgets import UnfoldAdminTextInputWidget

from apikeys.models import Account
from orders.models import Service
from refills.querysets import RefillQuerySet
from refills.statuses import RefillStatus

# ---- How a list may be ordered: a label and the columns, for each name that the address may have (?o=).

SORTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "age": ("oldest first", ("created_at", "id")),
    "-age": ("newest first", ("-created_at", "-id")),
    "customer": ("by customer", ("account_id", "created_at", "id")),
    "-customer": ("by customer, newest first", ("-account_id", "-created_at", "-id")),
    "service": ("by service", ("service_id", "created_at", "id")),
    "-service": ("by service, newest first", ("-service_id", "-created_at", "-id")),
    "-settlement": ("latest settlement first", ("-settled_at", "-id")),
    "settlement": ("earliest settlement first", ("settled_at", "id")),
    "flight": ("in flight first, then the latest settlement", ("-settled_at", "-id")),
    "waking": ("next to wake first", ("snoozed_until", "id")),
}
SORTS_IN_FLIGHT = ("age", "-age", "customer", "-customer", "service", "-service")
SORTS_SETTLED = ("-settlement", "settlement", "-age", "age")


def why_not_sorted(sort: str) -> str:
    """Say why a view does not offer a sort of SORTS: no index serves it."""
    if "settlement" in sort:
        return "Choose a list of settled refills to sort by settlement: these are in flight."
    if sort == "waking":
        return "Choose the list of snoozed refills to sort by when they wake."
    if sort == "flight":
        return "Choose the list of refills in flight and settled to see those in flight first."
    if "age" in sort:
        return "Choose a list of refills in flight or of settled ones to sort by age."
    return "Filter by a customer or a service instead: only refills in flight are sorted by them."


# ---- What a list shows.


@dataclass(frozen=True)
class View:
    """Refills that a list shows, before they are filtered further."""

    label: str
    select: Callable[[RefillQuerySet, datetime, Account], RefillQuerySet]
    sorts: tuple[str, ...]  # names of SORTS; the first is the default


VIEWS = {
    "waiting": View("Waiting", lambda refills, now, by: refills.waiting(now), SORTS_IN_FLIGHT),
    "late": View("Late", lambda refills, now, by: refills.late(now), SORTS_IN_FLIGHT),
    "mine": View("Mine", lambda refills, now, by: refills.taken_by(by, now), SORTS_IN_FLIGHT),
    "approved": View(
        "With supplier", lambda refills, now, by: refills.filter(status=RefillStatus.APPROVED), SORTS_IN_FLIGHT
    ),
    "snoozed": View("Snoozed", lambda refills, now, by: refills.snoozed(now), ("waking", *SORTS_IN_FLIGHT)),
    "today": View("Settled today", lambda refills, now, by: refills.settled_on_days(_today(now), None), SORTS_SETTLED),
    "in_flight": View("In flight", lambda refills, now, by: refills.in_flight(), SORTS_IN_FLIGHT),
    "pending": View(
        "Pending, snoozed or not", lambda refills, now, by: refills.filter(status=RefillStatus.PENDING), SORTS_IN_FLIGHT
    ),
    "settled": View("Settled", lambda refills, now, by: refills.settled(), SORTS_SETTLED),
    "completed": View(
        "Completed", lambda refills, now, by: refills.settled().filter(status=RefillStatus.COMPLETED), SORTS_SETTLED
    ),
    "rejected": View(
        "Rejected", lambda refills, now, by: refills.settled().filter(status=RefillStatus.REJECTED), SORTS_SETTLED
    ),
    "all": View("In flight and settled", lambda refills, now, by: refills, ("flight", "settlement")),
}
TABS = ("waiting", "late", "mine", "approved", "snoozed", "today")


def view_of(request: HttpRequest) -> str:
    """Return the name of the view that the address asks for, in VIEWS.

    Without one, a search shows all refills, filters by settlement show settled ones, and the list what waits.
    """
    asked = request.GET
    if asked.get("status") in VIEWS:
        return asked["status"]
    if asked.get("q", "").strip():
        return "all"
    if any(asked.get(name) for name in ("settled_by", *SettledFilter.parameter_names)):
        return "settled"
    return {"late": "late", "soon": "in_flight"}.get(asked.get("age", ""), "waiting")


def _today(now: datetime) -> date:
    return timezone.localtime(now).date()


# ---- The filters. The chip of a filter says what it lets through; None: everything.


class ViewFilter(DropdownFilter):
    title = "list"
    parameter_name = "status"
    all_option = None

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("", "Waiting, or as the filters below ask"), *((name, view.label) for name, view in VIEWS.items())]

    def queryset(self, request: HttpRequest, queryset: RefillQuerySet) -> RefillQuerySet:
        return VIEWS[view_of(request)].select(queryset, timezone.now(), request.user)  # type: ignore[arg-type]

    def chip(self) -> str | None:
        return VIEWS[self.value()].label if self.value() in VIEWS else None


class AgeFilter(DropdownFilter):
    title = "age"
    parameter_name = "age"
    all_option = ["", "Any"]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("late", "Late"),
            ("soon", "Due soon or late"),
            ("1", "Requested in the last 24 hours"),
            ("7", "Requested in the last 7 days"),
            ("30", "Requested in the last 30 days"),
        ]

    def queryset(self, request: HttpRequest, queryset: RefillQuerySet) -> RefillQuerySet:
        now = timezone.now()
        match self.value():
            case "late":
                return queryset.late(now)
            case "soon":
                return queryset.due_soon_or_late(now)
            case "1" | "7" | "30" as days:
                return queryset.filter(created_at__gte=now - timedelta(days=int(days)))
        return queryset

    def chip(self) -> str | None:
        return _choice(self)


class ServiceFilter(AutocompleteSelectFilter):
    def chip(self) -> str | None:
        service = Service.objects.filter(pk=self.value()).first() if _is_id(self.value()) else None
        return str(service) if service else None


class CategoryFilter(DropdownFilter):
    title = "category"
    parameter_name = "category"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        categories = Service.objects.order_by("category").values_list("category", flat=True).distinct()
        return [(category, category) for category in categories]

    def queryset(self, request: HttpRequest, queryset: RefillQuerySet) -> RefillQuerySet:
        if not self.value():
            return queryset
        # The services are few, and the index of refills has their ids.
        services = list(Service.objects.filter(category=self.value()).values_list("id", flat=True))
        return queryset.filter(service__in=services)

    def chip(self) -> str | None:
        return self.value() or None


FEW_ACCOUNTS = 5000


class TierFilter(DropdownFilter):
    title = "tier"
    parameter_name = "tier"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(value, str(label)) for value, label in Account.Tier.choices]

    def queryset(self, request: HttpRequest, queryset: RefillQuerySet) -> RefillQuerySet:
        if self.value() not in Account.Tier.values:
            return queryset
        accounts = list(Account.objects.filter(tier=self.value()).values_list("id", flat=True)[: FEW_ACCOUNTS + 1])
        # For a small tier, the index by account finds the refills. For a large one, almost every refill matches.
        if len(accounts) <= FEW_ACCOUNTS:
            return queryset.filter(account__in=accounts)
        return queryset.filter(account__tier=self.value())

    def chip(self) -> str | None:
        return _choice(self)


class SettledByFilter(DropdownFilter):
    title = "settled by"
    parameter_name = "settled_by"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        staff = Account.objects.filter(is_staff=True).order_by("username")
        return [(str(pk), username) for pk, username in staff.values_list("id", "username")]

    def queryset(self, request: HttpRequest, queryset: RefillQuerySet) -> RefillQuerySet:
        return queryset.filter(settled_by=self.value()) if _is_id(self.value()) else queryset

    def chip(self) -> str | None:
        return _choice(self)


class DayInput(forms.DateInput):
    input_type = "date"

    def __init__(self) -> None:
        super().__init__(format="%Y-%m-%d", attrs={"class": UnfoldAdminTextInputWidget().attrs["class"]})


class SettledForm(forms.Form):
    """The days of a filter by settlement."""

    settled_from = forms.DateField(label="Settled from", required=False, widget=DayInput)
    settled_to = forms.DateField(label="Settled up to", required=False, widget=DayInput)


class SettledFilter(SimpleListFilter):
    """Takes the first and the last day, in the current time zone; either may be left out."""

    title = "settled"
    parameter_name = "settled"  # Django asks for one; the address has the two below
    parameter_names = ("settled_from", "settled_to")
    template = "unfold/filters/filters_field.html"

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        for name in self.parameter_names:
            if values := params.pop(name, None):
                self.used_parameters[name] = values[-1]
        self.form = SettledForm(self.used_parameters)
        if not self.form.is_valid():
            messages.error(request, "The list is shown without filters. Enter days of settlement such as 2026-11-25.")
            raise IncorrectLookupParameters

    def has_output(self) -> bool:
        return True

    def expected_parameters(self) -> list[str | None]:
        return list(self.parameter_names)

    def lookups(self, request: HttpRequest, model_admin: Any) -> tuple[()]:
        return ()

    def choices(self, changelist: Any) -> Iterator[Any]:
        yield {"form": self.form}

    def queryset(self, request: HttpRequest, queryset: Any) -> RefillQuerySet:
        first, last = self._days
        return queryset.settled_on_days(first, last) if first or last else queryset

    def chip(self) -> str | None:
        first, last = self._days
        if first == last:
            return f"on {first}" if first else None
        return " ".join([*([f"from {first}"] if first else []), *([f"up to {last}"] if last else [])])

    @property
    def _days(self) -> tuple[date | None, date | None]:
        return self.form.cleaned_data["settled_from"], self.form.cleaned_data["settled_to"]


def _choice(spec: Any) -> str | None:
    """Return the words of the choice that a filter was given."""
    return next((str(label) for value, label in spec.lookup_choices if value == spec.value()), None)


def _is_id(text: str | None) -> bool:
    return text is not None and text.isascii() and text.isdigit() and len(text) < 10
