"""Read files of rows as people have them: CSV as any spreadsheet writes it, or JSON lines. Collect the errors by line.

Only what can be read in one way is read; anything else is refused with a sentence that says where it is and what to do.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from functools import partial
from itertools import chain
from typing import Any, NamedTuple, Protocol, cast

from notpanel.kit.cells import Converter
from notpanel.kit.refusals import BadFile

SHOWN_ERRORS = 50
EMPTY = {"null", "\\n", "none", "nil", "nan", "n/a", "-", "0000-00-00", "0000-00-00 00:00:00"}
DELIMITERS = ",;\t"


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


@dataclass(frozen=True)
class Column:
    name: str
    convert: Converter
    optional: bool = False  # the column may be missing, and its cells may be empty
    default: Any = None  # None: an empty cell is a value, such as "no end"; else an empty cell says nothing
    also: tuple[str, ...] = ()  # other names that programs give it
    verbatim: bool = False  # “NULL” in it is a text, not an empty cell
    zoned: bool = False  # its converter takes the time zone of times without one


Row = dict[str, Any]  # the values of a row, by the names of the columns


class Parsed(NamedTuple):
    """A row as it was read. ``row`` is whole only if there are no ``problems``."""

    line: int  # its first
    row: Row
    problems: list[str]
    cells: list[str]  # as they are written in the file; of JSON, the one line
    header: Sequence[str]  # their names, as they are written in the file


@dataclass(frozen=True)
class Imported:
    """How many rows of a file were new, changed, unchanged, and left out because they are wrong."""

    created: int
    changed: int
    unchanged: int
    wrong: int = 0


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def read(
    file: Readable, columns: Sequence[Column], errors: FileErrors, *, only_given: bool = False, zone: tzinfo = UTC
) -> Iterator[tuple[int, Row]]:
    """Yield each good row of a file with the number of its first line, and add the errors of the others to ``errors``.

    What the file does not say gets the column's default in the row or, with ``only_given``, is left out. A file with a
    wrong header yields no row. ``zone`` is that of times without an offset.
    """
    defaults = {} if only_given else defaults_of(columns)
    for line, row, problems, _, _ in parse(file, columns, errors, zone=zone):
        for problem in problems:
            errors.add(line, problem)
        if not problems:
            yield line, defaults | row


def defaults_of(columns: Sequence[Column]) -> Row:
    """Return the values that the columns have in a new row if its file does not say them."""
    return {column.name: column.default for column in columns}


def parse(
    file: Readable,
    columns: Sequence[Column],
    errors: FileErrors,
    *,
    zone: tzinfo = UTC,
    ignored: Iterable[str] = (),
) -> Iterator[Parsed]:
    """Yield every row of a file that is not empty, right or wrong, with only what it says.

    What is wrong with the file itself is added to ``errors``, and ends the reading. ``ignored`` are names of columns
    that are not read.
    """
    known = _Columns(columns, zone, ignored)
    line = 1
    try:
        lines = _lines(file)
        delimiter = None
        for line, text in lines:  # noqa: B007 (used below)
            if declared := _DECLARES_DELIMITER.fullmatch(text.strip()):
                delimiter = declared[1]
            elif text.strip(" \r\n" + DELIMITERS):
                break
        else:
            errors.add(line, "the file is empty")
            return
        rest = chain([text], (text for _, text in lines))
        beginning = text.lstrip()[:1]
        if beginning in _NO_ROWS:
            raise _Unreadable(_NO_ROWS[beginning])
        if beginning == "{":
            yield from _parse_json_lines(rest, known, line)
        else:
            for row in _parse_csv(rest, known, line, delimiter or _delimiter(text, known)):
                line = row.line
                yield row
    except _Unreadable as error:
        errors.add(error.line or line, str(error))


_DECLARES_DELIMITER = re.compile(r"sep=(.)", re.IGNORECASE)  # Excel's first line


class _Unreadable(Exception):
    """The rest of the file cannot be read. ``line`` is where it begins, if that is known better than by the rows."""

    def __init__(self, text: str, line: int = 0) -> None:
        self.line = line
        super().__init__(text)


# ---- From bytes to lines

_SPREADSHEET = "this is a spreadsheet, not CSV: save it as “CSV UTF-8” and import that"
_COMPRESSED = "this is compressed: unpack it and import what is in it"
_NOT_UTF8 = "a character is neither UTF-8 nor UTF-16: save the file as “CSV UTF-8” and import that"
_REFUSED = {
    b"PK\x03\x04": _SPREADSHEET,
    b"\xd0\xcf\x11\xe0": _SPREADSHEET,
    b"\x1f\x8b": _COMPRESSED,
    b"BZh": _COMPRESSED,
    b"\xfd7zXZ": _COMPRESSED,
    b"(\xb5/\xfd": _COMPRESSED,
    b"\xff\xfe\0\0": _NOT_UTF8,
    b"\0\0\xfe\xff": _NOT_UTF8,
}
_ONE_A_LINE = "write each object in JSON on a line of its own, without a list around them"
_NO_ROWS = {"<": "this is HTML or XML, not CSV", "[": _ONE_A_LINE}
_UNDECODED = re.compile("[\udc80-\udcff]")


class _Whole(io.RawIOBase):
    """A file from its beginning, after its ``head`` was read from it."""

    def __init__(self, head: bytes, file: Readable) -> None:
        self._head, self._file = head, file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._head or self._file.read(len(buffer))
        data, self._head = data[: len(buffer)], data[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)


def _lines(file: Readable) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file with their numbers. What is not UTF-8 becomes a surrogate, for the row to report."""
    head = b""
    while len(head) < 6 and (data := file.read(6 - len(head))):
        head += data
    for beginning, text in _REFUSED.items():
        if head.startswith(beginning):
            raise _Unreadable(text)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif head[1:4:2] == b"\0\0":  # without a byte order mark
        encoding = "utf-16-le"
    elif head[0:3:2] == b"\0\0":
        encoding = "utf-16-be"
    else:
        encoding = "utf-8-sig"
    whole = io.BufferedReader(cast(io.RawIOBase, _Whole(head, file)), 65_536)
    lines = io.TextIOWrapper(
        whole, encoding, errors="surrogateescape" if encoding == "utf-8-sig" else "strict", newline=""
    )
    number = 0
    try:
        for number, text in enumerate(lines, start=1):
            yield number, text
    except UnicodeDecodeError:
        raise _Unreadable(_NOT_UTF8, number + 1) from None


