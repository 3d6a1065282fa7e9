import re
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from django.core.management.base import CommandError

from apikeys.imports import ACCOUNT_COLUMNS, ImportedAccounts, import_accounts
from apikeys.invitations import invite_customers
from notpanel.kit.import_command import ImportCommand


class Command(ImportCommand):
    help = "Creates customers' accounts from a file, or changes those whose user name is known."
    columns = ACCOUNT_COLUMNS
    importer = staticmethod(import_accounts)
    notes = """\
tier is standard, reseller or agency. balance is what the panel's books say, and may be below zero. New accounts have
no password: --invite mails their owners a link with which to set one. An account of the staff is never changed: a file
that names one is refused.
A known account keeps what the file has no column for. An empty cell clears the balance; an empty email, tier or
currency leaves it as it is. A new account without a tier and a currency is a standard one in USD.
"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--invite",
            dest="site",
            type=_site,
            metavar="SITE",
            help="mail each new account that has an e-mail address a link with which to set a password; SITE is where "
            "customers reach this site, such as https://panel.example",
        )

    def after(self, imported: ImportedAccounts, *, site: str | None = None, **options: Any) -> None:
        if site is None:
            return
        reachable = [account for account in imported.new if account.email]
        unsent = invite_customers(reachable, lambda path: site + path)
        silent = len(imported.new) - len(reachable)
        self.stdout.write(f"Invited: {len(reachable) - len(unsent):,}; without an e-mail address: {silent:,}.")
        if unsent:
            names = ", ".join(account.username for account in unsent)
            raise CommandError(f"The accounts were imported, but no mail could be sent to these: {names}.")


def _site(text: str) -> str:
    if not re.fullmatch(r"https?://[^/?#@\s]+/?", text):
        raise ArgumentTypeError(f"“{text}” must be the site without a path, such as https://panel.example.")
    return text.rstrip("/")
