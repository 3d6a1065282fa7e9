from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from notpanel.server.gunicorn import Server


class Command(BaseCommand):
    help = (
        "Serves the site and the API with gunicorn, in production too, until Ctrl-C or SIGTERM. "
        "HOST, PORT, WEB_CONCURRENCY and WEB_THREADS are read from the environment or .env."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=settings.PORT)

    def handle(self, *args: Any, port: int, **options: Any) -> None:
        if settings.WEB_CONCURRENCY > 1 and not settings.REDIS_URL:
            raise CommandError(
                f"WEB_CONCURRENCY is {settings.WEB_CONCURRENCY}, but processes that share no Redis (REDIS_URL) "
                "would each count their own rate limits."
            )
        Server(f"{settings.HOST}:{port}", settings.WEB_CONCURRENCY, settings.WEB_THREADS).run()
