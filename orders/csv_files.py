"""Read CSV files with a header: convert and check their cells, and collect the errors by line."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from itertools import chain
from typing import Any, BinaryIO

from orders.refusals import BadFile

SHOWN_ERRORS = 50


@dataclass
class FileErrors:
    """Collect the errors in a file: the first ones, and how many there are."""

    first: list[tuple[int, str]] = field(default_factory=list)
    count: int = 0

    def add(self, line: int, text: str) -> None:
        self.count += 1
        if len(self.first) < SHOWN_ERRORS:
            self.first.append((line, text))

    def refuse_if_any(self) -> None:
        """Raise BadFile if there are errors."""
        if self.count:
            raise BadFile(self.first, self.count)


# A converter returns the value of a cell, or raises ValueError with a text that says what is wrong.
Converter = Callable[[str], Any]


def integer(lowest: int, highest: int) -> Converter:
    def convert(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 20 and lowest <= int(text) <= highest):
            raise ValueError(f"“{text}” is not a whole number from {lowest} to {highest}")
        return int(text)

    return convert


def amount(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    # The range of numeric(14, 5). An amount with more decimals is refused, not rounded.
    if not (value.is_finite() and 0 <= value < 10**9 and value == value.quantize(Decimal("0.00001"))):
        raise ValueError(f"“{text}” is not an amount from 0 to 999999999.99999 with at most five decimals")
    return value


def text_up_to(longest: int) -> Converter:
    def convert(text: str) -> str:
        if not text or len(text) > longest or "\x00" in text:
            raise ValueError(f"must be text of 1 to {longest} characters")
        return text

    return convert


def one_of(values: Sequence[str]) -> Converter:
    def convert(text: str) -> str:
        if text not in values:
            raise ValueError(f"“{text}” is not one of {', '.join(values)}")
        return text

    return convert


def time(text: str) -> datetime:
    """Read an ISO 8601 time, in UTC if it names no offset."""
    try:
        value = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"“{text}” is not a time such as 2026-05-31T12:00:00Z") from error
    if not 1970 < value.year < 9999:
        raise ValueError(f"{value.year} is not a year from 1971 to 9998")
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def flag(text: str) -> bool:
    if text.lower() in ("true", "1", "yes"):
        return True
    if text.lower() in ("false", "0", "no"):
        return False
    raise ValueError(f"“{text}” is neither true nor false")


def currency(text: str) -> str:
    if not (len(text) == 3 and text.isascii() and text.isalpha() and text.isupper()):
        raise ValueError(f"“{text}” is not a currency code such as USD")
    return text


@dataclass(frozen=True)
class Column:
    name: str
    convert: Converter
    optional: bool = False  # the column may be missing, and its cells may be empty
    default: Any = None  # None: an empty cell is a value, such as "no end"; else an empty cell says nothing


Row = dict[str, Any]  # the values of a row, by the names of the columns


def read(
    file: BinaryIO, columns: Sequence[Column], errors: FileErrors, *, only_given: bool = False
) -> Iterator[tuple[int, Row]]:
    """Yield each good row of a file with the number of its first line, and add the errors of the others to ``errors``.

    What the file does not say has the column's default in the row, or, with ``only_given``, is not in the row. A file
    with a wrong header yields no row. Cells are separated by commas, or by semicolons, as spreadsheets write them where
    the comma is the decimal sign.
    """
    lines = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    line = 1
    try:
        first = lines.readline()
        separator = ";" if ";" in first and "," not in first else ","
        reader = csv.reader(chain([first], lines), strict=True, delimiter=separator)
        header = [name.strip() for name in next(reader, [])]
        if error := _header_error(header, columns):
            errors.add(1, error)
            return
        by_name = {column.name: column for column in columns}
        in_order = [by_name[name] for name in header]
        defaults = {} if only_given else defaults_of(columns)
        line = reader.line_num + 1
        for cells in reader:
            if cells and (row := _row(cells, in_order, defaults, line, errors)):  # a blank line has no cells
                yield line, row
            line = reader.line_num + 1
    except (csv.Error, UnicodeDecodeError) as error:
        errors.add(line, f"this is not CSV in UTF-8: {error}")


def defaults_of(columns: Sequence[Column]) -> Row:
    """Return the values that the columns have in a new row if its file does not say them."""
    return {column.name: column.default for column in columns}


def _header_error(header: list[str], columns: Sequence[Column]) -> str:
    """Return what is wrong with the names of a file's columns, "" if nothing is."""
    names = [column.name for column in columns]
    problems = [f"{column.name} is missing" for column in columns if column.name not in header and not column.optional]
    problems += [f"“{name}” is unknown" for name in header if name not in names]
    if len(set(header)) < len(header):
        problems.append("a column is named twice")
    return "; ".join([f"the columns must be {', '.join(names)}", *problems]) if problems else ""


def _row(cells: list[str], in_order: list[Column], defaults: Row, line: int, errors: FileErrors) -> Row | None:
    """Return the values of ``cells``, whose columns are ``in_order``; None if there are errors, which are added."""
    if len(cells) != len(in_order):
        errors.add(line, f"{len(cells)} cells, where the header has {len(in_order)}")
        return None
    row, good = dict(defaults), True
    for column, cell in zip(in_order, cells, strict=True):
        cell = cell.strip()
        if not cell and column.optional:
            if column.default is None:
                row[column.name] = None
            continue
        try:
            row[column.name] = column.convert(cell)
        except ValueError as error:
            good = False
            errors.add(line, f"{column.name}: {error}")
    return row if good else None
