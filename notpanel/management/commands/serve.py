from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from notpanel.server.gunicorn import Application


class Command(BaseCommand):
    help = (
        "Serves the site and the API with gunicorn, in production too, until Ctrl-C or SIGTERM. "
        "HOST, PORT, WEB_CONCURRENCY and WEB_THREADS are settings: see .env.example."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=settings.PORT, help="the port to listen at; %(default)s")

    def handle(self, *args: Any, port: int, **options: Any) -> None:
        if settings.WEB_CONCURRENCY > 1 and not settings.REDIS_URL:
            raise CommandError(
                f"WEB_CONCURRENCY is {settings.WEB_CONCURRENCY}, but REDIS_URL is not set: each would count "
                "the rate limits by itself. Set REDIS_URL, or WEB_CONCURRENCY to 1."
            )
        Application(f"{settings.HOST}:{port}", settings.WEB_CONCURRENCY, settings.WEB_THREADS).run()
