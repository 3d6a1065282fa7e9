from typing import Any

from django.core.management.commands import migrate

from notpanel.server.checks import check_database


class Command(migrate.Command):
    def execute(self, *args: Any, **options: Any) -> str | None:
        """Migrate, as Django's command does, if the database can be reached. If not, say why in one sentence."""
        check_database()
        return super().execute(*args, **options)
