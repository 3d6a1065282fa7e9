from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from refills.audit import NAMES, audit


class Command(BaseCommand):
    help = (
        "Looks for rows that break what must hold of refills, their history, dispatches and deliveries, in one "
        "snapshot and without locks: run it while the site serves. Exit status: 1 if it finds any, 2 wrong usage."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--skip",
            action="append",
            choices=NAMES,
            default=[],
            help="an invariant to skip, such as cap after it was lowered; may be repeated",
        )

    def handle(self, *args: Any, skip: list[str], **options: Any) -> None:
        found = audit(frozenset(skip))
        for finding in found:
            more = f" and {finding.count - len(finding.first)} more" if finding.count > len(finding.first) else ""
            self.stdout.write(f"{finding.invariant.name}: {finding.invariant.holds}")
            self.stdout.write(f"    broken by {', '.join(finding.first)}{more}")
        if found:
            raise CommandError(f"{len(found)} of {len(NAMES) - len(set(skip))} invariants are broken.")
        self.stdout.write(f"{len(NAMES) - len(set(skip))} invariants hold.")
