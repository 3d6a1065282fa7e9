from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apikeys.keys import LENGTH_OF_PREFIX, revoke_api_key
from apikeys.models import ApiKey


class Command(BaseCommand):
    help = "Revokes an API key for good, from the next request on."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.epilog = "Exit status: 0 revoked; 1 there is no such active key; 2 wrong usage."
        parser.add_argument("prefix", metavar="PREFIX", help="the visible beginning of the key: np_ and 8 characters")

    def handle(self, *args: Any, prefix: str, **options: Any) -> None:
        prefix = prefix[:LENGTH_OF_PREFIX]  # a whole key is not repeated on the screen
        api_key = ApiKey.objects.filter(prefix=prefix).select_related("account").first()
        if api_key is None:
            raise CommandError(f"There is no key {prefix}…")
        if not revoke_api_key(api_key):
            raise CommandError(f"{prefix}… of {api_key.account} was revoked before.")
        self.stdout.write(f"Revoked {prefix}… of {api_key.account}.")
