from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar, Self

from django.contrib.auth.hashers import check_password
from django.contrib.auth.models import AbstractUser, UserManager
from django.contrib.auth.password_validation import validate_password
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models, transaction
from django.db.models import Case, F, Func, Q, TextField, Value, When
from django.db.models.functions import Lower
from django.utils import timezone

from apikeys import acting
from apikeys.audit_log import AuditEvent as AuditEvent
from apikeys.settlement_mails import SettlementMails as SettlementMails
from apikeys.time_zones import check_time_zone
from apikeys.webhooks.models import WebhookDelivery as WebhookDelivery
from apikeys.webhooks.models import WebhookEndpoint as WebhookEndpoint

LONGEST_GRACE = timedelta(hours=24)  # for which the old value may still work after a rotation

# The columns of an account whose changes the audit log records.
RIGHTS = ("is_staff", "is_superuser")
IDENTITY = ("username", "email", "confirmed_email", "tier")


# The prefix of what replaces an erased user name. No user name has a colon, so none can be mistaken for it.
ERASED = "erased:"

ONE_OWNER_OF_AN_EMAIL = "account_confirmed_email_has_one_owner"  # the constraint's name


def name_parts(username: F | Value, email: F | Value) -> Func:
    """Return the pieces of two and three characters of the two names, in lower case (migration 0007)."""
    return Func(username, email, function="apikeys_name_parts", output_field=ArrayField(TextField()))


