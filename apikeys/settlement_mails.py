from datetime import datetime, timedelta
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.expressions import RawSQL
from django.utils import timezone

from notpanel.kit.transaction_id import TransactionIdField

MAILS_EVERY = timedelta(minutes=10)  # between two mails to one account


class SettlementMailsQuerySet(models.QuerySet["SettlementMails"]):
    def due(self, now: datetime) -> Self:
        """Return the choices of accounts that may be mailed now: active, with a confirmed address, not just mailed."""
        is_confirmed = Q(account__email=F("account__confirmed_email")) & ~Q(account__email="")
        return self.filter(is_confirmed, account__is_active=True, next_at__lte=now)


class SettlementMails(models.Model):
    """The choice of an account to be mailed about settled refills. Without a row it gets no such mails.

    ``apikeys.emails`` makes and deletes it; ``refills.mailing`` writes what was mailed.
    """

    account = models.OneToOneField(
        settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True, related_name="settlement_mails", editable=False
    )
    # Where the owner chose it: the links in the mails begin with it.
    site = models.CharField(max_length=300, editable=False)
    # What this transaction and earlier ones settled was mailed, or was settled before the choice.
    told_until = TransactionIdField(editable=False, db_default=RawSQL("pg_current_xact_id()", ()))
    next_at = models.DateTimeField(default=timezone.now, editable=False, help_text="No mail is sent before.")

    objects = SettlementMailsQuerySet.as_manager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"of {self.account}"
