from decimal import Decimal

from django.conf import settings
from django.contrib.postgres.indexes import HashIndex, OpClass
from django.db import models
from django.db.models import F, Q

from notpanel.kit.public_id import PublicIdField
from orders.querysets import OrderQuerySet, link_key


class Service(models.Model):
    """A line of the catalogue. Clients order it by its id."""

    id = models.PositiveIntegerField(primary_key=True)
    name = models.CharField(max_length=255)
    category = models.CharField(max_length=255)
    type = models.CharField(max_length=50, default="Default")
    rate = models.DecimalField(max_digits=14, decimal_places=5, help_text="The price of 1000 units.")
    min = models.PositiveBigIntegerField()
    max = models.PositiveBigIntegerField()
    refill = models.BooleanField(default=False, help_text="Customers may request refills.")
    cancel = models.BooleanField(default=False)
    active = models.BooleanField(default=True, help_text="Listed in the catalogue.")
    refill_days = models.PositiveIntegerField(
        "refill period",
        null=True,
        blank=True,
        help_text="Days after completion in which refills may be requested; empty: no end.",
    )
    refill_limit = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="Refills per order, not counting rejected ones; empty: the setting REFILL_LIMIT.",
    )

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(condition=Q(rate__gte=0), name="service_rate_is_not_negative"),
            models.CheckConstraint(condition=Q(max__gte=F("min")), name="service_max_is_not_below_min"),
            models.CheckConstraint(
                condition=Q(refill_days__isnull=True) | Q(refill_days__gte=1), name="service_refill_days_is_positive"
            ),
            models.CheckConstraint(
                condition=Q(refill_limit__isnull=True) | Q(refill_limit__gte=1), name="service_refill_limit_is_positive"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.id} {self.name}"


class Catalogue(models.Model):
    """One row: the version of the services. A trigger changes it with any service, in the same transaction."""

    version = models.UUIDField(editable=False)

    def __str__(self) -> str:
        return str(self.version)


class OrderStatus(models.TextChoices):
    """How far an order is (docs/contract.md, "action=status")."""

    PENDING = "pending"
    PROCESSING = "processing"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    PARTIAL = "partial"
    CANCELLED = "cancelled"
    REFUNDED = "refunded"


DELIVERED = (OrderStatus.COMPLETED, OrderStatus.PARTIAL)
UNDER_WAY = (OrderStatus.PENDING, OrderStatus.PROCESSING, OrderStatus.IN_PROGRESS)


class Order(models.Model):
    """What a customer bought. importorders writes orders; a refill never changes one."""

    id = PublicIdField(primary_key=True, prefix="ord")
    number = models.PositiveBigIntegerField(unique=True)
    account = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="orders", db_index=False)
    service = models.ForeignKey(Service, models.PROTECT, related_name="orders")
    link = models.CharField(max_length=2048)
    quantity = models.PositiveBigIntegerField()
    charge = models.DecimalField(max_digits=14, decimal_places=5)
    currency = models.CharField(max_length=3, default="USD")
    start_count = models.PositiveBigIntegerField(null=True, blank=True)
    remains = models.PositiveBigIntegerField(null=True, blank=True)
    status = models.CharField(max_length=20, choices=OrderStatus, default=OrderStatus.PENDING)
    created_at = models.DateTimeField()
    completed_at = models.DateTimeField(null=True, blank=True)

    objects = OrderQuerySet.as_manager()

    class Meta:
        indexes = [
            # A hash, because a link may be longer than a B-tree index takes. It finds whole links only.
            HashIndex(fields=["link"], name="order_by_link"),
            # However it is written. The operator class serves what begins with a link as well.
            models.Index(OpClass(link_key(F("link")), name="text_pattern_ops"), name="order_by_link_key"),
            models.Index(fields=["completed_at"], name="order_by_completion"),
            # The customer's list.
            models.Index(fields=["account", "created_at", "id"], name="order_by_account"),
        ]
        constraints = [
            # What a refill refers to: order, account and service in one foreign key.
            models.UniqueConstraint(fields=["id", "account", "service"], name="order_with_account_and_service"),
            models.CheckConstraint(condition=Q(number__gte=1), name="order_number_is_positive"),
            models.CheckConstraint(condition=Q(quantity__gte=1), name="order_quantity_is_positive"),
            models.CheckConstraint(condition=Q(charge__gte=0), name="order_charge_is_not_negative"),
            models.CheckConstraint(condition=Q(currency__regex=r"^[A-Z]{3}$"), name="order_currency_is_a_code"),
            models.CheckConstraint(condition=Q(status__in=OrderStatus.values), name="order_status_is_known"),
            models.CheckConstraint(
                condition=~Q(status__in=DELIVERED) | Q(completed_at__isnull=False), name="order_delivered_has_its_time"
            ),
            models.CheckConstraint(
                condition=~Q(status__in=UNDER_WAY) | Q(completed_at__isnull=True), name="order_under_way_has_no_end"
            ),
            models.CheckConstraint(
                condition=Q(completed_at__isnull=True) | Q(completed_at__gte=F("created_at")),
                name="order_ends_after_it_began",
            ),
        ]

    def __str__(self) -> str:
        return self.id


def money(amount: Decimal) -> str:
    """Return an amount as the API writes it: with two to five decimals (``0.50``, ``0.27819``)."""
    text = f"{amount:.5f}".rstrip("0")
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals:0<2}"
