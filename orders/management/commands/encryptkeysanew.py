from typing import Any

from django.core.management.base import BaseCommand, CommandError

from orders.suppliers import encrypt_keys_anew


class Command(BaseCommand):
    help = (
        "Encrypts the keys of all suppliers by the first of ENCRYPTION_KEYS, after a new one was put first. Afterwards "
        "the older ones can be removed. Exit status: 1 if a key cannot be decrypted: enter that one again in the admin."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        count, lost = encrypt_keys_anew()
        self.stdout.write(f"Encrypted anew: {count}.")
        if lost:
            names = ", ".join(str(supplier) for supplier in lost)
            raise CommandError(f"The keys of these suppliers cannot be decrypted; enter them again: {names}.")
