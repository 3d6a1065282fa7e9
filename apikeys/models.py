from datetime import datetime
from typing import Self

from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils import timezone


class Account(AbstractUser):
    """A customer or a member of the staff. An account that is not active is suspended."""

    class Tier(models.TextChoices):
        STANDARD = "standard"
        RESELLER = "reseller"
        AGENCY = "agency"

    tier = models.CharField(
        max_length=20,
        choices=Tier,
        default=Tier.STANDARD,
        help_text="Sets how many requests a minute all API keys of the account may make together.",
    )

    class Meta:
        permissions = [("suspend_account", "Can suspend and restore accounts")]
        constraints = [
            models.CheckConstraint(
                condition=Q(tier__in=["standard", "reseller", "agency"]), name="account_tier_is_known"
            ),
        ]


class SuspensionEvent(models.Model):
    """The suspension of an account, or its restoration. The database refuses to change or delete one."""

    class Kind(models.TextChoices):
        SUSPENDED = "suspended"
        RESTORED = "restored"

    account = models.ForeignKey(Account, models.PROTECT, related_name="suspension_events", editable=False)
    by = models.ForeignKey(Account, models.PROTECT, db_index=False, related_name="+", editable=False)
    at = models.DateTimeField(editable=False)
    kind = models.CharField(max_length=10, choices=Kind, editable=False)
    reason = models.TextField(editable=False)

    class Meta:
        ordering = ["at", "id"]
        default_permissions = ()  # set_active() alone writes them
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=["suspended", "restored"]), name="suspension_kind_is_known"),
            models.CheckConstraint(condition=~Q(reason=""), name="suspension_has_a_reason"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.reason}"


class AttemptCounter(models.Model):
    """How often a password was tried, until ``ends_at``. apikeys/attempts.py counts with statements of its own."""

    key = models.CharField(max_length=64, primary_key=True)  # a keyed digest of the name or the address
    ends_at = models.DateTimeField(db_index=True)
    wrong = models.PositiveIntegerField()
    checked = models.PositiveIntegerField(help_text="Right ones included.")

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.wrong} wrong of {self.checked} until {self.ends_at}"


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def active(self, now: datetime) -> Self:
        """Return the keys that are neither revoked nor expired."""
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=now), revoked_at=None)


class ApiKey(models.Model):
    """What a client authenticates with. Only a digest of the key is stored."""

    account = models.ForeignKey(Account, models.PROTECT, related_name="api_keys")
    name = models.CharField(max_length=100, blank=True)
    prefix = models.CharField(max_length=16, unique=True, help_text="The visible beginning of the key.")
    digest = models.CharField(max_length=64, unique=True, editable=False)  # SHA-256, in hexadecimal
    limit_per_minute = models.PositiveIntegerField(
        null=True, blank=True, help_text="Requests a minute; empty: the general limit of keys."
    )
    allowed_networks = ArrayField(
        models.CharField(max_length=43),
        default=list,
        blank=True,
        help_text="Addresses and networks (203.0.113.0/24) from which it may be used; empty: from everywhere.",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(
        null=True, blank=True, help_text="It is refused from this time on; empty: it never expires."
    )
    rotated_at = models.DateTimeField(null=True, editable=False, help_text="When it last got a new value.")
    last_used_at = models.DateTimeField(null=True, editable=False, help_text="Written at most once a minute.")
    revoked_at = models.DateTimeField(null=True, editable=False)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = "API key"
        constraints = [
            models.CheckConstraint(
                condition=Q(limit_per_minute__isnull=True) | Q(limit_per_minute__gte=1), name="apikey_limit_is_positive"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.prefix}…"
