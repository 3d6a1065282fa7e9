"""The database's machine is lost under load, and its standby promoted: nothing that a customer was told is lost."""

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.failover.clusters import Machine
from tests.failover.installation import Installation
from tests.server import MARKS

pytestmark = MARKS


@pytest.fixture
def installation(request):
    redis = request.getfixturevalue("redis_url") if shutil.which("redis-server") else ""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o711)  # root's PostgreSQL runs as another user
        installation = Installation(Path(made), [Machine(), Machine()], 2000, redis=redis)
        try:
            installation.start()
            yield installation
        finally:
            installation.stop()


def test_a_promoted_standby_has_every_refill_that_a_customer_was_told_of(installation):
    found = installation.fail_over("killed", 2000, synchronous=True, noticed_after=1.0)

    assert (found.lost, found.doubled, found.wrong) == (0, 0, ())
    assert found.told > 50
    assert found.unavailable > 0
