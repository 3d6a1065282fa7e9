"""Answers that are CSV files: streamed, and harmless to the spreadsheet that opens them."""

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponseBase, StreamingHttpResponse


def csv_answer(found: QuerySet[Any], columns: Mapping[str, str], name: str) -> HttpResponseBase:
    """Stream the rows of ``found`` as CSV. The database keeps them until they are read.

    ``columns`` are the titles of the columns, each with the field that it shows; ``name`` is that of the file.
    """
    rows = found.values_list(*columns.values()).iterator(chunk_size=1000)
    first = list(islice(rows, 1))  # runs the query before the answer begins: if it fails, the reader is told so
    lines = chain([columns], (map(safe_cell, row) for row in chain(first, rows)))
    writer = csv.writer(_Echo())
    return StreamingHttpResponse(
        # Excel takes the file for UTF-8 only if it begins with a byte order mark.
        _File(chain(["\ufeff"], (writer.writerow(line) for line in lines)), rows.close),  # type: ignore[attr-defined]
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}.csv"'},
    )


@dataclass
class _File:
    """The lines of the file. Django closes it with the answer, even if the browser has gone, which ends the query."""

    lines: Iterator[str]
    close: Callable[[], None]

    def __iter__(self) -> Iterator[str]:
        return self.lines


class _Echo:
    """A file for csv.writer that returns each line instead of keeping it."""

    def write(self, line: str) -> str:
        return line


# Where a spreadsheet may see the beginning of a formula: at the beginning of a cell, and after what may end one where
# people write lists with semicolons, or where a quoted cell is not understood. Blanks before it do not count. Some
# programs take full-width signs for the plain ones.
_INVISIBLE = r"[\s\u200b-\u200f\u2060\ufeff]*"
_FORMULA = re.compile(rf"(^|[;|\t\r\n])({_INVISIBLE}[=+\-@＝＋－＠])")
_NOT_FIRST = ("\t", "\r", "\n", "\xa0")


def safe_cell(value: object) -> object:
    """Keep a spreadsheet from reading what a customer wrote as a formula, and let it read times as times."""
    if isinstance(value, str):
        value = _FORMULA.sub(r"\1'\2", value)
        return f"'{value}" if value.startswith(_NOT_FIRST) else value
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if isinstance(value, datetime) else value
