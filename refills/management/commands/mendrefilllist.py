from typing import Any

from django.core.management.base import BaseCommand

from refills.listing import mend


class Command(BaseCommand):
    help = (
        "Run it after a dump was restored into another database server: refills whose last change carries a "
        "transaction of the old server are listed by the action refill_list as changed now."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(f"Moved {mend()} refills to the end of the list.")
