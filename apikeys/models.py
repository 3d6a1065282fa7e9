from datetime import datetime
from typing import Any, ClassVar, Self

from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils import timezone


class Account(AbstractUser):
    """A customer, or one of the staff. A customer that is not active is suspended."""

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


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def active(self, now: datetime) -> Self:
        """Return the keys that are neither revoked nor expired."""
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=now), revoked_at=None)


class ApiKey(models.Model):
    """What a client proves itself with. Only a digest of the key is kept."""

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
        help_text="Addresses and networks (203.0.113.0/24) that it may be used from; empty: from everywhere.",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="From then on it is refused; empty: never.")
    rotated_at = models.DateTimeField(null=True, editable=False, help_text="When it last got a new value.")
    last_used_at = models.DateTimeField(null=True, editable=False, help_text="Written at most once a minute.")
    revoked_at = models.DateTimeField(null=True, editable=False)

    objects: ClassVar[Any] = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = "API key"
        constraints = [
            models.CheckConstraint(
                condition=Q(limit_per_minute__isnull=True) | Q(limit_per_minute__gte=1), name="apikey_limit_is_positive"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.prefix}…"

    def revoke(self, now: datetime) -> bool:
        """Revoke the key for good, from the next request on. Returns False if it was revoked before."""
        return bool(ApiKey.objects.filter(pk=self.pk, revoked_at=None).update(revoked_at=now))
