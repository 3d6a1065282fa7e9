from typing import Any

from django.core.management.base import BaseCommand

from refills.listing import mend


class Command(BaseCommand):
    help = (
        "Lists refills as changed now, in the action refill_list, if their last change carries a transaction of "
        "another database server. Run it after restoring a dump into another server."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(f"Moved {mend()} refills to the end of the list.")
