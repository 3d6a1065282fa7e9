from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from apikeys.idempotency import KEPT_FOR, forget_answers


class Command(BaseCommand):
    help = (
        f"Deletes the answers to requests with a request_id that are older than {KEPT_FOR.days * 24} hours. The worker "
        "does it every hour."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(f"Deleted {forget_answers(timezone.now())} answers.")
