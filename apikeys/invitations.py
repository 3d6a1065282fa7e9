"""The links with which owners of new accounts set their passwords, and the mails that take them to customers."""

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.tokens import default_token_generator
from django.core.mail import EmailMessage, get_connection
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from apikeys.models import Account, AuditEvent
from notpanel.kit.mails import was_sent

logger = logging.getLogger(__name__)


def path_to_set_password(account: Account) -> str:
    """Return the path of the page on which the owner of the account sets a password, once."""
    uid = urlsafe_base64_encode(force_bytes(account.pk))
    return reverse("dashboard:set-password", args=[uid, default_token_generator.make_token(account)])


def days_of_a_link() -> int:
    return timedelta(seconds=settings.PASSWORD_RESET_TIMEOUT).days


def invite_customers(accounts: Sequence[Account], absolute: Callable[[str], str]) -> list[Account]:
    """Mail each customer a link with which to set a password. Returns those to whom no mail could be sent.

    ``absolute`` makes a URL of a path. Every account must have an e-mail address.
    """
    sent: list[Account] = []
    try:
        with get_connection() as mails:  # one connection for all mails
            sent.extend(account for account in accounts if _send(account, absolute, mails))
    except OSError as error:  # smtplib's errors are OSErrors
        logger.warning("Failed to reach the mail server: %s", type(error).__name__)
    AuditEvent.record_all((AuditEvent.Kind.INVITED, account, {}) for account in sent)
    done = {account.pk for account in sent}
    return [account for account in accounts if account.pk not in done]


def _send(account: Account, absolute: Callable[[str], str], mails: Any) -> bool:
    context = {
        "account": account,
        "link": absolute(path_to_set_password(account)),
        "days": days_of_a_link(),
        "sign_in": absolute(reverse("dashboard:sign-in")),
    }
    subject = render_to_string("dashboard/invitation_subject.txt").strip()
    body = render_to_string("dashboard/invitation.txt", context)
    message = EmailMessage(subject, body, None, [account.email], connection=mails)
    return was_sent(message, f"the invitation of account {account.pk}")
