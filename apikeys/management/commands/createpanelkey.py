from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apikeys.panel_keys import create_panel_key
from notpanel.kit.addresses import parse_network


class Command(BaseCommand):
    help = "Creates a key with which the panel sends files, and prints it on standard output. It is not shown again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.epilog = (
            "The key works for /api/panel/ only: it can create and change services, orders and accounts. It is not a\n"
            "customer's key. revokepanelkey revokes it.\n\n"
            "Exit status: 0 created; 2 wrong usage."
        )
        parser.add_argument("name", metavar="NAME", help="what the key is for; the audit log shows it")
        parser.add_argument(
            "--from",
            dest="networks",
            action="append",
            required=True,
            metavar="NETWORK",
            help="an address or network (203.0.113.0/24) from which the key may be used; may be repeated",
        )
        parser.add_argument("--limit", type=int, metavar="N", help="files per minute; default: PANEL_RATE_LIMIT")

    def handle(self, *args: Any, name: str, networks: list[str], limit: int | None, **options: Any) -> None:
        found = [network for text in networks if (network := parse_network(text))]
        if len(found) < len(networks):
            raise CommandError("--from: give an address or a network.", returncode=2)
        if limit is not None and not 1 <= limit <= 2**31 - 1:
            raise CommandError("--limit: give a whole number from 1 to 2147483647.", returncode=2)
        if not 1 <= len(name.strip()) <= 100:
            raise CommandError("NAME: give 1 to 100 characters.", returncode=2)
        panel_key, raw_key = create_panel_key(name.strip(), found, limit_per_minute=limit)
        self.stderr.write(f"Created {panel_key}. The key is shown this once:")
        self.stdout.write(raw_key)