class AccountManager(UserManager["Account"]):
    use_in_migrations = False

    def create_superuser(
        self, username: str, email: str | None = None, password: str | None = None, **fields: Any
    ) -> "Account":
        """Create a superuser. Raises ValidationError if the password breaks the rules for staff.

        ``createsuperuser`` checks a typed password only by the rules for customers, offers to bypass them, and does not
        check a password from the environment at all.
        """
        if password is not None:
            validate_password(password, self.model(username=username, email=email or "", is_staff=True))
        return super().create_superuser(username, email, password, **fields)

    def who_signs_in(self, text: str) -> "Account | None":
        """Return the account that signs in by ``text``: its user name, or the e-mail address that its owner confirmed.

        Both are compared ignoring case, but an exact user name wins. If several user names differ only in case, a
        spelling that matches none of them exactly names nobody. One statement.
        """
        lowered = Lower(Value(text))
        by_name, by_email = Q(lower_username=lowered), Q(lower_confirmed_email=lowered) & ~Q(confirmed_email="")
        found = (
            self.alias(lower_username=Lower("username"), lower_confirmed_email=Lower("confirmed_email"))
            .annotate(is_by_name=Case(When(by_name, then=True), default=False))
            .filter(by_name | by_email)
        )
        accounts = list(found)
        names = [account for account in accounts if account.is_by_name]
        exact = [account for account in names if account.username == text]
        chosen = exact or names or [account for account in accounts if account.has_confirmed_email]
        return chosen[0] if len(chosen) == 1 else None

    def get_by_natural_key(self, username: str | None) -> "Account":
        """Return the account that signs in by ``username``. Django's sign-in looks it up here."""
        account = self.who_signs_in(username or "")
        if account is None:
            raise self.model.DoesNotExist
        return account


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
        help_text="Sets how many requests a minute each API key of the account may make, and all of them together.",
    )
    time_zone = models.CharField(
        max_length=64,
        default="UTC",
        db_default="UTC",
        validators=[check_time_zone],
        help_text="In which staff see the times of the desk, such as Europe/Berlin.",
    )
    # The address whose owner followed the link sent to it. An import or the desk may have set another one since.
    confirmed_email = models.EmailField(blank=True, default="", db_default="", editable=False)
    # What the panel's books said at the last import. Nothing in NotPanel changes it.
    balance = models.DecimalField(max_digits=14, decimal_places=5, null=True, editable=False)
    currency = models.CharField(max_length=3, default="USD", db_default="USD", editable=False)
    # ``refills.erasing`` alone writes it. The database lets nobody use the account again.
    erased_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        permissions = [("suspend_account", "Can suspend and restore accounts")]
        constraints = [
            models.CheckConstraint(
                condition=Q(tier__in=["standard", "reseller", "agency"]), name="account_tier_is_known"
            ),
            models.CheckConstraint(condition=Q(currency__regex=r"^[A-Z]{3}$"), name="account_currency_is_a_code"),
            models.CheckConstraint(
                condition=Q(erased_at__isnull=True)
                | Q(
                    is_active=False,
                    is_staff=False,
                    is_superuser=False,
                    **dict.fromkeys(("email", "confirmed_email", "first_name", "last_name"), ""),
                ),
                name="account_erased_is_empty",
            ),
            # One account at most can sign in by an address.
            models.UniqueConstraint(
                Lower("confirmed_email"), condition=~Q(confirmed_email=""), name=ONE_OWNER_OF_AN_EMAIL
            ),
        ]
        indexes = [
            # Searches for any part of a name.
            GinIndex(name_parts(F("username"), F("email")), name="account_by_name_parts"),
            models.Index(Lower("username"), name="account_by_lower_username"),
            models.Index(Lower("email"), name="account_by_lower_email"),
            models.Index(fields=["tier"], name="account_by_tier"),
            # The choices of the filter by who settled: few accounts are staff.
            models.Index(fields=["username"], condition=Q(is_staff=True), name="account_staff"),
        ]

    objects: ClassVar[AccountManager] = AccountManager()

    _stored: Mapping[str, Any] = {}
    _password: str | None  # the raw password that set_password() was given, until it is saved

    @classmethod
    def from_db(cls, *args: Any, **kwargs: Any) -> Self:
        account = super().from_db(*args, **kwargs)
        account._remember_what_is_stored()
        return account

    def refresh_from_db(self, *args: Any, **kwargs: Any) -> None:
        super().refresh_from_db(*args, **kwargs)
        self._remember_what_is_stored()

    def save(self, *args: Any, update_fields: Any = None, **kwargs: Any) -> None:
        """Save the account, and record in the audit log what changed of its password, its rights and its names."""
        with transaction.atomic():
            events = self._events(
                {field.name for field in self._meta.fields} if update_fields is None else update_fields
            )
            super().save(*args, update_fields=update_fields, **kwargs)
            for kind, details in events:
                AuditEvent.record(kind, self, details)
        self._remember_what_is_stored()

    @property
    def has_confirmed_email(self) -> bool:
        """Return whether mail reaches the owner at the account's address."""
        return bool(self.email) and self.email == self.confirmed_email

    def proves_password(self, raw_password: str) -> bool:
        """Return whether this is the password, of an account that is signed in.

        Unlike ``check_password`` it never rehashes the password, which would end the sessions of the account.
        """
        return check_password(raw_password, self.password)

    def _remember_what_is_stored(self) -> None:
        watched = {*RIGHTS, *IDENTITY, "password"}
        self._stored = {name: value for name, value in self.__dict__.items() if name in watched}

    def _events(self, saved: Any) -> list[tuple[str, dict[str, Any]]]:
        if self._state.adding:
            return [(AuditEvent.Kind.ACCOUNT_CREATED, {name: getattr(self, name) for name in RIGHTS})]
        changed = [name for name, old in self._stored.items() if name in saved and getattr(self, name) != old]
        events: list[tuple[str, dict[str, Any]]] = []
        # Without a raw password, it is the same password, rehashed when its owner signed in.
        if "password" in changed and (self._password is not None or not self.has_usable_password()):
            by_mail = acting.is_through_a_page() and acting.account_id() is None
            events.append((AuditEvent.Kind.PASSWORD_RESET if by_mail else AuditEvent.Kind.PASSWORD_CHANGED, {}))
        if rights := {name: getattr(self, name) for name in RIGHTS if name in changed}:
            events.append((AuditEvent.Kind.RIGHTS_CHANGED, rights))
        if names := [name for name in IDENTITY if name in changed]:
            events.append((AuditEvent.Kind.ACCOUNT_CHANGED, {"changed": names}))
        return events


class SuspensionEvent(models.Model):
    """The suspension of an account, or its restoration. The database refuses to change or delete events."""

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


