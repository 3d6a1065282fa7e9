from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, connection
from tqdm import tqdm

from orders.csv_files import Column
from orders.imports import Imported
from orders.refusals import BadFile


class ImportCommand(BaseCommand):
    """Share what importservices and importorders have in common: the arguments, the progress bar, the report."""

    columns: tuple[Column, ...]
    importer: Callable[..., Imported]
    notes: str

    def add_arguments(self, parser: ArgumentParser) -> None:
        required = ", ".join(column.name for column in self.columns if not column.optional)
        optional = ", ".join(column.name for column in self.columns if column.optional)
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.epilog = (
            f"The file is CSV in UTF-8 with a header.\n"
            f"Columns: {required}\nOptional columns: {optional}\n\n{self.notes}\n"
            "Every row is checked first. If one is wrong, the errors are listed with their line numbers, and nothing\n"
            "is changed.\n\n"
            "Exit status: 0 imported (or could be, with --dry-run); 1 not imported; 2 wrong usage."
        )
        parser.add_argument("file", type=Path, metavar="FILE.csv")
        parser.add_argument("--dry-run", action="store_true", help="check the file and say what would change")

    def handle(self, *args: Any, file: Path, dry_run: bool, **options: Any) -> None:
        try:
            with (
                file.open("rb", buffering=0) as opened,  # a buffer would read past the bar
                # There is no bar if standard error is not a terminal.
                tqdm.wrapattr(opened, "read", total=file.stat().st_size, desc=file.name, disable=None) as stream,
            ):
                imported = self.importer(stream, dry_run=dry_run)
        except OSError as error:
            raise CommandError(f"{file}: {error.strerror}.") from error
        except BadFile as refusal:
            raise CommandError(f"{file}:\n{refusal.text}") from refusal
        except OperationalError as error:
            if connection.connection is None:  # there is none: manage.py says why
                raise
            raise CommandError(f"The database refused the file: {error}Nothing was changed.") from error
        self.stdout.write(
            f"{'Would be imported' if dry_run else 'Imported'}: {imported.created:,} created, "
            f"{imported.changed:,} changed, {imported.unchanged:,} unchanged."
        )
