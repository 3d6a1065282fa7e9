"""The staff: new agents, who are invited by mail, and those who leave. Superusers alone do either."""

from collections.abc import Callable

from django.contrib.auth.models import Group
from django.core.mail import EmailMessage
from django.db import IntegrityError, transaction
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from apikeys.accounts import lock_with_superusers
from apikeys.invitations import days_of_a_link, path_to_set_password
from apikeys.keys import revoke_all_api_keys
from apikeys.models import Account, AuditEvent, SuspensionEvent
from apikeys.refusals import (
    CannotLeave,
    HasPassword,
    InvitationNotSent,
    LastSuperuser,
    NameTaken,
    NoAddress,
    NotOfTheStaff,
    OnlySuperusers,
)
from notpanel.kit.mails import was_sent

# A role is a group of this name. A migration of the refills gives both groups their permissions.
ROLES = {
    "Support": "settles refills",
    "Lead": "also reopens them, suspends customers, edits reasons, sees figures of agents",
}
LEFT = "Left the staff."  # the reason of the suspension

# What else ends when somebody leaves: what is counted, and the function that ends it and returns how many there were.
_endings: list[tuple[str, Callable[[Account], int]]] = []


def end_on_leaving(what: str, end: Callable[[Account], int]) -> None:
    """Register ``end``, which is called with an account that leaves and returns how many of ``what`` it has ended."""
    _endings.append((what, end))


def create_agent(name: str, email: str, role: str, by: Account) -> Account:
    """Create an account of the staff without a password, in the group of ``role``. ``invite`` lets its owner set one.

    Raises OnlySuperusers, and NameTaken if another account has the name.
    """
    if not by.is_superuser:
        raise OnlySuperusers
    agent = Account(username=name, email=email, is_staff=True)
    agent.set_unusable_password()
    try:
        with transaction.atomic():
            agent.save()
            agent.groups.add(Group.objects.get_or_create(name=role)[0])
    except IntegrityError as error:
        raise NameTaken(name=name) from error
    return agent


def may_be_invited(account: Account) -> bool:
    """Return whether the account is active staff, and nobody has set a password for it."""
    return account.is_staff and account.is_active and not account.has_usable_password()


def invite(account: Account, by: Account, absolute: Callable[[str], str]) -> None:
    """Mail a link with which the owner of an account of the staff sets a password. It works once, for three days.

    Links sent earlier work as well, until one is used. ``absolute`` makes a URL of a path. Raises OnlySuperusers,
    HasPassword unless the account ``may_be_invited``, NoAddress, and InvitationNotSent if the mail could not be sent.
    """
    if not by.is_superuser:
        raise OnlySuperusers
    if not may_be_invited(account):
        raise HasPassword
    if not account.email:
        raise NoAddress
    context = {
        "account": account,
        "link": absolute(path_to_set_password(account)),
        "days": days_of_a_link(),
        "sign_in": absolute(reverse("admin:index")),
    }
    subject = render_to_string("admin/apikeys/account/invitation_subject.txt").strip()
    body = render_to_string("admin/apikeys/account/invitation.txt", context)
    if not was_sent(EmailMessage(subject, body, None, [account.email]), f"the invitation of account {account.pk}"):
        raise InvitationNotSent(email=account.email)
    AuditEvent.record(AuditEvent.Kind.INVITED, account, by_id=by.pk)


def leave(account: Account, by: Account) -> dict[str, int]:
    """End all access of somebody who leaves the staff. Returns how many of each thing were ended.

    The account is suspended, its sessions, its password and invitations end, its keys are revoked, and it loses its
    groups, permissions and rank, so that restoring it brings none of them back. It stays marked as staff, because the
    desk names it as the one who settled refills, and so that only superusers can restore it. Raises OnlySuperusers,
    NotOfTheStaff, CannotLeave if ``by`` is the account, and LastSuperuser.
    """
    if not by.is_superuser:
        raise OnlySuperusers
    if account.pk == by.pk:
        raise CannotLeave
    with transaction.atomic():
        locked, others = lock_with_superusers(account)
        if not (locked.is_staff or locked.is_superuser):
            raise NotOfTheStaff
        if locked.is_superuser and locked.is_active and not others:
            raise LastSuperuser
        if locked.is_active:
            kind = SuspensionEvent.Kind.SUSPENDED
            SuspensionEvent.objects.create(account=locked, by=by, at=timezone.now(), kind=kind, reason=LEFT)
        locked.is_active = locked.is_superuser = False
        locked.set_unusable_password()  # every session and link depends on the password
        locked.save(update_fields=["is_active", "is_superuser", "password"])
        locked.groups.clear()
        locked.user_permissions.clear()
        ended = {"API keys revoked": revoke_all_api_keys(locked)} | {what: end(locked) for what, end in _endings}
        AuditEvent.record(AuditEvent.Kind.LEFT, locked, ended, by_id=by.pk)
    return ended
