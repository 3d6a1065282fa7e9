from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from notpanel.kit import metrics
from notpanel.server import checks
from notpanel.server.gunicorn import Application, has_sockets_of_systemd
from notpanel.server.worker import WorkerBeside


class Command(BaseCommand):
    help = (
        "Serves the site and the API with gunicorn, in production too, until Ctrl-C or SIGTERM. "
        "HOST, PORT, WEB_CONCURRENCY, WEB_THREADS and WORKER are settings: see .env.example. "
        "Exit status: 1 if something is missing, which it names; 2 wrong usage."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--port", type=_port, default=settings.PORT, help="the port to listen on; default: %(default)s"
        )
        parser.add_argument("--probe", action="store_true", help="only say whether the port is free")

    def handle(self, *args: Any, port: int, probe: bool, **options: Any) -> None:
        if not has_sockets_of_systemd():
            checks.check_port(settings.HOST, port)
        if probe:
            return
        checks.check_counters()
        checks.check_settings()
        if settings.WORKER:
            checks.check_worker()
        checks.check_static_files()
        checks.check_migrations()
        checks.close_connections()
        Application(
            f"{settings.HOST}:{port}",
            settings.WEB_CONCURRENCY,
            settings.WEB_THREADS,
            WorkerBeside() if settings.WORKER else None,
            metrics.share() if settings.METRICS_TOKEN else None,
        ).run()


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise ArgumentTypeError(f"“{text}” must be a whole number from 1 to 65535")
    return int(text)
