from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from notpanel.kit import retention


class Command(BaseCommand):
    help = (
        "Deletes what has been kept for long enough: ended sessions, webhook deliveries, dispatches, kept answers, "
        "jobs, and events of the audit log. The worker does this every day. It runs while the site serves, and may "
        "be stopped at any time. Exit status: 1 if something could not be deleted, 2 wrong usage."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="say what would be deleted")

    def handle(self, *args: Any, dry_run: bool, **options: Any) -> None:
        failed = 0
        for outcome in retention.forget(timezone.now(), dry_run=dry_run):
            failed += outcome.has_failed
            if outcome.is_forever:
                self.stdout.write(f"{outcome.kept.what}: kept for ever")
            else:
                self.stdout.write(
                    f"{outcome.kept.what}: {outcome.count:,} {'would be ' if dry_run else ''}deleted"
                    + (", then it failed" if outcome.has_failed else "")
                )
        if failed:
            raise CommandError("Not everything could be deleted: the log says why. Run it again.")
