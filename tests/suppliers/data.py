"""The data of the test: suppliers, their services, and the orders whose refills are requested."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

SERVICES = 2  # of each supplier


@dataclass(frozen=True)
class Kind:
    """How a supplier is set up, and how its fake behaves beside its faults."""

    mode: str = "automatic"
    options: tuple[str, ...] = ()


# In some kinds a slow answer takes longer than the worker waits, in others it does not.
KINDS = (
    Kind(),
    Kind(mode="manual"),
    Kind(options=("--no-orders",)),
    Kind(options=("--slow", "17")),
    Kind(),
    Kind(mode="manual", options=("--slow", "17")),
    Kind(options=("--settles-after", "90")),
    Kind(options=("--no-orders", "--slow", "17")),
)


def load(count: int, ports: list[int], poll_seconds: int) -> str:
    """Create a supplier at each port, and ``count`` orders spread over them. Returns the customer's API key."""

    from apikeys.keys import create_api_key
    from apikeys.models import Account
    from orders.models import Order, Service, Supplier
    from orders.suppliers import save_supplier
    from tests import factories

    customer = Account.objects.create(username="customer", tier="agency")
    Account.objects.create(username="agent", is_staff=True, is_superuser=True)
    services: list[Any] = []
    for number, (port, kind) in enumerate(zip(ports, KINDS, strict=False), 1):
        supplier = Supplier(name=f"Supplier {number}", url=f"http://127.0.0.1:{port}/api/v2", mode=kind.mode)
        supplier.per_minute, supplier.poll_seconds = 1_000_000, poll_seconds
        save_supplier(supplier, key="their-key")
        services += [
            Service(
                id=len(services) + n,
                name=f"Followers of supplier {number}, {n}",
                category="Followers",
                rate=Decimal("0.90"),
                min=50,
                max=10_000,
                refill=True,
                supplier=supplier,
            )
            for n in range(1, SERVICES + 1)
        ]
    Service.objects.bulk_create(services)
    Order.objects.bulk_create(
        (
            factories.Order.build(
                number=number,
                account=customer,
                service=services[number % len(services)],
                link=f"https://example.com/p/{number}",
                supplier_order=str(800_000 + number),
            )
            for number in range(1, count + 1)
        ),
        batch_size=1000,
    )
    return create_api_key(customer)[1]
