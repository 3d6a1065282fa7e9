import csv
import os
import tempfile
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, connection
from tqdm import tqdm

from notpanel.kit.cells import time_zone
from notpanel.kit.refusals import BadFile
from notpanel.kit.row_files import Column, Imported


class ImportCommand(BaseCommand):
    """What the commands that import files have in common: the arguments, the progress bar, the report."""

    columns: tuple[Column, ...]
    importer: Callable[..., Imported]
    notes: str
    may_skip = False  # whether it has --skip-wrong

    def add_arguments(self, parser: ArgumentParser) -> None:
        required = ", ".join(column.name for column in self.columns if not column.optional)
        optional = ", ".join(column.name for column in self.columns if column.optional)
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.epilog = (
            "The file has a header with the names of its columns, in any order and case, and is CSV (commas,\n"
            "semicolons or tabs) in UTF-8 or UTF-16; or it has one JSON object on each line.\n"
            f"Columns: {required}\nOptional columns: {optional}\n\n{self.notes}\n"
            "Every row is checked first. If one is wrong, the errors are listed with their line numbers, and nothing\n"
            "is changed.\n\n"
            "Exit status: 0 imported (or could be, with --dry-run); 1 not imported; 2 wrong usage."
        )
        parser.add_argument("file", type=Path, metavar="FILE.csv")
        parser.add_argument("--dry-run", action="store_true", help="check the file and say what would change")
        if any(column.zoned for column in self.columns):
            parser.add_argument(
                "--time-zone",
                dest="zone",
                type=_time_zone,
                default=UTC,
                metavar="ZONE",
                help="of times without an offset, such as Europe/Berlin; default: UTC",
            )
        if self.may_skip:
            parser.add_argument("--skip-wrong", action="store_true", help="import the other rows if some are wrong")
            parser.add_argument(
                "--report",
                type=Path,
                metavar="REPORT.csv",
                help="where --skip-wrong writes the wrong rows and their errors; once corrected, it can be imported",
            )

    def handle(
        self,
        *args: Any,
        file: Path,
        dry_run: bool,
        skip_wrong: bool = False,
        report: Path | None = None,
        **options: Any,
    ) -> None:
        if skip_wrong != (report is not None):
            raise CommandError("Give --skip-wrong and --report together.", returncode=2)
        how = {name: options[name] for name in ("zone",) if name in options}
        try:
            if report is None:
                imported = self.read(file, dry_run=dry_run, **how)
            else:
                with _report_at(report.resolve()) as report_wrong:
                    imported = self.read(file, dry_run=dry_run, report_wrong=report_wrong, **how)
        except OSError as error:
            raise CommandError(f"{error.filename or file}: {error.strerror}.") from error
        except BadFile as refusal:
            raise CommandError(f"{file}:\n{refusal.text}") from refusal
        except OperationalError as error:
            if connection.connection is None:  # no connection: manage.py says why
                raise
            raise CommandError(f"The database refused the file: {error}Nothing was changed.") from error
        self.stdout.write(
            f"{'Would be imported' if dry_run else 'Imported'}: {imported.created:,} created, "
            f"{imported.changed:,} changed, {imported.unchanged:,} unchanged"
            + (f"; {imported.wrong:,} wrong, listed in {report}." if skip_wrong else ".")
        )
        if not dry_run:
            self.after(imported, **options)

    def after(self, imported: Any, **options: Any) -> None:
        """Do what follows an import."""

    def read(self, file: Path, **how: Any) -> Imported:
        with (
            file.open("rb", buffering=0) as opened,  # a buffer would read ahead of the bar
            # There is no bar if standard error is not a terminal.
            tqdm.wrapattr(opened, "read", total=file.stat().st_size, desc=file.name, disable=None) as stream,
        ):
            return self.importer(stream, **how)


def _time_zone(name: str) -> tzinfo:
    try:
        return time_zone(name)
    except ValueError as error:
        raise ArgumentTypeError(f"{error}.") from error


@contextmanager
def _report_at(path: Path) -> Iterator[Callable[[list[str], int, str, list[str]], None]]:
    """Write wrong rows to a CSV file, which appears once all have been written, and not if the import fails."""
    descriptor, name = tempfile.mkstemp(prefix=path.name, dir=path.parent)
    try:
        with open(descriptor, "w", encoding="utf-8-sig", newline="") as file:
            writer = csv.writer(file)
            is_empty = True

            def write(header: Sequence[str], line: int, error: str, cells: list[str]) -> None:
                nonlocal is_empty
                if is_empty:
                    writer.writerow([*header, "line", "error"])
                    is_empty = False
                cells = cells[: len(header)] + [""] * (len(header) - len(cells))
                writer.writerow([*cells, line, error])

            yield write
            if is_empty:
                writer.writerow(["line", "error"])
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
