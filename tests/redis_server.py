"""Give tests a real Redis: the one at REDIS_URL, or a private one if redis-server is on the PATH."""

import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from notpanel.kit.redis_outages import outages_of


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory) -> Iterator[str]:
    """Return the address of a Redis."""
    if url := os.environ["REDIS_URL_FOR_TESTS"]:
        yield url
        return
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("REDIS_URL is not set, and redis-server is not on the PATH")
    directory = tmp_path_factory.mktemp("redis")
    socket = directory / "redis.sock"
    server = subprocess.Popen(
        [program, "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(directory)],
        stdout=subprocess.DEVNULL,
    )
    url = f"unix://{socket}"
    client = redis.Redis.from_url(url, retry=redis.retry.Retry(redis.backoff.ConstantBackoff(0.05), 100))
    try:
        client.ping()
        yield url
    finally:
        server.terminate()
        server.wait()


def wait_until_it_answers(url: str) -> None:
    """Wait until a probe has ended the outage of the Redis at ``url``."""
    deadline = time.monotonic() + 10
    while outages_of(url, {}).is_under_way:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def count_in(settings: Any, url: str, **options: Any) -> None:
    """Keep the counters of the rate limits in the Redis at ``url``."""
    settings.CACHES = settings.CACHES | {
        "counters": {
            "BACKEND": "notpanel.api.redis_counters.RedisCounters",
            "LOCATION": url,
            "KEY_PREFIX": uuid.uuid4().hex,  # the server may hold other data
            "OPTIONS": options,
        }
    }
