from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from apikeys.models import Account
from notpanel.kit.refusals import BadFile
from refills.settlement_files import read_rows, settle_rows


class Command(BaseCommand):
    help = "Settles refills from a CSV file, as staff do in the admin."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.epilog = (
            "The file is CSV in UTF-8 with the columns refill (id or number), status (approved, completed or\n"
            "rejected), and if you like reason (the words for the customer, which a rejection must have),\n"
            "delivered (the units of a completion) and note (for staff). Cells are separated by commas or semicolons.\n"
            "The desk's export is such a file: export, edit the status, settle. Rows that ask for no change are left\n"
            "alone.\n\n"
            "Every row is checked first. If a row is wrong, the errors are listed and nothing is settled. A refill\n"
            "that cannot be settled (it is settled already, or a colleague has claimed it) is reported; the others\n"
            "are settled.\n\n"
            "Exit status: 0 all settled (or would be, with --dry-run); 1 some or all refused; 2 wrong usage."
        )
        parser.add_argument("file", type=Path, metavar="FILE.csv")
        parser.add_argument(
            "--by", required=True, metavar="USERNAME", help="the staff account in whose name the refills are settled"
        )
        parser.add_argument(
            "--confirm-delivered", action="store_true", help="accept delivered units above the quantity of the order"
        )
        parser.add_argument("--dry-run", action="store_true", help="say what would be settled and refused")

    def handle(self, *args: Any, file: Path, by: str, confirm_delivered: bool, dry_run: bool, **options: Any) -> None:
        staff = Account.objects.filter(username=by).first()
        if staff is None or not staff.has_perm("refills.settle_refill"):
            raise CommandError(f"“{by}” may not settle refills: name an active account with that permission.")
        try:
            with file.open("rb") as opened:
                rows = read_rows(opened)
        except OSError as error:
            raise CommandError(f"{file}: {error.strerror}.") from error
        except BadFile as error:
            raise CommandError(f"{file}:\n{error.text}") from error
        with tqdm(total=len(rows.changes), desc=file.name, unit=" rows", disable=None) as bar:
            result = settle_rows(
                rows.changes, staff, confirm_delivered=confirm_delivered, dry_run=dry_run, progress=bar.update
            )
        for line, text in sorted(result.refused):
            self.stderr.write(f"line {line}: {text}")
        settled, approved = ("Would be settled", "would be approved") if dry_run else ("Settled", "approved")
        self.stdout.write(
            f"{settled}: {result.settled:,}; {approved}: {result.approved:,}; "
            f"unchanged: {rows.unchanged:,}; refused: {len(result.refused):,}."
        )
        if result.refused:
            raise CommandError("Some were refused.")
