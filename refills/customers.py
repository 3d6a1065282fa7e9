"""What the desk shows of a customer at a glance: how many orders and refills, and how the refills ended."""

from dataclasses import dataclass

from django.db.models import Count, Q

from apikeys.models import Account
from orders.models import DELIVERED, Order
from refills.models import Refill
from refills.statuses import IN_FLIGHT, SETTLED, RefillStatus

LAST_REQUESTS = 5


@dataclass(frozen=True)
class Customer:
    """The figures of a customer. A rate is a share from 0 to 1, or None without anything to divide by."""

    orders: int
    delivered: int  # orders that are completed or partial
    refilled: int  # of those, the ones with a refill, whatever its status
    refills: int
    in_flight: int
    settled: int
    rejected: int
    last_requests: list[Refill]

    @property
    def refill_rate(self) -> float | None:
        return self.refilled / self.delivered if self.delivered else None

    @property
    def rejection_rate(self) -> float | None:
        return self.rejected / self.settled if self.settled else None


def look_at(account: Account) -> Customer:
    """Return the figures of a customer, in three statements, however many orders there are."""
    orders = Order.objects.filter(account=account).aggregate(
        orders=Count("id"), delivered=Count("id", filter=Q(status__in=DELIVERED))
    )
    refills = Refill.objects.filter(account=account)
    counts = refills.aggregate(
        refills=Count("id"),
        in_flight=Count("id", filter=Q(status__in=IN_FLIGHT)),
        settled=Count("id", filter=Q(status__in=SETTLED)),
        rejected=Count("id", filter=Q(status=RefillStatus.REJECTED)),
        refilled=Count("order", distinct=True, filter=Q(order__status__in=DELIVERED)),
    )
    last = refills.select_related("order", "service", "requested_by").order_by("-created_at", "-id")
    return Customer(**orders, **counts, last_requests=list(last[:LAST_REQUESTS]))
