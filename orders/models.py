from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.postgres.indexes import HashIndex, OpClass
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q

from notpanel.kit.public_id import PublicIdField
from orders.querysets import OrderQuerySet, link_key

LONGEST_REFILL_PERIOD = 36_500  # days, a century; a service whose period has no end has no days


def check_api_address(text: str) -> None:
    """Refuse an address to which a key must not be sent: one without TLS, unless it is this machine's own."""
    problem = "Enter an address that begins with https:// and has no user name and no fragment."
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValidationError(problem) from error
    is_own = host in ("localhost", "127.0.0.1", "::1")
    if not host or parts.scheme not in (["https", "http"] if is_own else ["https"]):
        raise ValidationError(problem)
    if parts.username is not None or parts.fragment or any(map(str.isspace, text)):
        raise ValidationError(problem)


class Supplier(models.Model):
    """A panel that delivers services, and to whose v2 API refills can be sent."""

    class Mode(models.TextChoices):
        MANUAL = "manual"
        AUTOMATIC = "automatic"
        OFF = "off"

    name = models.CharField(max_length=100, unique=True, help_text="The column supplier of importservices names it.")
    url = models.CharField(
        "address",
        max_length=500,
        validators=[check_api_address],
        help_text="Of its v2 API, such as https://supplier.example/api/v2.",
    )
    encrypted_key = models.TextField(editable=False)
    mode = models.CharField(
        max_length=10,
        choices=Mode,
        default=Mode.MANUAL,
        help_text="Manual: a refill is sent when an agent approves it. Automatic: as soon as it is requested. "
        "Off: none is sent; those that were sent are followed.",
    )
    paused = models.BooleanField(default=False, help_text="Nothing is sent to it, and nothing asked, until it goes on.")
    per_minute = models.PositiveIntegerField(
        "requests per minute",
        default=60,
        validators=[MinValueValidator(1)],
        help_text="At most so many are made, those that ask for a status included.",
    )
    poll_seconds = models.PositiveIntegerField(
        "poll interval",
        default=300,
        validators=[MinValueValidator(1)],
        help_text="Seconds after which it is asked again what became of a refill.",
    )
    account = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        models.PROTECT,
        related_name="supplier",
        editable=False,
        help_text="Under it refills are approved and settled on the supplier's word. Nobody can sign in to it.",
    )

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=Q(per_minute__gte=1), name="supplier_requests_per_minute_are_positive"),
            models.CheckConstraint(condition=Q(poll_seconds__gte=1), name="supplier_poll_interval_is_positive"),
            models.CheckConstraint(condition=Q(mode__in=["manual", "automatic", "off"]), name="supplier_mode_is_known"),
        ]

    def __str__(self) -> str:
        return self.name


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
        validators=[MaxValueValidator(LONGEST_REFILL_PERIOD)],
        help_text="Days after completion in which refills may be requested; empty: no end.",
    )
    refill_limit = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="Refills per order, not counting rejected ones; empty: the setting REFILL_LIMIT.",
    )
    supplier = models.ForeignKey(
        Supplier,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="services",
        help_text="Who delivers it, and gets the refills of orders with a supplier_order; empty: the desk alone.",
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
                condition=Q(refill_days__isnull=True) | Q(refill_days__lte=LONGEST_REFILL_PERIOD),
                name="service_refill_days_is_a_century_at_most",
            ),
            models.CheckConstraint(
                condition=Q(refill_limit__isnull=True) | Q(refill_limit__gte=1), name="service_refill_limit_is_positive"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.id} {self.name}"


def refill_cap(service_limit: int | None) -> int:
    """Return how many refills an order may have, rejected ones not counted. ``service_limit`` is its service's own."""
    return service_limit or settings.REFILL_LIMIT


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
    supplier_order = models.CharField(
        max_length=64,
        blank=True,
        default="",
        db_default="",
        help_text="The id of the order at the supplier of its service; empty: its refills stay at the desk.",
    )

    objects = OrderQuerySet.as_manager()

    class Meta:
        indexes = [
            # A hash index, because a link may be longer than a B-tree index takes. It finds whole links only.
            HashIndex(fields=["link"], name="order_by_link"),
            # Finds a link however it is written. The operator class also serves searches for what begins with a link.
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
