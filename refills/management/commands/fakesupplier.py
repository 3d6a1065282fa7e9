from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from notpanel.server import checks
from notpanel.server.worker import end_with_parent
from refills.fake_supplier import Behaviour, FakeSupplier

LOG = settings.BASE_DIR / "var" / "fakesupplier.log"


class Command(BaseCommand):
    help = "Runs a supplier for the demonstration and for tests, which answers in every way that real suppliers have."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.epilog = (
            "It listens on 127.0.0.1 only, takes refills of any order, and writes each event into its log as a line\n"
            "of JSON. It needs no database.\n\n"
            "Exit status: 0 stopped; 1 the port is taken; 2 wrong usage."
        )
        parser.add_argument("--port", type=int, default=settings.PORT + 1, help="the port to listen on; %(default)s")
        parser.add_argument("--log", type=Path, default=LOG, help="its log, and its memory; %(default)s")
        parser.add_argument("--faults", type=_share, default=0.0, help="the share of refills with a fault, 0 to 1")
        parser.add_argument("--refusals", type=_share, default=0.0, help="the share that it refuses")
        parser.add_argument("--rejections", type=_share, default=0.0, help="the share of accepted ones that it rejects")
        parser.add_argument("--settles-after", type=float, default=20.0, help="seconds to settle one; %(default)s")
        parser.add_argument("--slow", type=float, default=2.0, help="seconds that a slow answer takes; %(default)s")
        parser.add_argument("--takes", type=float, default=0.0, help="seconds that every answer takes; %(default)s")
        parser.add_argument("--no-orders", action="store_true", help="it does not know refill_status by order")
        parser.add_argument("--key", default="", help="the only API key that it takes; any, if left out")
        parser.add_argument("--seed", default="1", help="another seed makes other orders fail; default: %(default)s")
        parser.add_argument(
            "--with-parent", action="store_true", help="stop as soon as the process that started this one has ended"
        )

    def handle(self, *args: Any, port: int, log: Path, with_parent: bool, **options: Any) -> None:
        checks.check_port("127.0.0.1", port)
        if with_parent:
            end_with_parent()
        behaviour = Behaviour(
            faults=options["faults"],
            refusals=options["refusals"],
            rejections=options["rejections"],
            settles_after=options["settles_after"],
            slow=options["slow"],
            takes=options["takes"],
            knows_orders=not options["no_orders"],
            key=options["key"],
            seed=options["seed"],
        )
        with FakeSupplier(port, log, behaviour) as supplier:
            supplier.serve_forever()


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ArgumentTypeError(f"“{text}” must be a number from 0 to 1")
    return share
