"""Suspend and restore accounts, set their time zones, and decide who may do what to the accounts of staff."""

import functools

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from apikeys import acting
from apikeys.models import Account, SuspensionEvent
from apikeys.refusals import AccountErased, CannotSuspendYourself, LastSuperuser, NoReasonGiven, OnlySuperusers
from apikeys.time_zones import check_time_zone
from notpanel.kit import security_log


def may_manage(by: Account, account: Account) -> bool:
    """Return whether ``by``, who has the permission, may change this account: only superusers may change staff."""
    return by.is_superuser or not (account.is_staff or account.is_superuser)


def set_active(account: Account, active: bool, by: Account, reason: str) -> bool:
    """Restore (``active``) or suspend an account, effective from its next request. Returns False if nothing changed.

    Records the change as a SuspensionEvent. Raises NoReasonGiven; CannotSuspendYourself if ``by`` is the account;
    OnlySuperusers if the account is staff and ``by`` is not a superuser; LastSuperuser; or AccountErased.
    """
    reason = reason.strip()
    if not reason:
        raise NoReasonGiven
    if account.pk == by.pk:
        raise CannotSuspendYourself
    with transaction.atomic():
        locked, others = lock_with_superusers(account)
        if not may_manage(by, locked):
            raise OnlySuperusers
        if locked.erased_at:
            raise AccountErased
        if locked.is_active == active:
            return False
        if locked.is_superuser and not others:
            raise LastSuperuser
        locked.is_active = active
        locked.save(update_fields=["is_active"])
        SuspensionEvent.objects.create(
            account=locked,
            by=by,
            at=timezone.now(),
            kind=SuspensionEvent.Kind.RESTORED if active else SuspensionEvent.Kind.SUSPENDED,
            reason=reason,
        )
        transaction.on_commit(
            functools.partial(
                security_log.report,
                "account_restored" if active else "account_suspended",
                alarming=False,
                account=locked.pk,
                by=by.pk,
                address=acting.address(),
            )
        )
    return True


def set_time_zone(account: Account, name: str) -> None:
    """Set the time zone in which an account sees the times of the desk. Raises ValidationError for an unknown name."""
    check_time_zone(name)
    Account.objects.filter(pk=account.pk).update(time_zone=name)


def lock_with_superusers(account: Account) -> tuple[Account, list[Account]]:
    """Lock an account and every other superuser who can sign in to the desk. Returns both.

    Two superusers who suspend or demote each other therefore wait for each other, and the second one sees who is left.
    Must be called in a transaction.
    """
    can_sign_in = Q(is_active=True, is_superuser=True, is_staff=True)
    rows = Account.objects.select_for_update(no_key=True).filter(can_sign_in | Q(pk=account.pk)).order_by("pk")
    accounts = {row.pk: row for row in rows}
    return accounts.pop(account.pk), list(accounts.values())
