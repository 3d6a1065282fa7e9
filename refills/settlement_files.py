"""Settle refills from a CSV file, as staff do in the admin."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from django.db import transaction

from apikeys.models import Account
from notpanel.kit.public_id import LARGEST_NUMBER, parse
from notpanel.kit.refusals import Refusal
from orders.csv_files import Column, FileErrors, integer, read, text_up_to
from refills.models import LONGEST_NOTE, LONGEST_REASON, Refill, RejectionReason, Transition
from refills.refusals import NoSuchRefill
from refills.settlement import ALLOWED_FROM, StatusChange, change_status
from refills.statuses import RefillStatus

CHUNK = 500  # rows whose refills are looked up, and settled in as few transactions as their changes allow


def _reference(text: str) -> str | int:
    reference = parse("ref", text)
    if reference is None:
        raise ValueError(f"“{text}” is neither the id nor the number of a refill")
    return reference


def _status(text: str) -> RefillStatus:
    if text not in ALLOWED_FROM:
        raise ValueError(f"“{text}” must be one of {', '.join(ALLOWED_FROM)}")
    return RefillStatus(text)


COLUMNS = (
    Column("refill", _reference),
    Column("status", _status),
    Column("reason", text_up_to(LONGEST_REASON), optional=True, default=""),
    Column("delivered", integer(0, LARGEST_NUMBER), optional=True),
    Column("note", text_up_to(LONGEST_NOTE), optional=True, default=""),
)


class Row(NamedTuple):
    line: int
    refill: str | int  # its id or its number
    change: StatusChange


@dataclass
class Result:
    settled: int = 0
    refused: list[tuple[int, str]] = field(default_factory=list)  # the line, and a text with the refill and the cause


def read_rows(file: BinaryIO) -> list[Row]:
    """Return the rows of a file. Raises BadFile with all errors in it."""
    errors, rows = FileErrors(), []
    reasons = {reason.text: reason for reason in RejectionReason.objects.all()}
    for line, row in read(file, COLUMNS, errors):
        reason = reasons.get(row["reason"])
        words = "" if reason else row["reason"]
        change = StatusChange(row["status"], row["note"], reason, row["delivered"], words)
        try:
            change.check()
        except Refusal as refusal:
            errors.add(line, refusal.text)
        rows.append(Row(line, row["refill"], change))
    errors.refuse_if_any()
    return rows


def settle_rows(
    rows: list[Row], by: Account, *, dry_run: bool = False, progress: Callable[[int], object] = lambda rows: None
) -> Result:
    """Settle the refills of ``rows`` in their order. A refused refill does not affect the others.

    A dry run does the same in one transaction and rolls it back. ``progress`` is called with the number of rows done.
    """
    result = Result()
    with transaction.atomic() if dry_run else nullcontext():
        if dry_run:
            _lock(row.refill for row in rows)
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            _settle(chunk, by, result)
            progress(len(chunk))
        if dry_run:
            transaction.set_rollback(True)
    return result


def _lock(references: Iterable[str | int]) -> None:
    """Lock the refills in the order of their ids, since the groups of one transaction would lock them in another."""
    locked = Refill.objects.named(references).select_for_update().order_by("id").values_list("id")
    for _ in locked.iterator():
        pass


def _settle(rows: list[Row], by: Account, result: Result) -> None:
    ids: dict[str | int, str] = {}
    for pk, number in Refill.objects.named(row.refill for row in rows).values_list("id", "number"):
        ids[pk] = ids[number] = pk
    # Rows with the same change are settled together. If a refill comes again, its next row waits for the next pass, so
    # that the rows of one refill are done in the order of the file.
    passes: list[dict[StatusChange, dict[str, Row]]] = [defaultdict(dict)]
    seen: set[str] = set()
    for row in rows:
        refill_id = ids.get(row.refill)
        if refill_id is None:
            result.refused.append((row.line, f"{row.refill}: {NoSuchRefill.message}"))
            continue
        if refill_id in seen:
            passes.append(defaultdict(dict))
            seen.clear()
        seen.add(refill_id)
        passes[-1][row.change][refill_id] = row
    for change, group in (group for each in passes for group in each.items()):
        outcome = change_status(group, change, by, via=Transition.Via.COMMAND)
        result.settled += len(outcome.done)
        result.refused += [
            (group[refill_id].line, f"{group[refill_id].refill}: {refusal.text}")
            for refill_id, refusal in outcome.refused.items()
        ]
