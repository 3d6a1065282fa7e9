import uuid
from datetime import timedelta
from typing import Self

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.functions import RandomUUID
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from notpanel.kit.outbound import LONGEST_URL
from notpanel.kit.public_id import PublicIdField

LEASE = timedelta(seconds=30)  # for one attempt and the writing of its result
SHOWN = 500  # characters of an answer that are kept


def message_id(delivery_id: uuid.UUID) -> str:
    """Return the ``webhook-id`` of a delivery, the same on every attempt."""
    return f"msg_{delivery_id.hex}"


class EventType(models.TextChoices):
    """The events that a webhook reports. Endpoints choose among all but the last one."""

    REQUESTED = "refill.requested"
    APPROVED = "refill.approved"
    COMPLETED = "refill.completed"
    REJECTED = "refill.rejected"
    REOPENED = "refill.reopened"
    TEST = "webhook.test"


EVENTS = tuple(kind.value for kind in EventType if kind != EventType.TEST)


class WebhookEndpoint(models.Model):
    """An address to which the events of an account are posted. Its secrets are stored encrypted.

    A request for refills locks the row (``KEY SHARE``) as it inserts deliveries, so nothing deletes it while it is in
    use: an endpoint that is removed stays, without its secret.
    """

    class State(models.TextChoices):
        ACTIVE = "active"
        PAUSED = "paused"  # by the owner; events wait
        OFF = "off"  # by NotPanel, because it kept failing or answered 410; nothing is recorded for it
        REMOVED = "removed"

    class OffBecause(models.TextChoices):
        GONE = "gone", "It answered 410 Gone."
        FAILING = "failing", "No delivery succeeded for three days."

    id = PublicIdField(primary_key=True, prefix="whk")
    account = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, db_index=False, related_name="webhook_endpoints", editable=False
    )
    url = models.CharField("URL", max_length=LONGEST_URL)
    events = ArrayField(models.CharField(max_length=20, choices=[(event, event) for event in EVENTS]))
    state = models.CharField(max_length=10, choices=State, default=State.ACTIVE, editable=False)
    encrypted_secret = models.TextField(editable=False)
    encrypted_old_secret = models.TextField(
        blank=True, default="", editable=False, help_text="The one before, which signs too for a day."
    )
    old_secret_until = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    failing_since = models.DateTimeField(
        null=True, editable=False, help_text="The first failure after the last success."
    )
    warned_at = models.DateTimeField(null=True, editable=False, help_text="When its owner was told that it fails.")
    off_because = models.CharField(max_length=10, choices=OffBecause, blank=True, default="", editable=False)
    ended_at = models.DateTimeField(null=True, editable=False, help_text="When it was switched off or removed.")
    told_at = models.DateTimeField(null=True, editable=False, help_text="When its owner was told that it is off.")

    class Meta:
        default_permissions = ()  # its owner alone sees it
        constraints = [
            models.UniqueConstraint(
                fields=["account", "url"], condition=~Q(state="removed"), name="webhook_url_once_per_account"
            ),
            models.CheckConstraint(
                condition=Q(state__in=["active", "paused"], ended_at__isnull=True, off_because="")
                | Q(state="off", ended_at__isnull=False, off_because__in=["gone", "failing"])
                | Q(state="removed", ended_at__isnull=False, encrypted_secret="", encrypted_old_secret=""),
                name="webhook_state_has_its_reason",
            ),
        ]

    def __str__(self) -> str:
        return self.url


class WebhookDeliveryQuerySet(models.QuerySet["WebhookDelivery"]):
    def replayable(self) -> Self:
        """Return the deliveries that have ended, and those whose next attempt is put off."""
        return self.filter(~Q(state="waiting") | Q(next_at__gt=F("attempted_at") + LEASE))

    def failed(self) -> Self:
        """Return the deliveries whose last attempt failed, whether or not another one follows."""
        return self.replayable().exclude(state="delivered")


class WebhookDelivery(models.Model):
    """The delivery of one event to one endpoint: its state, and its log.

    While an attempt is made, ``next_at`` is the end of its lease: if its worker is killed, another one tries then.
    """

    class State(models.TextChoices):
        WAITING = "waiting"
        DELIVERED = "delivered"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, db_default=RandomUUID(), editable=False)
    endpoint = models.ForeignKey(
        WebhookEndpoint, models.CASCADE, db_index=False, related_name="deliveries", editable=False
    )
    type = models.CharField(max_length=20, choices=EventType, editable=False)
    subject = models.UUIDField(null=True, editable=False, help_text="The refill that it is about.")
    body = models.TextField(editable=False)
    created_at = models.DateTimeField(editable=False)
    state = models.CharField(max_length=10, choices=State, editable=False)
    next_at = models.DateTimeField(null=True, editable=False)
    attempts = models.PositiveIntegerField(default=0, editable=False, help_text="Begun since it was last replayed.")
    attempted_at = models.DateTimeField(null=True, editable=False, help_text="When the last one began.")
    status = models.PositiveSmallIntegerField(null=True, editable=False, help_text="Of the last answer.")
    milliseconds = models.PositiveIntegerField(null=True, editable=False)
    answer = models.TextField(blank=True, default="", editable=False, help_text="The beginning of the last one.")
    words = models.TextField(blank=True, default="", editable=False, help_text="Why there was no answer.")

    objects = WebhookDeliveryQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "webhook deliveries"
        default_permissions = ()
        constraints = [
            models.CheckConstraint(
                condition=Q(state="waiting", next_at__isnull=False)
                | Q(state__in=["delivered", "failed"], next_at__isnull=True),
                name="webhook_delivery_goes_on",
            ),
        ]
        indexes = [
            # What is due, by endpoint.
            models.Index(fields=["endpoint", "next_at"], condition=Q(state="waiting"), name="webhook_delivery_due"),
            # The log, and what failed.
            models.Index(fields=["endpoint", "created_at", "id"], name="webhook_delivery_log"),
            models.Index(
                fields=["endpoint", "created_at", "id"], condition=~Q(state="delivered"), name="webhook_delivery_open"
            ),
            # The deliveries about a refill.
            models.Index(fields=["subject", "created_at"], name="webhook_delivery_subject"),
            # What is old.
            models.Index(fields=["created_at"], name="webhook_delivery_age"),
        ]

    def __str__(self) -> str:
        return f"{self.type}, {self.message_id}"

    @property
    def message_id(self) -> str:
        return message_id(self.pk)
