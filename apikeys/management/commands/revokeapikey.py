import re
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apikeys.keys import LENGTH_OF_PREFIX, revoke_api_key
from apikeys.models import ApiKey

_PREFIX = re.compile(rf"np_[A-Za-z0-9_-]{{{LENGTH_OF_PREFIX - 3}}}")


class Command(BaseCommand):
    help = "Revokes an API key for good, from the next request on."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.epilog = (
            "Never pass a whole key: the shell's history and the list of processes would show it.\n\n"
            "Exit status: 0 revoked; 1 there is no such active key; 2 wrong usage."
        )
        parser.add_argument("prefix", metavar="PREFIX", help="the visible beginning of the key: np_ and 8 characters")

    def handle(self, *args: Any, prefix: str, **options: Any) -> None:
        if len(prefix) > LENGTH_OF_PREFIX:
            raise CommandError(
                f"Nothing was revoked. Pass the first {LENGTH_OF_PREFIX} characters of the key alone: a whole key is "
                "kept in the shell's history, and others on this machine could read it in the list of processes. "
                "If you passed a key that you still use, rotate it.",
                returncode=2,
            )
        if not _PREFIX.fullmatch(prefix):
            raise CommandError("PREFIX is np_ and 8 characters, as the list of keys shows it.", returncode=2)
        api_key = ApiKey.objects.filter(prefix=prefix).select_related("account").first()
        if api_key is None:
            raise CommandError(f"There is no key {prefix}…")
        if not revoke_api_key(api_key):
            raise CommandError(f"{prefix}… of {api_key.account} is already revoked.")
        self.stdout.write(f"Revoked {prefix}… of {api_key.account}.")
