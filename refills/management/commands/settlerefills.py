from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections import defaultdict
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from tqdm import tqdm

from apikeys.models import Account
from notpanel.kit.public_id import parse
from orders.csv_files import Column, FileErrors, read, text_up_to
from orders.refusals import BadFile
from refills.models import Refill, RefillStatus, Transition
from refills.settlement import TRANSITIONS, change_status

CHUNK = 500  # rows settled in one transaction


def _reference(text: str) -> str | int:
    reference = parse("ref", text)
    if reference is None:
        raise ValueError(f"“{text}” is neither the id nor the number of a refill")
    return reference


def _status(text: str) -> RefillStatus:
    if text not in TRANSITIONS:
        raise ValueError(f"“{text}” is none of {', '.join(TRANSITIONS)}")
    return RefillStatus(text)


COLUMNS = (
    Column("refill", _reference),
    Column("status", _status),
    Column("note", text_up_to(1000), optional=True, default=""),
)


class Command(BaseCommand):
    help = "Settles refills from a CSV file, as staff do in the admin."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.epilog = (
            "The file is CSV in UTF-8 with the columns refill (id or number), status (approved, completed or\n"
            "rejected) and note, which a rejection must have.\n\n"
            "Every row is checked first; if one is wrong, the errors are listed and nothing is settled. A refill that\n"
            "cannot be settled (it is settled already, or a colleague has taken it) is reported, and the others are "
            "settled.\n\n"
            "Exit status: 0 all settled (or would be, with --dry-run); 1 some or all refused; 2 wrong usage."
        )
        parser.add_argument("file", type=Path, metavar="FILE.csv")
        parser.add_argument(
            "--by", required=True, metavar="USERNAME", help="the member of staff in whose name it is done"
        )
        parser.add_argument("--dry-run", action="store_true", help="say what would be settled and refused")

    def handle(self, *args: Any, file: Path, by: str, dry_run: bool, **options: Any) -> None:
        staff = Account.objects.filter(username=by, is_active=True).first()
        if staff is None or not staff.has_perm("refills.settle_refill"):
            raise CommandError(f"“{by}” is nobody who may settle refills.")
        rows = _read(file)
        settled, refused = 0, []
        with transaction.atomic() if dry_run else nullcontext():
            for start in tqdm(range(0, len(rows), CHUNK), desc=file.name, unit_scale=CHUNK, unit=" rows", disable=None):
                done, problems = _settle(rows[start : start + CHUNK], staff)
                settled += done
                refused += problems
            if dry_run:
                transaction.set_rollback(True)
        for line, text in sorted(refused):
            self.stderr.write(f"line {line}: {text}")
        self.stdout.write(f"{'Would be settled' if dry_run else 'Settled'}: {settled:,}. Refused: {len(refused):,}.")
        if refused:
            raise CommandError("Some were refused.")


Row = tuple[int, str | int, RefillStatus, str]  # the line, the refill's id or number, the status, the note


def _read(file: Path) -> list[Row]:
    """Return the rows of the file. Raises CommandError with all that is wrong in it."""
    errors, rows = FileErrors(), []
    try:
        with file.open("rb") as opened:
            for line, row in read(opened, COLUMNS, errors):
                if row["status"] == RefillStatus.REJECTED and not row["note"]:
                    errors.add(line, "note: must be given, for the refill is rejected")
                rows.append((line, row["refill"], row["status"], row["note"]))
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}.") from error
    try:
        errors.refuse_if_any()
    except BadFile as refusal:
        raise CommandError(f"{file}:\n{refusal.text}") from refusal
    return rows


def _settle(rows: list[Row], staff: Account) -> tuple[int, list[tuple[int, str]]]:
    """Settle some rows. Returns how many were, and for each of the others its line and why not."""
    ids: dict[str | int, str] = {}
    for pk, number in Refill.objects.named(row[1] for row in rows).values_list("id", "number"):
        ids[pk] = ids[number] = pk
    # Rows of the same status and note are settled together. A refill that comes again waits for the next pass: what
    # the file says of it is done in the file's order.
    passes: list[dict[tuple[RefillStatus, str], dict[str, int]]] = [defaultdict(dict)]
    seen: set[str] = set()
    refused = []
    for line, reference, status, note in rows:
        refill_id = ids.get(reference)
        if refill_id is None:
            refused.append((line, f"{reference}: there is no such refill"))
            continue
        if refill_id in seen:
            passes.append(defaultdict(dict))
            seen.clear()
        seen.add(refill_id)
        passes[-1][status, note][refill_id] = line
    settled = 0
    for (status, note), lines in (group for each in passes for group in each.items()):
        outcome = change_status(lines, status, staff, note, via=Transition.Via.COMMAND)
        settled += len(outcome.done)
        refused += [(lines[refill_id], f"{refill_id}: {why}") for refill_id, why in outcome.refused.items()]
    return settled, refused