# ---- From lines to rows


class _Columns:
    """The columns of a file, by every name that they may have in it."""

    def __init__(self, columns: Sequence[Column], zone: tzinfo, ignored: Iterable[str]) -> None:
        self.all = columns
        self.zone = zone
        self.required = [column.name for column in columns if not column.optional]
        self._by_name = {_normal(name): column for column in columns for name in column.also}
        self._by_name |= {_normal(column.name): column for column in columns}
        self._ignored = {_normal(name) for name in ignored} - self._by_name.keys()
        self._converters = {
            column.name: partial(column.convert, zone=zone) if column.zoned else column.convert for column in columns
        }

    def named(self, name: str) -> Column | None:
        return self._by_name.get(_normal(name))

    def is_ignored(self, name: str) -> bool:
        return _normal(name) in self._ignored

    def put(self, row: Row, column: Column, cell: str, problems: list[str]) -> None:
        """Put the value of a cell into its row, or what is wrong with it into ``problems``."""
        cell = _stripped(cell)
        if column.optional and (not cell or (not column.verbatim and cell.lower() in EMPTY)):
            if column.default is None:
                row[column.name] = None
            return
        try:
            row[column.name] = self._converters[column.name](cell)
        except ValueError as error:
            problems.append(f"{column.name}: {error}")


_INVISIBLE = "\u200b\u200e\u200f\u2060\ufeff"
_FORMULA = re.compile(r'="(.*)"', re.DOTALL)  # how programs keep spreadsheets from rounding an id


def _stripped(text: str) -> str:
    text = text.strip()
    if not text.isascii():
        text = text.strip(_INVISIBLE).strip()
    return found[1] if text[:1] == "=" and (found := _FORMULA.fullmatch(text)) else text


def _normal(name: str) -> str:
    """Return what the ways to write a column's name have in common: start_count, Start Count, startCount."""
    return re.sub(r"[\s_.\-]+", "", _stripped(name).casefold())


def _delimiter(header: str, known: _Columns) -> str:
    """Return the delimiter with which the most names of a header are known."""

    def count(delimiter: str) -> int:
        [names] = list(csv.reader([header], delimiter=delimiter)) or [[]]
        return sum(known.named(name) is not None for name in names)

    return max(DELIMITERS, key=count)


