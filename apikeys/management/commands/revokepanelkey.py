from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apikeys.models import PanelKey
from apikeys.panel_keys import LENGTH_OF_PREFIX, PREFIX, revoke_panel_key


class Command(BaseCommand):
    help = "Revokes a panel key for good, from the next request on."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.epilog = (
            "Never pass a whole key: the shell's history and the list of processes would show it.\n\n"
            "Exit status: 0 revoked; 1 there is no such active key; 2 wrong usage."
        )
        parser.add_argument(
            "prefix", metavar="PREFIX", help=f"the visible beginning of the key: {PREFIX} and 8 characters"
        )

    def handle(self, *args: Any, prefix: str, **options: Any) -> None:
        if len(prefix) > LENGTH_OF_PREFIX:
            raise CommandError(
                f"Nothing was revoked. Pass the first {LENGTH_OF_PREFIX} characters of the key alone: a whole key is "
                "kept in the shell's history, and others on this machine could read it in the list of processes.",
                returncode=2,
            )
        panel_key = PanelKey.objects.filter(prefix=prefix).first()
        if panel_key is None:
            raise CommandError(f"There is no panel key {prefix}…")
        if not revoke_panel_key(panel_key):
            raise CommandError(f"{panel_key} is already revoked.")
        self.stdout.write(f"Revoked {panel_key}.")
