"""A short form of ``make faults``: whatever is killed or locked, nothing is lost, doubled or unexplained."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.server import BASE_DIR

pytestmark = [
    pytest.mark.xdist_group("embedded"),  # it starts a PostgreSQL of its own
    pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not on the PATH"),
]
OF_ITS_OWN = ("DATABASE_URL", "DATABASE_REPLICA_URL", "DATABASE_DIRECT_URL", "REDIS_URL_FOR_TESTS")


def test_nothing_is_lost_doubled_or_unexplained_while_parts_are_killed_and_locked():
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", "--quick", "--within", "20"],  # a machine that tests may be slow
        cwd=BASE_DIR,
        env={name: value for name, value in os.environ.items() if name not in OF_ITS_OWN},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    for fault in ("PostgreSQL killed", "Redis killed", "a process of the server killed", "the worker killed"):
        assert f"\n{fault} " in done.stdout
    assert done.stdout.endswith("problems: none\n")
