from datetime import datetime, timedelta

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.expressions import RawSQL
from django.utils import timezone

from apikeys.models import ApiKey
from notpanel.kit.public_id import PublicIdField
from notpanel.kit.transaction_id import TransactionIdField
from orders.models import Order, Service, Supplier
from refills.querysets import DispatchQuerySet, RefillQuerySet
from refills.statuses import ENDED, IN_FLIGHT, OPEN, SETTLED, DispatchState, RefillStatus

ONE_IN_FLIGHT = "refill_one_in_flight_per_order"  # the constraint's name
LONGEST_REASON = 200  # characters of the words for the customer
LONGEST_NOTE = 1000  # characters


class RejectionReason(models.Model):
    """Why staff reject refills, in the words that the customer reads."""

    text = models.CharField(max_length=LONGEST_REASON, unique=True, help_text="The customer reads this.")
    active = models.BooleanField(default=True, help_text="Offered to staff.")

    class Meta:
        ordering = ["text"]

    def __str__(self) -> str:
        return self.text


class Refill(models.Model):
    """A request to deliver again what dropped off an order.

    Only ``refills.requesting`` creates refills, and only ``refills.settlement`` changes their status.
    """

    id = PublicIdField(primary_key=True, prefix="ref")
    number = models.PositiveBigIntegerField(
        unique=True, editable=False, db_default=RawSQL("nextval('refills_refill_number')", ())
    )
    # Account and service repeat those of the order, so that an index of this one table serves each filter of the
    # desk's list. One foreign key holds the three together (migration 0004); none of them has a foreign key of its own.
    order = models.ForeignKey(Order, models.PROTECT, related_name="refills", db_index=False, db_constraint=False)
    account = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.PROTECT,
        related_name="refills",
        db_index=False,
        db_constraint=False,
        editable=False,
    )
    service = models.ForeignKey(
        Service, models.PROTECT, related_name="refills", db_index=False, db_constraint=False, editable=False
    )
    api_key = models.ForeignKey(
        ApiKey,
        models.PROTECT,
        null=True,
        db_index=False,
        editable=False,
        help_text="The API key of the request; empty: it came from the dashboard, or staff requested it.",
    )
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.PROTECT,
        null=True,
        db_index=False,
        related_name="+",
        editable=False,
        help_text="The agent who requested it for the customer; empty: the customer did.",
    )
    status = models.CharField(max_length=20, choices=RefillStatus, default=RefillStatus.PENDING)
    # The transaction that made or last changed the status. A trigger writes it (migration 0013).
    changed_in = TransactionIdField(editable=False, db_default=RawSQL("pg_current_xact_id()", ()))
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    approved_at = models.DateTimeField(null=True, editable=False)
    approved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, db_index=False, related_name="+", editable=False
    )
    settled_at = models.DateTimeField(null=True, editable=False)
    settled_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, db_index=False, related_name="+", editable=False
    )
    reason = models.ForeignKey(
        RejectionReason,
        models.PROTECT,
        null=True,
        db_index=False,
        editable=False,
        help_text="The reason that staff chose from the list.",
    )
    # Kept apart from the list, which staff may edit: what a customer was told stays.
    reason_text = models.CharField(
        max_length=LONGEST_REASON,
        blank=True,
        db_default="",
        default="",
        editable=False,
        help_text="Why it was rejected, in the words that the customer reads.",
    )
    delivered = models.PositiveBigIntegerField(null=True, editable=False, help_text="Units that were delivered again.")
    note = models.TextField(
        blank=True, editable=False, help_text="By the agent who settled it; the customer does not see it."
    )
    claimed_at = models.DateTimeField(null=True, editable=False)
    claimed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, db_index=False, related_name="+", editable=False
    )
    snoozed_until = models.DateTimeField(
        null=True, editable=False, help_text="Until then it is not in the queue of what waits."
    )
    snoozed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, db_index=False, related_name="+", editable=False
    )

    objects = RefillQuerySet.as_manager()

    class Meta:
        permissions = [
            ("settle_refill", "Can settle refills"),
            ("reopen_refill", "Can reopen refills"),
            ("view_agent_figures", "Can see figures of agents"),
            ("request_refill", "Can request refills for customers"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["order"], condition=Q(status__in=IN_FLIGHT), name=ONE_IN_FLIGHT),
            models.CheckConstraint(
                condition=Q(status__in=IN_FLIGHT, settled_at__isnull=True, settled_by__isnull=True)
                | Q(status__in=SETTLED, settled_at__isnull=False, settled_by__isnull=False),
                name="refill_settled_has_who_and_when",
            ),
            models.CheckConstraint(
                condition=Q(approved_at__isnull=True, approved_by__isnull=True) & ~Q(status=RefillStatus.APPROVED)
                | Q(approved_at__isnull=False, approved_by__isnull=False) & ~Q(status=RefillStatus.PENDING),
                name="refill_approved_has_who_and_when",
            ),
            models.CheckConstraint(
                condition=Q(reason__isnull=True) | Q(status=RefillStatus.REJECTED),
                name="refill_reason_is_of_a_rejection",
            ),
            models.CheckConstraint(
                condition=Q(reason_text="") | Q(status=RefillStatus.REJECTED),
                name="refill_reason_text_is_of_a_rejection",
            ),
            models.CheckConstraint(
                condition=Q(delivered__isnull=True) | Q(status=RefillStatus.COMPLETED),
                name="refill_delivered_is_completed",
            ),
            models.CheckConstraint(
                condition=Q(claimed_at__isnull=True, claimed_by__isnull=True)
                | Q(claimed_at__isnull=False, claimed_by__isnull=False, status__in=IN_FLIGHT),
                name="refill_claimed_has_who_and_when",
            ),
            models.CheckConstraint(
                condition=Q(snoozed_until__isnull=True, snoozed_by__isnull=True)
                | Q(snoozed_until__isnull=False, snoozed_by__isnull=False, status__in=IN_FLIGHT),
                name="refill_snoozed_has_who_and_until",
            ),
        ]
        indexes = [
            # The queue: what is in flight, oldest first.
            models.Index(fields=["created_at", "id"], condition=Q(status__in=IN_FLIGHT), name="refill_queue"),
            # The customer's overview: in flight, and settled last.
            models.Index(
                fields=["account", "created_at", "id"], condition=Q(status__in=IN_FLIGHT), name="refill_in_flight"
            ),
            models.Index(
                fields=["account", "settled_at", "id"], condition=Q(status__in=SETTLED), name="refill_settled_last"
            ),
            # The history of an order.
            models.Index(fields=["order", "created_at"], name="refill_history"),
            # The desk's list: in flight, by each of its filters and orders.
            models.Index(
                fields=["service", "created_at", "id"],
                condition=Q(status__in=IN_FLIGHT),
                name="refill_in_flight_of_service",
            ),
            models.Index(
                fields=["claimed_by", "created_at", "id"],
                condition=Q(claimed_by__isnull=False),
                name="refill_by_claimer",
            ),
            models.Index(
                fields=["snoozed_until", "id"],
                condition=Q(status__in=IN_FLIGHT, snoozed_until__isnull=False),
                name="refill_by_snooze",
            ),
            # The same: settled, and both.
            models.Index(fields=["status", "created_at", "id"], name="refill_by_status"),
            models.Index(
                fields=["status", "settled_at", "id"], condition=Q(status__in=SETTLED), name="refill_settled_by_status"
            ),
            models.Index(fields=["created_at", "id"], condition=Q(status__in=SETTLED), name="refill_settled_by_age"),
            models.Index(
                fields=["service", "settled_at", "id"],
                condition=Q(status__in=SETTLED),
                name="refill_settled_of_service",
            ),
            models.Index(fields=["account", "created_at", "id"], name="refill_by_account"),
            # What changed since a cursor.
            models.Index(fields=["account", "status", "changed_in", "id"], name="refill_by_change"),
            models.Index(
                fields=["settled_by", "settled_at", "id"], condition=Q(status__in=SETTLED), name="refill_by_settler"
            ),
            # Agents reject few of the refills that they settle.
            models.Index(
                fields=["settled_by", "settled_at", "id"],
                condition=Q(status=RefillStatus.REJECTED),
                name="refill_rejected_by_settler",
            ),
            # Backward, what is in flight comes first.
            models.Index(fields=["settled_at", "id"], name="refill_by_settlement"),
            # Refills that took about equally long, for medians.
            models.Index(
                models.Func("created_at", "settled_at", function="refills_bucket"),
                models.F("settled_at"),
                include=["created_at", "settled_by"],
                condition=Q(status__in=SETTLED),
                name="refill_by_bucket",
            ),
        ]

    def __str__(self) -> str:
        return self.id

    @property
    def undoable_until(self) -> datetime | None:
        """Return until when the agent who changed the status may undo that, or None if it was not changed."""
        changed_at = self.settled_at or self.approved_at
        return changed_at and changed_at + timedelta(seconds=settings.UNDO_SECONDS)


