"""Suspending customers and restoring them."""

from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import ValidationError
from django.db import transaction

from apikeys.models import Account


def set_active(account: Account, active: bool, by: Account, reason: str) -> bool:
    """Restore (``active``) or suspend an account, from its next request on. Returns False if it was so before.

    Who did it and why is kept in the admin's history. Raises ValidationError without a reason, or if ``by``
    would suspend themselves.
    """
    reason = reason.strip()
    if not reason:
        raise ValidationError("Say why.")
    if account.pk == by.pk:
        raise ValidationError("You cannot suspend yourself.")
    with transaction.atomic():
        changed = bool(Account.objects.filter(pk=account.pk, is_active=not active).update(is_active=active))
        if changed:
            words = f"{'Restored' if active else 'Suspended'}: {reason}"
            LogEntry.objects.log_actions(by.pk, [account], CHANGE, change_message=words, single_object=True)
    return changed
