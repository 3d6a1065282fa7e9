"""The filters of the staff's list of refills. Each is served by an index of the table of refills alone."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.contrib.filters.admin import DropdownFilter, TextFilter

from apikeys.models import Account
from orders.models import Service
from refills.models import Refill
from refills.statuses import IN_FLIGHT, RefillStatus


class StatusFilter(DropdownFilter):
    """What waits, unless one asks for something else; a search looks everywhere."""

    title = "status"
    parameter_name = "status"
    all_option = ["", "In flight"]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(value, str(label)) for value, label in RefillStatus.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Refill]) -> QuerySet[Refill]:
        if self.value() in RefillStatus.values:
            return queryset.filter(status=self.value())
        # Who settled it can only be asked of what is settled.
        if request.GET.get("q") or request.GET.get("settled_by"):
            return queryset
        return queryset.filter(status__in=IN_FLIGHT)


class AgeFilter(DropdownFilter):
    title = "age"
    parameter_name = "age"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("late", "Late"),
            ("soon", "Due soon or late"),
            ("1", "Of the last day"),
            ("7", "Of the last 7 days"),
            ("30", "Of the last 30 days"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Refill]) -> QuerySet[Refill]:
        now, target = timezone.now(), timedelta(hours=settings.SLA_HOURS)
        match self.value():
            case "late":
                return queryset.filter(created_at__lt=now - target)
            case "soon":
                return queryset.filter(created_at__lt=now - target * 0.75)
            case "1" | "7" | "30" as days:
                return queryset.filter(created_at__gte=now - timedelta(days=int(days)))
        return queryset


class CategoryFilter(DropdownFilter):
    title = "category"
    parameter_name = "category"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        categories = Service.objects.order_by("category").values_list("category", flat=True).distinct()
        return [(category, category) for category in categories]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Refill]) -> QuerySet[Refill]:
        if not self.value():
            return queryset
        # Looked up by itself: the services are few, and their ids are what the index knows.
        services = list(Service.objects.filter(category=self.value()).values_list("id", flat=True))
        return queryset.filter(service__in=services)


class AccountFilter(TextFilter):
    """By user name, for a list of all customers to choose from would be no help."""

    title = "customer"
    parameter_name = "account"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Refill]) -> QuerySet[Refill]:
        if not self.value() or "\x00" in self.value():
            return queryset
        return queryset.filter(
            account__in=list(Account.objects.filter(username=self.value()).values_list("id", flat=True))
        )


class TierFilter(DropdownFilter):
    title = "tier"
    parameter_name = "tier"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(value, str(label)) for value, label in Account.Tier.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Refill]) -> QuerySet[Refill]:
        if self.value() in Account.Tier.values:
            return queryset.filter(account__tier=self.value())
        return queryset


class SettledByFilter(DropdownFilter):
    title = "settled by"
    parameter_name = "settled_by"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        staff = Account.objects.filter(is_staff=True).order_by("username")
        return [(str(pk), username) for pk, username in staff.values_list("id", "username")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Refill]) -> QuerySet[Refill]:
        return queryset.filter(settled_by=self.value()) if _is_id(self.value()) else queryset


def _is_id(text: str | None) -> bool:
    return text is not None and text.isascii() and text.isdigit() and len(text) < 10