class Transition(models.Model):
    """A step in the life of a refill, and its audit log. The database refuses to change or delete steps."""

    class Via(models.TextChoices):
        ADMIN = "admin"
        COMMAND = "command"
        SUPPLIER = "supplier"

    class Kind(models.TextChoices):
        CHANGE = "change"
        UNDO = "undo"
        REOPEN = "reopen"

    refill = models.ForeignKey(Refill, models.PROTECT, related_name="transitions", editable=False)
    at = models.DateTimeField(editable=False)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, db_index=False, related_name="+", editable=False)
    via = models.CharField(max_length=10, choices=Via, editable=False)
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.CHANGE, db_default=Kind.CHANGE, editable=False)
    from_status = models.CharField(max_length=20, choices=RefillStatus, editable=False)
    to_status = models.CharField(max_length=20, choices=RefillStatus, editable=False)
    note = models.TextField(blank=True, editable=False)
    # Of the settlement that the step makes, or takes back.
    reason_text = models.CharField(max_length=LONGEST_REASON, blank=True, default="", db_default="", editable=False)
    delivered = models.PositiveBigIntegerField(null=True, editable=False)

    class Meta:
        ordering = ["at", "id"]

    def __str__(self) -> str:
        return f"{self.from_status} → {self.to_status}"


