"""Confirm the e-mail addresses of accounts by a link, and keep which mails the owners have chosen.

Following the link that was sent to an address proves that the owner of the address also owns the account.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

from django.core import signing
from django.core.mail import EmailMessage
from django.db import IntegrityError, models, transaction
from django.db.models import F, Value
from django.db.models.functions import Lower
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.crypto import salted_hmac
from psycopg.errors import UniqueViolation

from apikeys.models import ONE_OWNER_OF_AN_EMAIL, Account, AuditEvent, SettlementMails
from apikeys.refusals import EmailNotConfirmed, EmailTaken, LinkExpired
from notpanel.kit.mails import was_sent

LINK_LASTS = timedelta(hours=24)
_SALT = "apikeys.emails"


class Link(NamedTuple):
    """The account and the address that a confirmation link is for."""

    account: Account
    email: str


def send_link(account: Account, email: str, absolute: Callable[[str], str]) -> bool:
    """Mail a link to ``email`` that makes it the address of the account. Returns whether the mail could be sent.

    Nothing changes before the link is followed. ``absolute`` makes a URL of a path.
    """
    token = signing.dumps({"account": account.pk, "email": email, "state": _state(account)}, salt=_SALT)
    link = absolute(reverse("dashboard:confirm-email", args=[token]))
    hours = LINK_LASTS // timedelta(hours=1)
    body = render_to_string("dashboard/confirm_email.txt", {"account": account, "link": link, "hours": hours})
    message = EmailMessage("Confirm your e-mail address", body, None, [email])
    return was_sent(message, f"the link that confirms the address of account {account.pk}")


def read_link(token: str) -> Link:
    """Return what the link asks for.

    Raises LinkExpired if it is too old, was followed before, or if the address or the password has changed since.
    """
    return _read(token, Account.objects.all())


def confirm(token: str) -> Account:
    """Make the address that the link was sent to the confirmed one of its account, and notify the previous address.

    Raises LinkExpired, and EmailTaken if another account has confirmed the address.
    """
    try:
        with transaction.atomic():
            account, email = _read(token, Account.objects.select_for_update(no_key=True))
            before = account.email
            # Another account that confirmed this address, but has a different one by now, no longer holds it.
            held = Account.objects.alias(lower_email=Lower("confirmed_email")).filter(lower_email=Lower(Value(email)))
            held.exclude(email=F("confirmed_email")).update(confirmed_email="")
            account.email = account.confirmed_email = email
            account.save(update_fields=["email", "confirmed_email"])
    except IntegrityError as error:
        cause = error.__cause__
        if not isinstance(cause, UniqueViolation) or cause.diag.constraint_name != ONE_OWNER_OF_AN_EMAIL:
            raise
        raise EmailTaken from error
    if before and before != email:
        body = render_to_string("dashboard/email_changed.txt", {"account": account})
        message = EmailMessage("Your e-mail address was changed", body, None, [before])
        was_sent(message, f"the news of another address of account {account.pk}")
    return account


def gets_settlement_mails(account: Account) -> bool:
    """Return whether the owner chose mails about settlements. They are sent to a confirmed address only."""
    return SettlementMails.objects.filter(pk=account.pk).exists()


def choose_settlement_mails(account: Account, chosen: bool, site: str) -> None:
    """Start or stop mailing the account about settled refills. The links in the mails lead to ``site``.

    Raises EmailNotConfirmed if mails are chosen but the account has no confirmed address.
    """
    if chosen and not account.has_confirmed_email:
        raise EmailNotConfirmed
    with transaction.atomic():
        if chosen:
            _, changed = SettlementMails.objects.get_or_create(pk=account.pk, defaults={"site": site})
        else:
            changed = SettlementMails.objects.filter(pk=account.pk).delete()[0] > 0
        if changed:
            AuditEvent.record(AuditEvent.Kind.MAILS_CHOSEN, account, {"settlements": chosen})


def _read(token: str, accounts: models.QuerySet[Account]) -> Link:
    try:
        sent = signing.loads(token, salt=_SALT, max_age=LINK_LASTS)
    except signing.BadSignature as error:
        raise LinkExpired from error
    account = accounts.filter(pk=sent["account"], is_active=True).first()
    if account is None or _state(account) != sent["state"]:
        raise LinkExpired
    return Link(account, sent["email"])


def _state(account: Account) -> str:
    """Return a value that changes with the address and the password, so that a link works only once."""
    state = "\0".join([account.email, account.confirmed_email, account.password])
    return salted_hmac(_SALT, state, algorithm="sha256").hexdigest()[:32]
