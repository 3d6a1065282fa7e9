"""Checks of what is around the site: collected files, mail, the disk, Redis."""

import shutil
import smtplib
from collections.abc import Iterator
from email.utils import parseaddr
from pathlib import Path
from typing import Any

import redis
from django.conf import settings
from django.core.mail import EmailMessage, get_connection

from notpanel.doctor.checks import Check
from notpanel.health import problem_of_redis
from notpanel.server.checks import check_static_files

LEAST_FREE = 1024**3  # bytes of a disk


def checks(mail_to: str | None = None) -> tuple[Check, ...]:
    """Return the checks. ``mail_to`` is sent a mail, if it is given."""
    return (
        Check("static_files", "The static files are collected.", check_static_files),
        Check("mail", "The mail server takes mail from us.", lambda: _mail(mail_to)),
        Check("disk", "The disk of var/ has room.", lambda: full_disks(settings.STATIC_ROOT)),
        Check("redis", "Redis, if it is used, answers and keeps the counters.", _redis),
    )


def full_disks(path: Path) -> Iterator[str]:
    """Yield a problem if the disk of the directory, or of where it would be made, is nearly full."""
    while not path.exists():
        path = path.parent
    free = shutil.disk_usage(path).free
    if free < LEAST_FREE:
        yield f"The disk of {path} has only {free // 1024**2} MiB left: make room, or writes will soon fail."


def _mail(to: str | None) -> Iterator[str]:
    if settings.EMAIL_BACKEND == "django.core.mail.backends.console.EmailBackend":
        yield "EMAIL_URL is not set: mail is written to standard output, and nobody can reset a password."
        return
    if parseaddr(settings.DEFAULT_FROM_EMAIL)[1].endswith("@localhost"):
        yield "EMAIL_FROM is an address of localhost: mail servers refuse it. Set it to an address of your domain."
    try:
        with get_connection() as server:
            if to:
                text = "This is the mail that `manage.py doctor` sends."
                EmailMessage("NotPanel can send mail", text, None, [to], connection=server).send()
    except smtplib.SMTPAuthenticationError:
        yield "The mail server refuses the user or the password of EMAIL_URL."
    except smtplib.SMTPSenderRefused:
        yield "The mail server refuses EMAIL_FROM as a sender. Set it to an address that the user of EMAIL_URL may use."
    except smtplib.SMTPRecipientsRefused:
        yield f"The mail server takes no mail to {to}. If the address is right, the server does not relay for us."
    except OSError as error:  # smtplib's errors are OSErrors
        yield (
            f"The mail server of EMAIL_URL does not take mail from us ({error.strerror or type(error).__name__}): "
            "check the name, the port and the scheme (smtp, smtp+tls or smtp+ssl)."
        )


def _redis() -> Iterator[str]:
    if problem := problem_of_redis():
        yield f"{problem} Check REDIS_URL, and that the server runs."
        return
    if not settings.REDIS_URL:
        return
    timeout = settings.REDIS_TIMEOUT
    with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=timeout, socket_connect_timeout=timeout) as client:
        try:
            client.set("notpanel:doctor", "", ex=1)
        except redis.RedisError as error:
            yield f"Redis refuses to write ({error}), and the rate limits are counted there. Its log says why."
        try:
            memory: Any = client.info("memory")
        except redis.RedisError:
            return  # an administrator may forbid INFO
    if memory.get("maxmemory") and memory.get("maxmemory_policy") != "noeviction":
        yield (
            f"Redis evicts keys when its memory is full ({memory['maxmemory_policy']}), and with them counters of the "
            "rate limits. Set maxmemory-policy to noeviction, or give NotPanel a Redis of its own."
        )
