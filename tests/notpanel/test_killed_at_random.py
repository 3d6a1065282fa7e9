"""A short form of ``python -m tests.suppliers``: whatever is killed, no refill is sent twice, and none is lost."""

import os
import subprocess
import sys

import pytest

from tests.server import BASE_DIR

pytestmark = pytest.mark.xdist_group("embedded")  # it starts a PostgreSQL of its own
OF_ITS_OWN = ("DATABASE_URL", "DATABASE_REPLICA_URL", "DATABASE_DIRECT_URL", "REDIS_URL_FOR_TESTS")


def test_no_refill_reaches_its_supplier_twice_while_everything_is_killed():
    done = subprocess.run(
        [sys.executable, "-m", "tests.suppliers", "150", "--quick", "--minutes", "3"],
        cwd=BASE_DIR,
        env={name: value for name, value in os.environ.items() if name not in OF_ITS_OWN},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    for killed in ("worker", "supplier", "server", "PostgreSQL"):
        assert f"  {killed}: " in done.stdout
    assert done.stdout.endswith("problems: none\n")
