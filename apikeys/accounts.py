"""Suspend customers, and restore them."""

from django.db import transaction
from django.utils import timezone

from apikeys.models import Account, SuspensionEvent
from apikeys.refusals import CannotSuspendYourself, NoReasonGiven


def set_active(account: Account, active: bool, by: Account, reason: str) -> bool:
    """Restore (``active``) or suspend an account, from its next request on. Returns False if it already was.

    A change is recorded as a SuspensionEvent. Raises NoReasonGiven, or CannotSuspendYourself if ``by`` is the account.
    """
    reason = reason.strip()
    if not reason:
        raise NoReasonGiven
    if account.pk == by.pk:
        raise CannotSuspendYourself
    with transaction.atomic():
        locked = Account.objects.select_for_update(no_key=True).get(pk=account.pk)
        if locked.is_active == active:
            return False
        locked.is_active = active
        locked.save(update_fields=["is_active"])
        SuspensionEvent.objects.create(
            account=locked,
            by=by,
            at=timezone.now(),
            kind=SuspensionEvent.Kind.RESTORED if active else SuspensionEvent.Kind.SUSPENDED,
            reason=reason,
        )
    return True
