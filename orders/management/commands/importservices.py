from notpanel.kit.import_command import ImportCommand
from orders.imports import SERVICE_COLUMNS, import_services


class Command(ImportCommand):
    help = "Creates services from a file, or changes those whose id is known."
    columns = SERVICE_COLUMNS
    importer = staticmethod(import_services)
    notes = """\
The rate is the price of 1000 units. refill, cancel and active are true or false, yes or no, 1 or 0, on or off.
refill_days is the refill period in days (36500 at most; empty: no end), refill_limit the refills per order (empty: the
setting REFILL_LIMIT).
A known service keeps what the file has no column for. An empty type or active leaves it as it is; in a new service
it is Default or true.
"""
