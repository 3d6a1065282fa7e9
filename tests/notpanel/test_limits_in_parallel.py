"""A short form of ``python -m tests.hostile.limits``: exactly the limit is let through, whatever the clients forge."""

import pytest

from tests.hostile.limits import KINDS, flood, new_keys
from tests.server import MARKS, Server

pytestmark = MARKS

LIMIT = 40


@pytest.mark.parametrize("kind", KINDS)
def test_many_clients_at_once_pass_no_limit(transactional_db, tmp_path, redis_url, kind):
    _, layer, settings = KINDS[kind]
    server = Server(tmp_path, REDIS_URL=redis_url, WEB_CONCURRENCY="2", **settings(LIMIT))
    try:
        outcomes = flood(kind, server.port, new_keys, 3 * LIMIT)
    finally:
        server.stop()

    assert outcomes == {"let through": LIMIT, f"refused by {layer}": 2 * LIMIT}
