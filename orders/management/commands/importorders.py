from orders.imports import ORDER_COLUMNS, import_orders
from orders.management.import_command import ImportCommand


class Command(ImportCommand):
    help = "Creates orders from a CSV file, or changes those whose number is known."
    columns = ORDER_COLUMNS
    importer = staticmethod(import_orders)
    notes = """\
account is a username and service an id. Both must exist, and neither may change for a known order. status is pending,
processing, in_progress, completed, partial, cancelled or refunded. created and completed are ISO 8601 times, in UTC if
they name no offset. completed is required for completed and partial orders, and empty for orders still under way.
The file may be of any size.
What the file has no column for stays as it is in a known order. An empty cell empties start_count, remains and
completed; an empty currency stays as it is, and is USD in a new order.
"""
