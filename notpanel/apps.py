from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.contrib.admin import apps as admin_apps
from django.core import checks
from django.db import connections
from django.db.backends.signals import connection_created
from django.db.models.signals import post_migrate, pre_migrate

from notpanel import retention
from notpanel.kit.metrics import readers
from notpanel.kit.request_facts import count_statements_of
from notpanel.kit.retention import register
from notpanel.server.checks import missing_time_limits


class NotPanelConfig(AppConfig):
    name = "notpanel"

    def ready(self) -> None:
        from notpanel.metrics import read_queue  # it needs the models

        readers["queue"] = read_queue
        register(*retention.ALL)
        checks.register(check_time_limits, checks.Tags.database)
        connection_created.connect(count_statements_of)
        if settings.SENTRY_DSN:
            from notpanel import error_reports  # loaded only if reports are sent

            error_reports.start(settings.SENTRY_DSN)
        if not settings.DATABASE_PGBOUNCER:  # its connections are shared: the next client would have no limit
            # No sender is named: Django sends these signals for apps with models, and this one has none.
            pre_migrate.connect(lift_statement_timeout)
            post_migrate.connect(restore_statement_timeout)


class DeskConfig(admin_apps.AdminConfig):
    default = False  # the default is that of django.contrib.admin
    default_site = "notpanel.desk_site.DeskSite"


def lift_statement_timeout(using: str, **kwargs: Any) -> None:
    """Lift the limit before a migration, because indexing a large table takes longer. The limit on locks stays."""
    with connections[using].cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")


def restore_statement_timeout(using: str, **kwargs: Any) -> None:
    """Set the limit again after a migration."""
    with connections[using].cursor() as cursor:
        cursor.execute("RESET statement_timeout")


def check_time_limits(databases: Sequence[str] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Warn of each database in which a statement could wait for ever.

    Behind PgBouncer, NotPanel cannot set the time limits of a connection: the database has to.
    """
    return [
        checks.Warning(
            f"The database “{alias}” has no {name}.",
            hint=f"ALTER ROLE … SET {name} = …: see docs/scaling.md, PgBouncer.",
            id="notpanel.W001",
        )
        for alias in databases or ()
        for name in missing_time_limits(connections[alias])
    ]
