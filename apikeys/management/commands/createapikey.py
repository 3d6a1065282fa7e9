from argparse import ArgumentParser, RawDescriptionHelpFormatter
from datetime import date
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from apikeys.keys import LARGEST_NUMBER_OF_KEYS, ApiKeyDetails, create_api_key, end_of
from apikeys.models import Account, ApiKey
from notpanel.kit.addresses import parse_network
from notpanel.kit.refusals import Refusal


class Command(BaseCommand):
    help = "Creates an API key for an account and prints it on standard output. It is not shown again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.epilog = (
            f"The account must exist, and may have {LARGEST_NUMBER_OF_KEYS} active keys at most.\n\n"
            "Exit status: 0 created; 1 not created; 2 wrong usage."
        )
        parser.add_argument("username", metavar="USERNAME")
        parser.add_argument("--name", default="", help="what the key is for; the customer sees it")
        parser.add_argument(
            "--allow",
            action="append",
            default=[],
            metavar="NETWORK",
            help="an address or network (203.0.113.0/24) from which the key may be used; may be repeated; default: all",
        )
        parser.add_argument(
            "--last-day",
            type=date.fromisoformat,
            metavar="YYYY-MM-DD",
            help="the key works until the end of this day (UTC)",
        )
        parser.add_argument(
            "--answers",
            choices=ApiKey.Answers.values,
            default=ApiKey.Answers.NOTPANEL,
            help="perfectpanel: answer as most panels do; default: notpanel",
        )
        parser.add_argument("--read-only", action="store_true", help="the key can read everything, but change nothing")
        parser.add_argument("--limit", type=int, metavar="N", help="requests per minute; default: that of the tier")

    def handle(
        self,
        *args: Any,
        username: str,
        name: str,
        allow: list[str],
        last_day: date | None,
        limit: int | None,
        answers: str,
        read_only: bool,
        **options: Any,
    ) -> None:
        networks = [parse_network(text) for text in allow]
        if None in networks:
            raise CommandError("--allow: give an address or a network.", returncode=2)
        if last_day is not None and last_day < timezone.now().date():
            raise CommandError("--last-day: choose today or a later day.", returncode=2)
        if limit is not None and not 1 <= limit <= 2**31 - 1:
            raise CommandError("--limit: give a whole number from 1 to 2147483647.", returncode=2)
        if len(name) > 100:
            raise CommandError("--name: give 100 characters at most.", returncode=2)
        try:
            account = Account.objects.get(username=username)
            details = ApiKeyDetails(
                name,
                allowed_networks=tuple(str(network) for network in networks),
                expires_at=None if last_day is None else end_of(last_day),
                answers=answers,
                read_only=read_only,
            )
            api_key, raw_key = create_api_key(account, details, limit_per_minute=limit)
        except Account.DoesNotExist as error:
            raise CommandError(f"There is no account “{username}”.") from error
        except Refusal as refusal:
            raise CommandError(refusal.text) from refusal
        self.stderr.write(f"Created {api_key.prefix}… for {username}. The key is shown this once:")
        self.stdout.write(raw_key)