def _parse_csv(lines: Iterable[str], known: _Columns, line: int, delimiter: str) -> Iterator[Parsed]:
    before = line - 1  # lines above the header
    reader = csv.reader(lines, strict=True, delimiter=delimiter, skipinitialspace=True)
    in_order: list[Column | None] = []
    header: list[str] = []
    kept: list[int] = []  # the cells that a report repeats
    try:
        for cells in reader:
            if not any(map(_stripped, cells)):
                pass
            elif not header:
                header = [_stripped(name) for name in cells]
                while not header[-1]:
                    header.pop()
                _check_encoding(header, [])
                _check_header(header, known)
                in_order = [known.named(name) for name in header]
                kept = [number for number, name in enumerate(header) if not known.is_ignored(name)]
                header_kept = [header[number] for number in kept]
            else:
                _check_encoding(cells, header)
                row, problems = _row_of(cells, header, in_order, known)
                if len(kept) < len(header):
                    cells = [cells[number] for number in kept if number < len(cells)]
                yield Parsed(line, row, problems, cells, header_kept)
            line = before + reader.line_num + 1
    except csv.Error as error:
        text = "a double quote is not closed, or stands within a cell, where it must be written twice"
        raise _Unreadable(f"this is not CSV: {text} ({error})", line) from None
    except _Unreadable as error:
        raise _Unreadable(str(error), error.line or line) from None


def _check_encoding(cells: list[str], header: list[str]) -> None:
    for number, cell in enumerate(cells):
        if not cell.isascii() and _UNDECODED.search(cell):
            raise _Unreadable(f"{header[number]}: {_NOT_UTF8}" if number < len(header) else _NOT_UTF8)


def _check_header(header: list[str], known: _Columns) -> None:
    columns = [known.named(name) for name in header]
    given = [column.name for column in columns if column]
    problems = [f"{name} is missing" for name in known.required if name not in given]
    problems += [
        f"“{name}” is unknown"
        for name, column in zip(header, columns, strict=True)
        if name and not column and not known.is_ignored(name)
    ]
    for column in dict.fromkeys(name for name in given if given.count(name) > 1):
        names = [f"“{name}”" for name, found in zip(header, columns, strict=True) if found and found.name == column]
        problems.append(f"{column} is named twice ({' and '.join(names)})")
    if problems:
        names_of_all = ", ".join(column.name for column in known.all)
        raise _Unreadable("; ".join([f"the columns must be {names_of_all}", *problems]))


def _row_of(
    cells: list[str], header: list[str], in_order: list[Column | None], known: _Columns
) -> tuple[Row, list[str]]:
    row: Row = {}
    problems: list[str] = []
    count = len(cells)
    while count > len(header) and not _stripped(cells[count - 1]):  # commas behind the last cell
        count -= 1
    if count != len(header):
        text = f"{count} cells, where the header has {len(header)}"
        if count > len(header):
            text += ": a cell with a separator in it must be in double quotes"
        return row, [text]
    for name, column, cell in zip(header, in_order, cells[:count], strict=True):
        if column:
            known.put(row, column, cell, problems)
        elif not name and _stripped(cell):
            problems.append(f"“{_stripped(cell)}” is in a column without a name")
    return row, problems


class _Members(tuple[tuple[str, Any], ...]):
    """The members of a JSON object in the order sent, also those whose names come twice."""


def _parse_json_lines(lines: Iterable[str], known: _Columns, first: int) -> Iterator[Parsed]:
    for line, text in enumerate(lines, start=first):
        if not text.strip():
            continue
        if not text.isascii() and _UNDECODED.search(text):
            raise _Unreadable(_NOT_UTF8, line)
        try:
            members = json.loads(text, object_pairs_hook=_Members, parse_int=str, parse_float=str, parse_constant=str)
        except (ValueError, RecursionError):
            if text.strip() == "{":  # an object on several lines
                raise _Unreadable(_ONE_A_LINE, line) from None
            members = None
        row: Row = {}
        problems: list[str] = []
        if isinstance(members, _Members):
            _read_members(members, row, problems, known)
        else:
            problems.append("this is not one object in JSON")
        yield Parsed(line, row, problems, [text.strip()], ["json"])


def _read_members(members: _Members, row: Row, problems: list[str], known: _Columns) -> None:
    given: list[str] = []
    for name, value in members:
        column = known.named(name)
        if column is None:
            if not known.is_ignored(name):
                problems.append(f"“{name}” is unknown")
            continue
        if column.name in given:
            problems.append(f"{column.name} is named twice")
        given.append(column.name)
        match value:
            case None:
                known.put(row, column, "", problems)
            case bool():
                known.put(row, column, str(value).lower(), problems)
            case str():
                known.put(row, column, value, problems)
            case _:
                problems.append(f"{column.name}: must be text, a number, true, false or null")
    problems += [f"{name} is missing" for name in known.required if name not in given]
