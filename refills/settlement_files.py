"""Settle refills from a CSV file, as staff do in the admin."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, NamedTuple

from django.db import transaction

from apikeys.models import Account
from notpanel.kit.cells import Converter, integer, text_up_to
from notpanel.kit.public_id import LARGEST_NUMBER, parse
from notpanel.kit.refusals import Refusal
from notpanel.kit.row_files import Column, FileErrors, Readable, read
from refills.models import LONGEST_NOTE, LONGEST_REASON, Refill, RejectionReason, Transition
from refills.refusals import NoSuchRefill
from refills.settlement import ALLOWED_FROM, StatusChange, change_status
from refills.statuses import IN_FLIGHT, RefillStatus

CHUNK = 500  # rows whose refills are looked up, and settled in as few transactions as their changes allow
SETTLED_AT = "settled (UTC)"  # the export's column


def _reference(text: str) -> str | int:
    reference = parse("ref", text)
    if reference is None:
        raise ValueError(f"“{text}” is neither the id nor the number of a refill")
    return reference


def _status(text: str) -> RefillStatus:
    if text not in RefillStatus.values:
        raise ValueError(f"“{text}” must be one of {', '.join(ALLOWED_FROM)}")
    return RefillStatus(text)


# What the desk's export puts before a cell, or before what follows a separator in it, so that no spreadsheet takes it
# for a formula (``notpanel.kit.csv_answers``).
_QUOTE = re.compile(r"(^|[;|\t\r\n])'(?=[\s\u200b-\u200f\u2060\ufeff]*[=+\-@＝＋－＠])|^'(?=[\t\r\n\xa0])")


def unquoted(text: str) -> str:
    """Return the text of a cell as it was before the export."""
    return _QUOTE.sub(r"\1", text)


def _text(longest: int) -> Converter:
    convert = text_up_to(longest)
    return lambda text: convert(unquoted(text))


COLUMNS = (
    Column("refill", _reference),
    Column("status", _status),
    Column("reason", _text(LONGEST_REASON), optional=True, default="", verbatim=True),
    Column("delivered", integer(0, LARGEST_NUMBER), optional=True),
    Column("note", _text(LONGEST_NOTE), optional=True, default="", verbatim=True),
    Column(SETTLED_AT, str, optional=True, default=""),
    # The other columns of the export say what a refill is; they are not read.
    *(
        Column(name, str, optional=True)
        for name in (
            "number",
            "order",
            "order_number",
            "link",
            "service",
            "service_name",
            "account",
            "requested (UTC)",
            "settled_by",
        )
    ),
)


class Row(NamedTuple):
    line: int
    refill: str | int  # its id or its number
    change: StatusChange


@dataclass
class Rows:
    """The rows of a file that ask for a change, and how many ask for none."""

    changes: list[Row] = field(default_factory=list)
    unchanged: int = 0


@dataclass
class Result:
    settled: int = 0
    approved: int = 0
    refused: list[tuple[int, str]] = field(default_factory=list)  # the line, and a text with the refill and the cause


def read_rows(file: Readable) -> Rows:
    """Return the rows of a file, which may be the desk's export. Raises BadFile with all errors in it."""
    errors, rows = FileErrors(), Rows()
    reasons = {reason.text: reason for reason in RejectionReason.objects.all()}
    for chunk in _chunks(read(file, COLUMNS, errors)):
        present: dict[str | int, Refill] = {}
        for refill in Refill.objects.named(cells["refill"] for _, cells in chunk):
            present[refill.pk] = present[refill.number] = refill
        for line, cells in chunk:
            reason = reasons.get(cells["reason"])
            words = "" if reason else cells["reason"]
            change = StatusChange(cells["status"], cells["note"], reason, cells["delivered"], words)
            refill_now = present.get(cells["refill"])
            if refill_now and _is_unchanged(refill_now, change, was_settled=bool(cells[SETTLED_AT])):
                rows.unchanged += 1
                continue
            try:
                if refill_now:  # a refill that does not exist is reported like one that cannot be settled
                    change.check()
            except Refusal as refusal:
                errors.add(line, refusal.text)
            rows.changes.append(Row(line, cells["refill"], change))
    errors.refuse_if_any()
    return rows


def _chunks(rows: Iterable[tuple[int, dict[str, Any]]]) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    """Yield the rows by CHUNK."""
    rows = iter(rows)
    while chunk := list(islice(rows, CHUNK)):
        yield chunk


def _is_unchanged(refill: Refill, change: StatusChange, *, was_settled: bool) -> bool:
    """Return whether a row asks for no change of the refill; ``was_settled``: it was settled when it was exported."""
    if change.to == RefillStatus.PENDING:
        return True  # not a status that can be asked for: the cell is as it was exported
    if was_settled and refill.status in IN_FLIGHT:
        return True  # it was reopened since
    return (
        refill.status == change.to
        and change.delivered in (None, refill.delivered)
        and _is_same(change.reason_text, refill.reason_text)
        and _is_same(change.note, refill.note)
    )


def _is_same(cell: str, text: str) -> bool:
    """Return whether a cell has the text, or none. Programs write the ends of lines as they like."""
    return not cell or unquoted(text).split() == cell.split()


def settle_rows(
    rows: list[Row],
    by: Account,
    *,
    confirm_delivered: bool = False,
    dry_run: bool = False,
    progress: Callable[[int], object] = lambda rows: None,
) -> Result:
    """Settle or approve the refills of ``rows`` in their order. A refused refill does not affect the others.

    ``confirm_delivered`` takes delivered units that are more than the order's quantity. A dry run does the same in one
    transaction and rolls it back. ``progress`` is called with the number of rows done.
    """
    result = Result()
    if confirm_delivered:
        rows = [row._replace(change=replace(row.change, delivered_confirmed=True)) for row in rows]
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
        if change.to == RefillStatus.APPROVED:
            result.approved += len(outcome.done)
        else:
            result.settled += len(outcome.done)
        result.refused += [
            (group[refill_id].line, f"{group[refill_id].refill}: {refusal.text}")
            for refill_id, refusal in outcome.refused.items()
        ]
