"""Lose the database's machine again and again while customers' programs request refills.

``python -m tests.failover`` makes two PostgreSQL servers in a temporary directory, the second of which follows the
first, and a site that names both, with its worker. In each round the primary is lost in each way, with asynchronous and
with synchronous replication: it is killed, killed while the standby lags, frozen (SIGSTOP) and then killed, or its
network is cut (``--ways vanished``, as root only: each server then has a network of its own). After
``--noticed-after`` seconds the other one is promoted, and the old primary rejoins by pg_rewind. It prints a line each
time, and ends with status 1 if a refill was doubled, an answer broke the contract, the audit found something, or
synchronous replication lost a refill that a customer had been told about. With ``REDIS_URL`` two processes serve, else
one.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("DATABASE_URL", "postgresql://nobody@127.0.0.1/none")  # each program is given its own
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "notpanel.settings")

from tests import environment  # noqa: F401  # as for pytest: the .env of this machine changes nothing
from tests.failover.clusters import Machine, Namespace
from tests.failover.installation import WAYS, Installation

ORDERS = 1000  # of each round, at most


def main(arguments: argparse.Namespace, directory: Path) -> int:
    namespaces = [Namespace(number) for number in (1, 2)] if "vanished" in arguments.ways else []
    failovers = [(way, synchronous) for way in arguments.ways for synchronous in (False, True)] * arguments.rounds
    redis = os.environ["REDIS_URL_FOR_TESTS"]
    machines: list[Machine] = [*namespaces] or [Machine(), Machine()]
    installation = Installation(directory, machines, len(failovers) * ORDERS, arguments.programs, redis)
    is_wrong = False
    try:
        installation.start()
        for way, synchronous in failovers:
            found = installation.fail_over(way, ORDERS, synchronous=synchronous, noticed_after=arguments.noticed_after)
            sys.stdout.write(f"{found}, rejoined {installation.rejoin():.1f}\n")
            sys.stdout.flush()
            is_wrong |= bool(found.wrong or found.doubled or (found.lost and synchronous))
    finally:
        installation.stop()
        for namespace in namespaces:
            namespace.remove()
        if namespaces:
            Namespace.remove_bridge()
    return int(is_wrong)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.failover")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["killed", "lagging", "frozen"])
    parser.add_argument("--noticed-after", type=float, default=5.0, help="seconds from the failure to the promotion")
    parser.add_argument("--programs", type=Path, help="PostgreSQL's own; without it the embedded server's are used")
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o711)  # root's PostgreSQL runs as another user
        sys.exit(main(parsed, Path(made)))
