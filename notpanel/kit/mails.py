"""Send mails that may fail without stopping what is being done."""

import logging

from django.core.mail import EmailMessage

from notpanel.kit import metrics

logger = logging.getLogger(__name__)

MAILS = metrics.counter("notpanel_mails", "Mails that were to be sent.", outcome=("sent", "failed"))


def was_sent(message: EmailMessage, what: str) -> bool:
    """Send a mail. Returns whether it could be sent; if not, the log says ``what`` it was, without the address."""
    try:
        message.send()
    except (OSError, ValueError) as error:  # smtplib's errors are OSErrors; an invalid address is a ValueError
        logger.warning("Failed to send %s: %s", what, type(error).__name__)
        MAILS.labels("failed").inc()
        return False
    MAILS.labels("sent").inc()
    return True
