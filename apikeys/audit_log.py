import functools
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models, transaction
from django.utils import timezone

from apikeys import acting
from notpanel.kit import security_log
from notpanel.kit.times import time_text

if TYPE_CHECKING:
    from apikeys.models import Account


# The details of an audit event that are also written to the log.
_REPORTED = (
    *("key", "was", "until", "expires_at", "allowed_networks", "read_only"),
    *("limit", "after", "left", "is_active", "is_staff", "is_superuser", "changed", "added", "removed"),
    *("group", "done", "webhook", "state"),
)
_ALARMING = {"sign_in_failed", "proof_failed", "locked", "code_failed"}


class AuditEvent(models.Model):
    """An event: who did what to an account, from where and when. The database refuses to change or delete events.

    Suspensions are not here but in SuspensionEvent, with their reasons. No password, token or key is ever recorded, nor
    a name that belongs to no account: some people type their password into its field.
    """

    class Kind(models.TextChoices):
        SIGNED_IN = "signed_in", "Signed in"
        SIGN_IN_FAILED = "sign_in_failed", "Failed to sign in"
        PROOF_FAILED = "proof_failed", "Failed to prove the password"
        LOCKED = "locked", "Reached a limit of attempts"
        SIGNED_OUT = "signed_out", "Signed out"
        PASSWORD_CHANGED = "password_changed", "Password changed"
        PASSWORD_RESET = "password_reset", "Password reset by mail"
        KEY_CREATED = "key_created", "API key created"
        KEY_CHANGED = "key_changed", "API key changed"
        KEY_ROTATED = "key_rotated", "API key rotated"
        KEY_REVOKED = "key_revoked", "API key revoked"
        FACTOR_ENABLED = "factor_enabled", "Second factor set up"
        FACTOR_DISABLED = "factor_disabled", "Second factor taken away"
        FACTOR_RESET = "factor_reset", "Second factor reset"
        CODE_FAILED = "code_failed", "Failed to give a code"
        RECOVERY_CODES = "recovery_codes", "New recovery codes"
        RECOVERY_CODE_USED = "recovery_code_used", "Recovery code used"
        ACCOUNT_CREATED = "account_created", "Account created"
        ACCOUNT_CHANGED = "account_changed", "Account changed"
        RIGHTS_CHANGED = "rights_changed", "Rights changed"
        GROUP_CHANGED = "group_changed", "Group changed"
        INVITED = "invited", "Invited"
        LEFT = "left", "Left the staff"
        PANEL_KEY_CREATED = "panel_key_created", "Panel key created"
        PANEL_KEY_REVOKED = "panel_key_revoked", "Panel key revoked"
        ERASED = "erased", "Account erased"
        MAILS_CHOSEN = "mails_chosen", "Mails chosen"
        WEBHOOK_ADDED = "webhook_added", "Webhook added"
        WEBHOOK_CHANGED = "webhook_changed", "Webhook changed"
        WEBHOOK_ROTATED = "webhook_rotated", "Webhook secret rotated"
        WEBHOOK_REMOVED = "webhook_removed", "Webhook removed"

    at = models.DateTimeField(editable=False)
    kind = models.CharField("what", max_length=20, choices=Kind, editable=False)
    account = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.PROTECT,
        db_index=False,
        related_name="+",
        null=True,
        editable=False,
        help_text="Whom it is about; empty: a name without an account, or a group.",
    )
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.PROTECT,
        db_index=False,
        related_name="+",
        null=True,
        editable=False,
        help_text="Who did it; empty: nobody who had signed in, or a command on the server.",
    )
    address = models.GenericIPAddressField(null=True, editable=False, help_text="Empty: a command on the server.")
    details = models.JSONField(default=dict, editable=False)

    class Meta:
        ordering = ["-at", "-id"]
        default_permissions = ()  # superusers alone see them, and record() alone writes them
        indexes = [
            models.Index(fields=["-at", "-id"], name="audit_by_time"),
            models.Index(fields=["account", "-at", "-id"], name="audit_of_an_account"),
            models.Index(fields=["by", "-at", "-id"], name="audit_of_an_actor"),
            models.Index(fields=["kind", "-at", "-id"], name="audit_of_a_kind"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}, {time_text(self.at, seconds=True)}"

    @classmethod
    def record(
        cls,
        kind: str,
        account: "Account | None",
        details: Mapping[str, Any] | None = None,
        *,
        by_id: int | None = None,
    ) -> None:
        """Record what was done to ``account``, by the account that is acting unless ``by_id`` names another."""
        event = cls(kind=kind, account=account, details=details or {}, **cls._circumstances(by_id))
        event.save(force_insert=True)
        event._report_once_committed(account=event.account_id)

    @classmethod
    def record_all(cls, events: Iterable[tuple[str, "Account", Mapping[str, Any]]]) -> None:
        """Record what was done to several accounts: kind, account and details of each. One statement writes them."""
        circumstances = cls._circumstances()
        recorded = AuditEvent.objects.bulk_create(
            AuditEvent(kind=kind, account=account, details=details, **circumstances)
            for kind, account, details in events
        )
        of_a_kind = {event.kind: event for event in recorded}
        for kind, count in Counter(event.kind for event in recorded).items():
            event = of_a_kind[kind]
            event._report_once_committed(**({"account": event.account_id} if count == 1 else {"accounts": count}))

    def _report_once_committed(self, **whom: Any) -> None:
        """Write the event to the log too, without the names and addresses that users chose."""
        details = {name: self.details[name] for name in _REPORTED if name in self.details}
        facts = {**whom, "by": self.by_id, "address": self.address, **details}
        alarming = self.kind in _ALARMING
        transaction.on_commit(functools.partial(security_log.report, str(self.kind), alarming=alarming, **facts))

    @staticmethod
    def _circumstances(by_id: int | None = None) -> dict[str, Any]:
        return {"at": timezone.now(), "by_id": by_id or acting.account_id(), "address": acting.address()}
