from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.core.validators import validate_email

from notpanel.doctor.diagnosis import diagnose


class Command(BaseCommand):
    help = (
        "Says what is wrong with this installation and what to do about it, and what is right. It changes nothing and "
        "shows no secrets, so run it whenever you like, on each server. Exit status: 1 if something is wrong, 2 wrong "
        "usage."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--mail-to", type=_address, metavar="ADDRESS", help="send a mail there, to see whether it arrives"
        )

    def handle(self, *args: Any, mail_to: str | None, **options: Any) -> None:
        made = wrong = 0
        for finding in diagnose(mail_to):
            made += finding.was_made
            wrong += bool(finding.problems)
            mark = "wrong" if finding.problems else "ok" if finding.was_made else "–"
            for sentence in finding.problems or (finding.is_right,):
                self.stdout.write(f"{mark:5}  {finding.name}: {sentence}")
        if wrong:
            raise CommandError(f"{wrong} of {made} checks found something wrong.")


def _address(text: str) -> str:
    try:
        validate_email(text)
    except ValidationError:
        raise ArgumentTypeError(f"“{text}” is not an e-mail address") from None
    return text
