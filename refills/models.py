from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.expressions import RawSQL
from django.utils import timezone

from apikeys.models import ApiKey
from notpanel.public_id import PublicIdField, PublicIdQuerySet
from orders.models import Order


class Status(models.TextChoices):
    """Where a refill is (contract.md, "The life of a refill")."""

    PENDING = "pending"
    APPROVED = "approved"
    COMPLETED = "completed"
    REJECTED = "rejected"


IN_FLIGHT = (Status.PENDING, Status.APPROVED)
SETTLED = (Status.COMPLETED, Status.REJECTED)


class Refill(models.Model):
    """A request to deliver again what dropped off an order.

    Only ``refills.requests`` makes one, and only ``refills.settlement`` changes its status.
    """

    ONE_IN_FLIGHT = "refill_one_in_flight_per_order"  # the constraint's name

    id = PublicIdField(primary_key=True, prefix="ref")
    number = models.PositiveBigIntegerField(
        unique=True, editable=False, db_default=RawSQL("nextval('refills_refill_number')", ())
    )
    order = models.ForeignKey(Order, models.PROTECT, related_name="refills", db_index=False)
    api_key = models.ForeignKey(
        ApiKey, models.PROTECT, null=True, db_index=False, editable=False, help_text="The key that it came by."
    )
    status = models.CharField(max_length=20, choices=Status, default=Status.PENDING)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    approved_at = models.DateTimeField(null=True, editable=False)
    approved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, db_index=False, related_name="+", editable=False
    )
    settled_at = models.DateTimeField(null=True, editable=False)
    settled_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, db_index=False, related_name="+", editable=False
    )
    note = models.TextField(blank=True, help_text="By whoever settled it.")

    objects: ClassVar[Any] = PublicIdQuerySet.as_manager()

    class Meta:
        permissions = [("settle_refill", "Can settle refills")]
        constraints = [
            models.UniqueConstraint(
                fields=["order"], condition=Q(status__in=IN_FLIGHT), name="refill_one_in_flight_per_order"
            ),
            models.CheckConstraint(
                condition=Q(status__in=IN_FLIGHT, settled_at__isnull=True, settled_by__isnull=True)
                | Q(status__in=SETTLED, settled_at__isnull=False, settled_by__isnull=False),
                name="refill_settled_has_who_and_when",
            ),
            models.CheckConstraint(
                condition=Q(approved_at__isnull=True, approved_by__isnull=True) & ~Q(status=Status.APPROVED)
                | Q(approved_at__isnull=False, approved_by__isnull=False) & ~Q(status=Status.PENDING),
                name="refill_approved_has_who_and_when",
            ),
        ]
        indexes = [
            # The queue: what is in flight, oldest first.
            models.Index(fields=["created_at", "id"], condition=Q(status__in=IN_FLIGHT), name="refill_queue"),
            # The history of an order.
            models.Index(fields=["order", "created_at"], name="refill_history"),
        ]

    def __str__(self) -> str:
        return self.id