class Note(models.Model):
    """What an agent noted on a refill. Only staff read it. The database refuses to change or delete notes."""

    refill = models.ForeignKey(Refill, models.PROTECT, related_name="notes", editable=False)
    at = models.DateTimeField(editable=False)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, db_index=False, related_name="+", editable=False)
    text = models.TextField(max_length=LONGEST_NOTE, editable=False)

    class Meta:
        ordering = ["at", "id"]
        constraints = [models.CheckConstraint(condition=~Q(text=""), name="refill_note_has_text")]

    def __str__(self) -> str:
        return self.text


class Dispatch(models.Model):
    """The sending of a refill to the supplier of its order: its state, and what became of the refill there.

    Only ``refills.dispatching`` and ``refills.following`` write it.
    """

    refill = models.OneToOneField(Refill, models.PROTECT, primary_key=True, editable=False)
    supplier = models.ForeignKey(Supplier, models.PROTECT, db_index=False, related_name="+", editable=False)
    state = models.CharField(max_length=10, choices=DispatchState, editable=False)
    on_approval = models.BooleanField(
        editable=False, help_text="An agent's approval asked for it, so it ends with that."
    )
    asked_at = models.DateTimeField(editable=False, help_text="When it was to be sent; it is given up some days later.")
    next_at = models.DateTimeField(
        null=True,
        editable=False,
        help_text="When something is next done by itself; empty: a person decides, or it ended.",
    )
    attempts = models.PositiveIntegerField(default=0, editable=False, help_text="How often it was sent.")
    asked = models.PositiveIntegerField(
        default=0, editable=False, help_text="How often in vain, since it last moved on."
    )
    sent_at = models.DateTimeField(null=True, editable=False, help_text="When it was last sent.")
    supplier_refill = models.CharField(max_length=64, blank=True, default="", editable=False)
    words = models.TextField(blank=True, default="", editable=False, help_text="What the supplier said last.")
    breaks_promise = models.BooleanField(
        default=False, editable=False, help_text="The supplier refused what the catalogue promises."
    )
    ended_at = models.DateTimeField(null=True, editable=False)

    objects = DispatchQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "dispatches"
        constraints = [
            models.CheckConstraint(condition=Q(state__in=DispatchState.values), name="dispatch_state_is_known"),
            models.CheckConstraint(
                condition=~Q(state=DispatchState.SENT) | ~Q(supplier_refill=""), name="dispatch_sent_has_its_id"
            ),
            models.CheckConstraint(
                condition=Q(state__in=ENDED, ended_at__isnull=False) | Q(state__in=OPEN, ended_at__isnull=True),
                name="dispatch_ended_has_its_time",
            ),
            # A dispatch that should go on by itself has a time at which it does.
            models.CheckConstraint(
                condition=Q(state__in=[DispatchState.WAITING, DispatchState.SENT], next_at__isnull=False)
                | Q(state=DispatchState.UNCLEAR)
                | Q(state__in=[DispatchState.SENDING, *ENDED], next_at__isnull=True),
                name="dispatch_goes_on",
            ),
            models.CheckConstraint(
                condition=Q(state__in=[DispatchState.WAITING, DispatchState.SETTLED, DispatchState.GIVEN_UP])
                | Q(attempts__gte=1, sent_at__isnull=False),
                name="dispatch_was_sent",
            ),
        ]
        indexes = [
            models.Index(
                fields=["supplier", "state", "next_at"], condition=Q(ended_at__isnull=True), name="dispatch_open"
            ),
            models.Index(fields=["supplier", "state", "ended_at"], name="dispatch_by_supplier"),
            # What is old.
            models.Index(fields=["ended_at"], condition=Q(ended_at__isnull=False), name="dispatch_age"),
            # What waits for a person.
            models.Index(
                fields=["asked_at"],
                condition=Q(state__in=[DispatchState.UNCLEAR, DispatchState.REFUSED, DispatchState.GIVEN_UP]),
                name="dispatch_for_a_person",
            ),
            models.Index(fields=["asked_at"], condition=Q(breaks_promise=True), name="dispatch_breaks_promise"),
        ]

    def __str__(self) -> str:
        return f"{self.refill_id}: {self.get_state_display()}"

    @property
    def waits_for_decision(self) -> bool:
        """Return whether it no longer goes on by itself, so that an agent decides, if the refill is in flight."""
        if self.state == DispatchState.UNCLEAR:
            return self.next_at is None
        return self.state in (DispatchState.REFUSED, DispatchState.GIVEN_UP)


