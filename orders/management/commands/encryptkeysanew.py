from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apikeys.webhooks.endpoints import encrypt_secrets_anew
from orders.suppliers import encrypt_keys_anew


class Command(BaseCommand):
    help = (
        "Re-encrypts the keys of all suppliers and the secrets of all webhooks with the first of ENCRYPTION_KEYS, "
        "after a new one was put first. Afterwards the older ones can be removed. Exit status: 1 if something cannot "
        "be decrypted: enter that key again in the admin; the owner of the webhook must rotate its secret."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        keys, suppliers = encrypt_keys_anew()
        secrets, endpoints = encrypt_secrets_anew()
        self.stdout.write(f"Re-encrypted: {keys + secrets}.")
        problems = []
        if suppliers:
            names = ", ".join(str(supplier) for supplier in suppliers)
            problems.append(f"The keys of these suppliers cannot be decrypted; enter them again: {names}.")
        if endpoints:
            ids = ", ".join(endpoint.pk for endpoint in endpoints)
            problems.append(f"The secrets of these webhooks cannot be decrypted; their owners must rotate them: {ids}.")
        if problems:
            raise CommandError("\n".join(problems))
