"""A short form of ``python -m tests.suppliers``: whatever is killed, no refill is sent twice, and none is lost."""

import pytest

from tests.server import run_alone

pytestmark = pytest.mark.xdist_group("embedded")  # it starts a PostgreSQL of its own


def test_no_refill_reaches_its_supplier_twice_while_everything_is_killed():
    done = run_alone("tests.suppliers", "150", "--quick", "--minutes", "3")

    assert done.returncode == 0, done.stdout + done.stderr
    for killed in ("worker", "supplier", "server", "PostgreSQL"):
        assert f"  {killed}: " in done.stdout
    assert done.stdout.endswith("problems: none\n")