class DispatchStep(models.Model):
    """A step of a dispatch, with the supplier's words. The database refuses to change or delete steps."""

    class Kind(models.TextChoices):
        SEND = "send"  # the refill was sent
        ASK = "ask"  # the supplier was asked what became of it
        DECISION = "decision"  # a person decided

    dispatch = models.ForeignKey(Dispatch, models.PROTECT, related_name="steps", editable=False)
    at = models.DateTimeField(editable=False)
    kind = models.CharField(max_length=10, choices=Kind, editable=False)
    attempt = models.PositiveIntegerField(editable=False)
    state = models.CharField(max_length=10, choices=DispatchState, editable=False, help_text="After the step.")
    words = models.TextField(blank=True, editable=False)
    milliseconds = models.PositiveIntegerField(null=True, editable=False, help_text="Until the supplier answered.")
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, db_index=False, related_name="+", editable=False
    )

    class Meta:
        ordering = ["at", "id"]

    def __str__(self) -> str:
        return f"{self.kind} {self.attempt}: {self.state}"


class SupplierState(models.Model):
    """The state of the requests to a supplier: the limit per minute, and the circuit breaker. The worker writes it."""

    supplier = models.OneToOneField(Supplier, models.CASCADE, primary_key=True, related_name="traffic", editable=False)
    minute = models.DateTimeField(null=True, editable=False, help_text="The minute in which requests are counted.")
    requests = models.PositiveIntegerField(default=0, editable=False, help_text="Made in that minute.")
    failures = models.PositiveIntegerField(default=0, editable=False, help_text="Requests in a row without an answer.")
    rests_until = models.DateTimeField(null=True, editable=False, help_text="Until then nothing is asked of it.")
    failing_since = models.DateTimeField(null=True, editable=False)
    words = models.TextField(blank=True, default="", editable=False, help_text="What the last failure was.")

    def __str__(self) -> str:
        return str(self.supplier)


class SupplierText(models.Model):
    """What to do when a supplier refuses with certain words. Staff maintain the list."""

    class Action(models.TextChoices):
        REJECT = "reject", "Reject the refill with the reason"
        RETRY = "retry", "Send it again after some hours"
        PERSON = "person", "Let an agent decide"

    text = models.CharField(
        max_length=200, unique=True, help_text="The supplier's answer contains this, in upper or lower case."
    )
    action = models.CharField(max_length=10, choices=Action)
    reason = models.ForeignKey(
        RejectionReason, models.PROTECT, null=True, blank=True, help_text="To reject with: the customer reads it."
    )
    hours = models.PositiveSmallIntegerField(null=True, blank=True, help_text="After which it is sent again.")
    breaks_promise = models.BooleanField(
        default=False, help_text="Our catalogue promises what the supplier refuses so: shown on the start page."
    )

    class Meta:
        ordering = ["text"]
        verbose_name = "answer of suppliers"
        verbose_name_plural = "answers of suppliers"
        constraints = [
            models.CheckConstraint(condition=~Q(text=""), name="supplier_text_has_text"),
            models.CheckConstraint(
                condition=Q(action="reject", reason__isnull=False, hours__isnull=True)
                | Q(action="retry", reason__isnull=True, hours__isnull=False, hours__gte=1)
                | Q(action="person", reason__isnull=True, hours__isnull=True),
                name="supplier_text_has_what_its_action_needs",
                violation_error_message="Choose a reason to reject with, or hours to wait, or neither of them to let "
                "an agent decide.",
            ),
        ]

    def __str__(self) -> str:
        return self.text
