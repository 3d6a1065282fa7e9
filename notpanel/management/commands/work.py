from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from notpanel.server import checks, metrics_listener, vitals, worker


class Command(BaseCommand):
    help = (
        "Runs the jobs in the background until Ctrl-C or SIGTERM, then finishes those that it has begun. Any number of "
        "workers may run, on any machine. WORKER_CONCURRENCY and DATABASE_DIRECT_URL are settings: see .env.example. "
        "Exit status: 1 if something is missing or the database was lost: start it again; 2 wrong usage."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--with-parent", action="store_true", help="stop as soon as the process that started this one has ended"
        )

    def handle(self, *args: Any, with_parent: bool, **options: Any) -> None:
        listens = bool(settings.METRICS_TOKEN and settings.WORKER_METRICS_PORT and not with_parent)
        if with_parent:
            worker.end_with_parent()
        if listens:
            checks.check_port(settings.HOST, settings.WORKER_METRICS_PORT)
        checks.check_worker()
        worker.connect_directly()
        checks.check_migrations()
        checks.close_connections()
        if settings.METRICS_TOKEN:
            vitals.keep_publishing("worker")
        if listens:
            metrics_listener.start(settings.HOST, settings.WORKER_METRICS_PORT)
        try:
            worker.run()
        except worker.WorkerStopped as error:
            raise CommandError(str(error)) from error
