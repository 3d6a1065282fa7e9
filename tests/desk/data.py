"""Fill the database with a panel's two months: 53,000 refills, 3,064 of them in flight, 200 customers, four agents."""

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.contrib.auth.models import Group
from django.db import connection
from django.utils import timezone

from apikeys.models import Account
from orders.models import Order, Service
from refills.models import Refill, RejectionReason, Transition
from refills.statuses import RefillStatus

REFILLS = 53_000
IN_FLIGHT = 3064
CUSTOMERS = 200
AGENTS = ("ann", "ben", "cat", "dan")
LOT = 40  # refills in flight of each service that is settled as a lot
LOTS = 8  # such services
QUESTIONS = 20  # orders of each kind that customers ask about
REASONS = ("The account is private.", "Nothing has dropped.", "The link leads nowhere.", "Bought elsewhere meanwhile.")


@dataclass
class Data:
    """What the tasks need to know. Each task takes what it uses out of the lists."""

    agents: list[Account]
    lots: list[Service]
    without_refill: list[Order] = field(default_factory=list)  # their refill period has expired
    with_refill: list[Order] = field(default_factory=list)  # likewise; an earlier refill was completed


def load() -> Data:
    dice, now = random.Random(1), timezone.now()
    agents = [Account.objects.create(username=name, is_staff=True) for name in AGENTS]
    support = Group.objects.get(name="Support")
    for agent in agents:
        agent.groups.add(support)
    customers = Account.objects.bulk_create(
        Account(username=f"customer{n:03}", email=f"customer{n:03}@example.com", tier=dice.choice(Account.Tier.values))
        for n in range(CUSTOMERS)
    )
    services = Service.objects.bulk_create(
        Service(
            id=n,
            name=f"{kind} from {place}, refilled for 30 days",
            category=kind,
            rate=Decimal("0.90"),
            min=50,
            max=10_000,
            refill=True,
            refill_days=30,
        )
        for n, (kind, place) in enumerate(
            ((kind, place) for kind in ("Followers", "Likes", "Views", "Plays") for place in PLACES), 1
        )
    )
    reasons = [RejectionReason.objects.create(text=text) for text in REASONS]
    lots, common = services[:LOTS], services[LOTS:]
    # The lots are requested while the queue is a day old, so that no other task settles any of them.
    of_lots = [service for service in lots for _ in range(LOT)]
    orders: list[Order] = []

    def add(service: Service, completed_at: datetime) -> Order:
        number = len(orders) + 10_001
        order = Order(
            number=number,
            account=dice.choice(customers),
            service=service,
            link=f"https://example.com/{service.category.lower()}/{number}",
            quantity=1000,
            charge=Decimal("0.90"),
            start_count=dice.randint(100, 50_000),
            remains=0,
            status="completed",
            created_at=completed_at - timedelta(hours=5),
            completed_at=completed_at,
        )
        orders.append(order)
        return order

    refills: list[Refill] = []
    for n in range(REFILLS):
        waits = n >= REFILLS - IN_FLIGHT
        in_lot = n >= REFILLS - len(of_lots)
        if in_lot:
            asked = now - timedelta(hours=1, seconds=n % 1000)
        elif waits:
            asked = now - timedelta(hours=30 - 24 * (n - REFILLS + IN_FLIGHT) / IN_FLIGHT)
        else:
            asked = now - timedelta(days=60 - 58 * n / REFILLS)
        order = add(of_lots[n - REFILLS] if in_lot else dice.choice(common), asked - timedelta(days=5))
        refill = Refill(order=order, account=order.account, service=order.service, created_at=asked)
        if waits and not in_lot and n % 5 == 0:
            refill.status = RefillStatus.APPROVED
            refill.approved_at, refill.approved_by = asked + timedelta(hours=1), dice.choice(agents)
        elif not waits:
            refill.status = dice.choices((RefillStatus.COMPLETED, RefillStatus.REJECTED), (9, 1))[0]
            refill.settled_at, refill.settled_by = asked + timedelta(hours=dice.randint(1, 40)), dice.choice(agents)
            if refill.status == RefillStatus.REJECTED:
                refill.reason = dice.choice(reasons)
        refills.append(refill)
    without = [add(dice.choice(common), now - timedelta(days=45)) for _ in range(QUESTIONS)]
    with_refill = [refill.order for refill in refills[1000:] if refill.status == RefillStatus.COMPLETED][:QUESTIONS]
    _save(Order, orders)
    _save(Refill, refills)
    _save(
        Transition,
        [
            Transition(
                refill=refill,
                at=refill.settled_at,
                by=refill.settled_by,
                via=Transition.Via.ADMIN,
                from_status=RefillStatus.PENDING,
                to_status=refill.status,
            )
            for refill in refills
            if refill.settled_at
        ],
    )
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    return Data(agents, lots, without, with_refill)


def _save(model: Any, rows: list[Any]) -> None:
    model.objects.bulk_create(rows, batch_size=5000)


PLACES = (
    "Argentina",
    "Brazil",
    "Canada",
    "Denmark",
    "Egypt",
    "France",
    "Ghana",
    "Hungary",
    "India",
    "Japan",
)
