"""The filters of the list of refills. An index of the table of refills alone serves each of them."""

from datetime import timedelta
from typing import Any

from django.http import HttpRequest
from django.utils import timezone
from unfold.contrib.filters.admin import DropdownFilter, TextFilter

from apikeys.models import Account
from orders.models import Service
from refills.querysets import RefillQuerySet
from refills.statuses import RefillStatus


class StatusFilter(DropdownFilter):
    """Shows refills in flight by default. A search, and the filter by who settled, find settled refills as well."""

    title = "status"
    parameter_name = "status"
    all_option = ["", "In flight"]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(value, str(label)) for value, label in RefillStatus.choices]

    def queryset(self, request: HttpRequest, queryset: RefillQuerySet) -> RefillQuerySet:
        if self.value() in RefillStatus.values:
            return queryset.filter(status=self.value())
        if request.GET.get("q") or request.GET.get("settled_by"):
            return queryset
        return queryset.in_flight()


class AgeFilter(DropdownFilter):
    title = "age"
    parameter_name = "age"

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


class AccountFilter(TextFilter):
    """Takes a user name: a panel has too many customers to choose from a list."""

    title = "customer"
    parameter_name = "account"

    def queryset(self, request: HttpRequest, queryset: RefillQuerySet) -> RefillQuerySet:
        if not self.value() or "\x00" in self.value():
            return queryset
        accounts = list(Account.objects.filter(username=self.value()).values_list("id", flat=True))
        return queryset.filter(account__in=accounts)


class TierFilter(DropdownFilter):
    title = "tier"
    parameter_name = "tier"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(value, str(label)) for value, label in Account.Tier.choices]

    def queryset(self, request: HttpRequest, queryset: RefillQuerySet) -> RefillQuerySet:
        if self.value() in Account.Tier.values:
            return queryset.filter(account__tier=self.value())
        return queryset


class SettledByFilter(DropdownFilter):
    title = "settled by"
    parameter_name = "settled_by"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        staff = Account.objects.filter(is_staff=True).order_by("username")
        return [(str(pk), username) for pk, username in staff.values_list("id", "username")]

    def queryset(self, request: HttpRequest, queryset: RefillQuerySet) -> RefillQuerySet:
        return queryset.filter(settled_by=self.value()) if _is_id(self.value()) else queryset


def _is_id(text: str | None) -> bool:
    return text is not None and text.isascii() and text.isdigit() and len(text) < 10
