"""Inflict every fault on an installation under load: nothing may be lost, doubled or unexplained.

``python -m tests.faults`` starts a PostgreSQL, a Redis, a server of two processes, a worker and a supplier of its own,
lets eight customers' programs request refills and an agent settle them, and inflicts one fault after another. It takes
about five minutes, and ends with status 1 if an answer is not the contract's, if the answers are not back within five
seconds after a fault is lifted, or if the books disagree with what a client was told. ``--quick`` has a few of the
faults; ``--only`` those whose names match.

``python -m tests.faults soak MINUTES`` measures how much this machine can take, then gives it 70 % of that, and looks
for leaks of memory, connections and files.
"""

import argparse
import os
import random
import re
import signal
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "notpanel.settings")

from tests.faults import judging
from tests.faults.clients import Client, Visitor
from tests.faults.faults import FAULTS
from tests.faults.installation import running, say
from tests.faults.run import KINDS, Run
from tests.faults.soak import soak

CAP = 3
ORDERS = 200  # of each customer, for each fault


def inflict_all(arguments: argparse.Namespace, directory: Path) -> int:
    chosen = [
        fault for fault in FAULTS if re.search(arguments.only, fault.name) and (fault.is_quick or not arguments.quick)
    ]
    began = time.monotonic()
    orders = ORDERS * (1 + len(chosen))
    with running(directory, orders, own_disk=not arguments.quick, cap=CAP) as (site, customers, webhooks):
        clients = [Client(site.port, each, CAP, lambda: random.uniform(0, 0.12)) for each in customers]
        run = Run(site, clients, Visitor(site.port))
        for each in (*clients, run.visitor):
            each.start()
        time.sleep(2)
        say(f"{'':32} {'  '.join(f'{kind:>5}' for kind in KINDS)}   longest     back")
        for fault in chosen:
            run.inflict(fault, arguments.within)
        run.end(webhooks)
        made = sum(len(client.told.refills) for client in clients)
        figures = f"{len(run.answers()):,} answers, {made:,} refills, {len(webhooks.got):,} webhooks"
        say(f"{figures}, {time.monotonic() - began:.0f} s")
        for line, count in sorted(judging.tracebacks(site).items()):
            say(f"  in the log {count:4} times: {line}")
    say("".join(f"{problem}\n" for problem in run.wrong[:50]) + f"problems: {len(run.wrong) or 'none'}")
    return 1 if run.wrong else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--quick", action="store_true", help="a few of the faults, in half a minute")
    parser.add_argument("--only", default="", help="a regular expression: the names of the faults that are inflicted")
    parser.add_argument("--within", type=float, default=5.0, help="seconds until the answers must be back; %(default)s")
    parser.add_argument("--keep", type=Path, help="an empty directory for the logs, which stay there")
    parser.add_argument("what", nargs="?", choices=["soak"], help="looks for leaks instead")
    parser.add_argument("minutes", nargs="?", type=float, default=15.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        directory = arguments.keep or Path(made)
        directory.mkdir(exist_ok=True)
        directory.chmod(0o711)  # root's PostgreSQL runs as another user
        if arguments.what:
            return soak(arguments.minutes, directory)
        return inflict_all(arguments, directory)


if __name__ == "__main__":
    # Everything that was started is ended then.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    sys.exit(main())
