from argparse import ArgumentParser, RawDescriptionHelpFormatter
from datetime import date
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from apikeys.keys import create_api_key, end_of
from apikeys.models import Account
from notpanel.kit.addresses import parse_network


class Command(BaseCommand):
    help = "Creates an API key of an account and prints it: alone on standard output, and never again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.epilog = (
            "The account must exist, and may have ten active keys at most.\n\n"
            "Exit status: 0 created; 1 not created; 2 wrong usage."
        )
        parser.add_argument("username", metavar="USERNAME")
        parser.add_argument("--name", default="", help="what the key is for, as the account's owner will see it")
        parser.add_argument(
            "--allow",
            action="append",
            default=[],
            metavar="NETWORK",
            help="an address or a network (203.0.113.0/24) that may use it; may be repeated; default: all",
        )
        parser.add_argument(
            "--last-day", type=date.fromisoformat, metavar="YYYY-MM-DD", help="it works to the end of this day (UTC)"
        )
        parser.add_argument("--limit", type=int, metavar="N", help="requests per minute; default: the setting's")

    def handle(
        self,
        *args: Any,
        username: str,
        name: str,
        allow: list[str],
        last_day: date | None,
        limit: int | None,
        **options: Any,
    ) -> None:
        networks = [parse_network(text) for text in allow]
        if None in networks:
            raise CommandError("--allow: must be an address or a network.", returncode=2)
        if last_day is not None and last_day < timezone.now().date():
            raise CommandError("--last-day: this day is over.", returncode=2)
        if limit is not None and not 1 <= limit <= 2**31 - 1:
            raise CommandError("--limit: must be a whole number from 1.", returncode=2)
        if len(name) > 100:
            raise CommandError("--name: must be 100 characters at most.", returncode=2)
        try:
            account = Account.objects.get(username=username)
            api_key, raw_key = create_api_key(
                account,
                name,
                limit,
                allowed_networks=[str(network) for network in networks],
                expires_at=None if last_day is None else end_of(last_day),
            )
        except Account.DoesNotExist as error:
            raise CommandError(f"There is no account “{username}”.") from error
        except ValidationError as error:
            raise CommandError(error.message) from error
        self.stderr.write(f"Created {api_key.prefix}… for {username}. This is the only time that the key is shown:")
        self.stdout.write(raw_key)
