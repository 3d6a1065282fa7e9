from datetime import timedelta
from decimal import Decimal

import factory
from django.utils import timezone
from factory.django import DjangoModelFactory

from apikeys import models as apikeys
from apikeys.webhooks.models import EVENTS
from notpanel.kit import secrets
from orders import models as orders
from refills import models as refills
from refills.statuses import SETTLED, RefillStatus


class Account(DjangoModelFactory):
    class Meta:
        model = apikeys.Account

    username = factory.Sequence(lambda n: f"customer{n}")


class WebhookEndpoint(DjangoModelFactory):
    """An endpoint that gets all events. ``secret`` is in clear text."""

    class Meta:
        model = apikeys.WebhookEndpoint

    class Params:
        secret = "whsec_" + "c2VjcmV0" * 4

    account = factory.SubFactory(Account)
    url = factory.Sequence(lambda n: f"https://hooks.example/{n}")
    events = EVENTS
    encrypted_secret = factory.LazyAttribute(lambda endpoint: secrets.encrypt(endpoint.secret))


class Supplier(DjangoModelFactory):
    """An automatic supplier, whose limit no test reaches by accident."""

    class Meta:
        model = orders.Supplier

    name = factory.Sequence(lambda n: f"Supplier {n}")
    url = "https://supplier.example/api/v2"
    encrypted_key = factory.LazyFunction(lambda: secrets.encrypt("their-key"))
    mode = orders.Supplier.Mode.AUTOMATIC
    per_minute = 100_000
    poll_seconds = 1
    account = factory.SubFactory(Account, username=factory.Sequence(lambda n: f"supplier-{n}"), is_active=False)


class Service(DjangoModelFactory):
    class Meta:
        model = orders.Service

    id = factory.Sequence(lambda n: n + 1)
    name = factory.LazyAttribute(lambda service: f"Followers {service.id}")
    category = "Followers"
    rate = Decimal("0.90")
    min = 50
    max = 10_000
    refill = True


class Order(DjangoModelFactory):
    """A completed order of a service that refills, so a request for its refill is accepted."""

    class Meta:
        model = orders.Order

    number = factory.Sequence(lambda n: n + 1)
    account = factory.SubFactory(Account)
    service = factory.SubFactory(Service)
    link = "https://example.com/someone"
    quantity = 1000
    charge = Decimal("0.90")
    start_count = 1234
    remains = 0
    status = orders.OrderStatus.COMPLETED
    created_at = factory.LazyFunction(lambda: timezone.now() - timedelta(days=11))
    completed_at = factory.LazyAttribute(
        lambda order: None if order.status in orders.UNDER_WAY else order.created_at + timedelta(days=1)
    )


class RejectionReason(DjangoModelFactory):
    class Meta:
        model = refills.RejectionReason

    text = factory.Sequence(lambda n: f"Reason {n}.")


class Refill(DjangoModelFactory):
    """A refill that satisfies the database's constraints. ``staff`` is the account that approved or settled it."""

    class Meta:
        model = refills.Refill

    class Params:
        staff = factory.SubFactory(Account)

    order = factory.SubFactory(Order)
    account = factory.SelfAttribute("order.account")
    service = factory.SelfAttribute("order.service")
    status = RefillStatus.PENDING
    created_at = factory.LazyFunction(timezone.now)
    approved_at = factory.LazyAttribute(lambda o: o.created_at if o.status == RefillStatus.APPROVED else None)
    approved_by = factory.LazyAttribute(lambda o: o.staff if o.status == RefillStatus.APPROVED else None)
    settled_at = factory.LazyAttribute(lambda o: o.created_at if o.status in SETTLED else None)
    settled_by = factory.LazyAttribute(lambda o: o.staff if o.status in SETTLED else None)
    reason = None
    reason_text = factory.LazyAttribute(lambda o: o.reason.text if o.reason else "")
