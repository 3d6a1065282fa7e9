"""Find refills by what staff are given: ids and numbers, links, names; and say why an order has none in flight."""

from dataclasses import dataclass, field
from datetime import datetime
from functools import reduce
from operator import or_

from django.db.models import Count, Exists, OuterRef, Q, Subquery

from apikeys.lookups import find_accounts
from apikeys.models import Account
from notpanel.api.parameters import LARGEST_BATCH
from notpanel.kit.public_id import parse
from orders.models import Order
from orders.pasted import read
from refills.desk import Verdict, verdicts
from refills.models import Refill
from refills.rules import Tally

FOUND_ORDERS = 1000  # orders whose refills a search finds
FOUND_ACCOUNTS = 20  # customers whose refills a search finds
JUDGED_ORDERS = 5  # orders without a refill in flight that a search shows


@dataclass(frozen=True)
class JudgedOrder:
    """An order, and how the rules judge a request for its refill now."""

    order: Order
    verdicts: list[Verdict]

    @property
    def refusal(self) -> str | None:
        """Return how a request would be refused, or None if it would be accepted."""
        return next((verdict.refusal for verdict in self.verdicts if verdict.refusal), None)


@dataclass(frozen=True)
class Found:
    """What a search found."""

    refills: Q
    judged: list[JudgedOrder] = field(default_factory=list)  # orders without a refill in flight
    remarks: list[str] = field(default_factory=list)  # what the agent should know about the search, as sentences


NOTHING = Q(pk__in=[])


def search(text: str, now: datetime) -> Found:
    """Find the refills that a pasted text names. Four statements at most, whatever it is.

    Orders and customers are looked up first, by indexes of their own. If they were joined, the list of refills could
    not use its indexes.
    """
    pasted = read(text)
    if pasted.is_too_long:
        return Found(NOTHING, remarks=[f"Search for at most {LARGEST_BATCH} ids, links and names."])
    remarks = [f"Not searched for: {', '.join(pasted.unread[:10])}."] if pasted.unread else []
    references = [parse("ref", text) for text in pasted.ids]
    found: list[Q] = []
    if ids := [name for name in references if isinstance(name, str)]:
        found.append(Q(pk__in=ids))
    if numbers := [name for name in references if isinstance(name, int)]:
        found.append(Q(number__in=numbers))
    judged: list[JudgedOrder] = []
    if pasted.ids or pasted.links:
        orders = Order.objects.pasted(pasted.ids, pasted.links).values_list("id", flat=True)
        if order_ids := list(orders[: FOUND_ORDERS + 1]):
            if len(order_ids) > FOUND_ORDERS:
                remarks.append(f"More than {FOUND_ORDERS:,} orders match: these are the refills of some of them.")
            found.append(Q(order__in=order_ids[:FOUND_ORDERS]))
            judged = _judge(order_ids, now)
            if len(judged) > JUDGED_ORDERS:
                del judged[JUDGED_ORDERS:]
                remarks.append(f"More orders have no refill in flight: {JUDGED_ORDERS} of them are shown.")
    if accounts := _accounts(pasted.names, pasted.ids):
        if len(accounts) > FOUND_ACCOUNTS:
            remarks.append(
                f"More than {FOUND_ACCOUNTS} customers match: these are the refills of some of them."
                " Search for more of the name."
            )
        found.append(Q(account__in=[account.pk for account in accounts[:FOUND_ACCOUNTS]]))
    return Found(reduce(or_, found) if found else NOTHING, judged, remarks)


def _accounts(names: list[str], ids: list[str]) -> list[Account]:
    """Return the accounts with ``names`` in theirs, one more than FOUND_ACCOUNTS at most.

    The name of an account may be a number. Then it must be the whole name, or the number of an order would find every
    e-mail address that has it.
    """
    if names:
        return find_accounts(names, FOUND_ACCOUNTS + 1)
    return list(Account.objects.filter(username__in=ids)[:FOUND_ACCOUNTS])


def _judge(order_ids: list[str], now: datetime) -> list[JudgedOrder]:
    """Judge those of the orders without a refill in flight, the latest first, one more than JUDGED_ORDERS at most."""
    refills = Refill.objects.filter(order=OuterRef("pk"))
    used = refills.used_of_cap().values("order").annotate(count=Count("pk")).values("count")
    orders = (
        Order.objects.filter(~Exists(refills.in_flight()), pk__in=order_ids)
        .annotate(used=Subquery(used))
        .select_related("account", "service")
        .order_by("-id")
    )
    return [
        JudgedOrder(order, verdicts(order, Tally(used=order.used or 0), now)) for order in orders[: JUDGED_ORDERS + 1]
    ]
