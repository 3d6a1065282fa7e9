"""Fill the empty database that DATABASE_URL names: ``python -m tests.failover.data ORDERS``. Prints the API key."""

import os
import sys
from decimal import Decimal

import django
from django.core.management import call_command


def main(count: int) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "notpanel.settings")
    django.setup()
    call_command("migrate", verbosity=0)

    from apikeys.keys import create_api_key
    from apikeys.models import Account
    from orders.models import Order, Service
    from tests import factories

    customer = Account.objects.create(username="customer", tier="agency")
    Account.objects.create(username="operator", is_staff=True, is_superuser=True)
    service = Service.objects.create(
        id=1, name="Followers", category="Followers", rate=Decimal("0.90"), min=50, max=10_000, refill=True
    )
    Order.objects.bulk_create(
        factories.Order.build(number=number, account=customer, service=service) for number in range(1, count + 1)
    )
    sys.stdout.write(create_api_key(customer, limit_per_minute=1_000_000_000)[1])


if __name__ == "__main__":
    main(int(sys.argv[1]))
