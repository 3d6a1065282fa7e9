from notpanel.kit.import_command import ImportCommand
from orders.imports import ORDER_COLUMNS, import_orders


class Command(ImportCommand):
    help = "Creates orders from a file, or changes those whose number is known."
    columns = ORDER_COLUMNS
    importer = staticmethod(import_orders)
    may_skip = True
    notes = """\
account is a username and service an id. Both must exist, and neither may change for a known order. status is pending,
processing, in_progress, completed, partial, cancelled or refunded, in any case, with blanks or underscores. created
and completed are ISO 8601 times, or Unix seconds. A time without an offset is in --time-zone. completed is required
for completed and partial orders, empty for orders still under way, and never in the future. Remains below zero are 0.
The file may be of any size.
A known order keeps what the file has no column for. An empty cell clears start_count, remains and completed; an
empty currency leaves it as it is, and is USD in a new order. NULL, - and the like are empty cells.
"""
