from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError

from apikeys.models import Account
from notpanel.kit.refusals import Refusal
from refills.erasing import erase_customer


class Command(BaseCommand):
    help = (
        "Erases a customer's personal data for good, and keeps the books: orders and refills with their numbers, "
        "times, counts and charges."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.epilog = (
            "Remove the customer from your panel first: a later import of the user name creates a new account.\n"
            "docs/operations.md, “Erasing a customer”, lists what is erased and what is kept.\n\n"
            "Exit status: 0 erased; 1 not erased, and nothing was changed; 2 wrong usage."
        )
        parser.add_argument("username", metavar="USERNAME")
        parser.add_argument("--yes", action="store_true", help="do not ask for the user name once more")

    def handle(self, *args: Any, username: str, yes: bool, **options: Any) -> None:
        try:
            account = Account.objects.get(username=username)
        except Account.DoesNotExist as error:
            raise CommandError(f"There is no account “{username}”.") from error
        if not yes and _asked(username) != username:
            raise CommandError("The names are not the same. Nothing was changed.")
        try:
            erased = erase_customer(account.pk)
        except Refusal as refusal:
            raise CommandError(f"{refusal.text} Nothing was changed.") from refusal
        except OperationalError as error:
            raise CommandError(f"The database refused it: {error}Nothing was changed: try again.") from error
        self.stdout.write(
            f"Erased: the account is now {erased.account}. Kept without links and notes: {erased.orders:,} orders and "
            f"{erased.refills:,} refills."
        )


def _asked(username: str) -> str:
    try:
        return input(f"This cannot be undone. Type the user name to erase {username} for good: ")
    except EOFError as error:
        raise CommandError("There is no terminal to ask on: pass --yes.", returncode=2) from error