class RecoveryCode(models.Model):
    """A code that signs its account in once, in place of the authenticator app. Only its digest is stored."""

    account = models.ForeignKey(Account, models.CASCADE, related_name="recovery_codes")
    digest = models.CharField(max_length=64, editable=False)  # SHA-256, in hexadecimal
    used_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"of {self.account}"


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

    class Answers(models.TextChoices):
        NOTPANEL = "notpanel", "As documented"
        PERFECTPANEL = "perfectpanel", "As most panels answer"

    account = models.ForeignKey(Account, models.PROTECT, related_name="api_keys")
    name = models.CharField(max_length=100, blank=True)
    prefix = models.CharField(max_length=16, unique=True, help_text="The visible beginning of the key.")
    digest = models.CharField(max_length=64, unique=True, editable=False)  # SHA-256, in hexadecimal
    limit_per_minute = models.PositiveIntegerField(
        null=True, blank=True, help_text="Requests a minute; empty: the limit of keys of the account's tier."
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
    answers = models.CharField(
        max_length=20,
        choices=Answers,
        default=Answers.NOTPANEL,
        db_default=Answers.NOTPANEL,
        help_text="How its requests are answered.",
    )
    read_only = models.BooleanField(
        default=False, db_default=False, help_text="It may ask for everything, and request no refills."
    )
    rotated_at = models.DateTimeField(null=True, editable=False, help_text="When it last got a new value.")
    # The digest of the old value; null rather than empty, because it is unique.
    previous_digest = models.CharField(max_length=64, unique=True, null=True, editable=False)  # noqa: DJ001
    previous_until = models.DateTimeField(null=True, editable=False, help_text="Until then the value before works too.")
    last_used_at = models.DateTimeField(null=True, editable=False, help_text="Written at most once a minute.")
    revoked_at = models.DateTimeField(null=True, editable=False)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = "API key"
        constraints = [
            models.CheckConstraint(
                condition=Q(limit_per_minute__isnull=True) | Q(limit_per_minute__gte=1), name="apikey_limit_is_positive"
            ),
            models.CheckConstraint(
                condition=Q(answers__in=["notpanel", "perfectpanel"]), name="apikey_answers_are_known"
            ),
            models.CheckConstraint(
                condition=Q(previous_digest__isnull=True, previous_until__isnull=True)
                | Q(previous_digest__isnull=False, previous_until__lte=F("rotated_at") + LONGEST_GRACE),
                name="apikey_value_before_ends_within_a_day",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.prefix}…"


class PanelKey(models.Model):
    """What the panel authenticates with when it sends files. Only a digest of the key is stored."""

    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=16, unique=True, help_text="The visible beginning of the key.")
    digest = models.CharField(max_length=64, unique=True, editable=False)  # SHA-256, in hexadecimal
    limit_per_minute = models.PositiveIntegerField(
        null=True, help_text="Files a minute; empty: the setting PANEL_RATE_LIMIT."
    )
    allowed_networks = ArrayField(
        models.CharField(max_length=43), help_text="Addresses and networks (203.0.113.0/24) from which it may be used."
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    last_used_at = models.DateTimeField(null=True, editable=False, help_text="Written at most once a minute.")
    revoked_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        default_permissions = ()  # superusers alone see them, and commands alone write them
        constraints = [
            models.CheckConstraint(condition=Q(allowed_networks__len__gte=1), name="panelkey_is_bound_to_addresses"),
            models.CheckConstraint(
                condition=Q(limit_per_minute__isnull=True) | Q(limit_per_minute__gte=1),
                name="panelkey_limit_is_positive",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"


class KeptAnswer(models.Model):
    """The first answer to a request that had a request_id. ``apikeys.idempotency`` alone writes it."""

    account = models.ForeignKey(Account, models.PROTECT, db_index=False, related_name="+", editable=False)
    request_id = models.CharField(max_length=128, editable=False)
    digest = models.CharField(max_length=64, editable=False)  # of what was requested: SHA-256, in hexadecimal
    created_at = models.DateTimeField(db_index=True, editable=False)
    status = models.PositiveSmallIntegerField(editable=False)
    code = models.CharField(max_length=100, blank=True, editable=False)
    body = models.TextField(blank=True, editable=False)

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["account", "request_id"], name="one_answer_per_request_id")]

    def __str__(self) -> str:
        return self.request_id
