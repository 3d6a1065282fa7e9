from typing import Any

from django.apps import AppConfig
from django.db import connections
from django.db.models.signals import post_migrate, pre_migrate


class NotPanelConfig(AppConfig):
    name = "notpanel"

    def ready(self) -> None:
        pre_migrate.connect(lift_statement_timeout, sender=self)
        post_migrate.connect(restore_statement_timeout, sender=self)


def lift_statement_timeout(using: str, **kwargs: Any) -> None:
    """An index on a large table takes longer than a request may. The lock time limit stays."""
    with connections[using].cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")


def restore_statement_timeout(using: str, **kwargs: Any) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute("RESET statement_timeout")
