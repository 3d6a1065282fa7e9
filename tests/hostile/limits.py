"""Try to pass the rate limits of a server with several processes: many clients at once, each with forged headers.

``python -m tests.hostile.limits [LIMIT]`` (1,000 unless told) sends three times LIMIT requests on each layer, and
prints how many were let through. It needs PostgreSQL at DATABASE_URL and Redis at REDIS_URL.
"""

import http.client
import itertools
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

PROCESSES = 3
THREADS = 16
LONGEST = 45  # seconds that a flood may take: windows last 60, and a flood begins in one that has that many left

Headers = list[tuple[str, str]]


@dataclass(frozen=True)
class Sent:
    """A request: the address that its client connects from, its headers, and its key."""

    source: str
    headers: Headers
    key: str


def forged(chance: random.Random) -> Headers:
    """Return headers with which a client may hope to pass for another one."""
    other = f"{chance.randrange(1, 224)}.{chance.randrange(256)}.0.1"
    value = chance.choice(
        [other, f"{other}, 127.0.0.1", f" {other} ,", f"[2001:db8::{chance.randrange(9999):x}]:80", '"' + other]
    )
    names = ["X-Forwarded-For", "x-forwarded-for", "X_Forwarded_For", "X-FORWARDED-FOR", "X-Forwarded_For", "Forwarded"]
    names += ["X-Real-IP", "X_Real_IP", "Client-IP", "X-Client-IP", "True-Client-IP", "CF-Connecting-IP", "Remote_Addr"]
    names += ["X-Cluster-Client-IP", "Remote-Addr", "Via", "X-Originating-IP", "Fastly-Client-IP", "X-Forwarded"]
    chosen = chance.sample(names, 3)
    return [
        (name, f"for={value}" if name == "Forwarded" else value)
        for name in chosen
        for _ in range(chance.choice([1, 2]))
    ]


def spelled(network: IPv6Address, chance: random.Random) -> str:
    """Return an address in the /64 that begins with ``network``, in one of its spellings."""
    address = IPv6Address(int(network) + chance.getrandbits(64))
    port = chance.randrange(1, 65_536)
    return chance.choice(
        [str(address), address.exploded, address.exploded.upper(), f"[{address}]", f"[{address}]:{port}"]
    )


def disguised(key: str, chance: random.Random) -> str:
    """Return the key surrounded by what is stripped when it is read."""
    around = ["", " ", "\t", "\r\n", "\u00a0", "\u200b", "\ufeff", "\u2060"]
    quote = chance.choice(["", '"', "'"])
    return chance.choice(around) + quote + key + quote + chance.choice(around)


def loopback(chance: random.Random) -> str:
    """Return one of the addresses that this machine has for itself."""
    return f"127.{chance.randrange(1, 255)}.{chance.randrange(256)}.{chance.randrange(1, 255)}"


def by_address(keys: list[str], chance: random.Random) -> Iterator[Sent]:
    """Yield requests of one client that is not behind a proxy."""
    source = loopback(chance)
    while True:
        yield Sent(source, forged(chance), chance.choice(keys))


def by_network(keys: list[str], chance: random.Random) -> Iterator[Sent]:
    """Yield requests of the clients in one /64, through a trusted proxy, which adds the address to what they send."""
    network = IPv6Address(0x2001_0DB8 << 96 | chance.getrandbits(32) << 64)
    while True:
        yield Sent("127.0.0.1", [*forged(chance), ("X-Forwarded-For", spelled(network, chance))], chance.choice(keys))


def by_key(keys: list[str], chance: random.Random) -> Iterator[Sent]:
    """Yield requests with one key, each from another address."""
    while True:
        yield Sent(loopback(chance), forged(chance), disguised(keys[0], chance))


def by_tier(keys: list[str], chance: random.Random) -> Iterator[Sent]:
    """Yield requests with all the keys of an account, each from another address."""
    for key in itertools.cycle(keys):
        yield Sent(loopback(chance), forged(chance), disguised(key, chance))


# What is sent, the layer that must refuse it, and the settings of the server.
Kind = tuple[Callable[[list[str], random.Random], Iterator[Sent]], str, Callable[[int], dict[str, str]]]
KINDS: dict[str, Kind] = {
    "address": (by_address, "ip", lambda limit: {"RATE_LIMIT_IP": str(limit)}),
    "IPv6 network": (
        by_network, "ip", lambda limit: {"RATE_LIMIT_IP": str(limit), "TRUSTED_PROXIES": "127.0.0.1/32"}
    ),
    "key": (by_key, "key", lambda limit: {"RATE_LIMIT_KEY_STANDARD": str(limit)}),
    "tier": (by_tier, "tier", lambda limit: {"RATE_LIMIT_TIER_STANDARD": str(limit)}),
}  # fmt: skip


def send(port: int, sent: Sent) -> tuple[int, http.client.HTTPMessage]:
    """Return the status and the headers of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60, source_address=(sent.source, 0))
    try:
        connection.putrequest("POST", "/api/v2")
        body = urlencode({"key": sent.key, "action": "services"}).encode()
        for name, value in [
            *sent.headers,
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Content-Length", str(len(body))),
        ]:
            connection.putheader(name, value.encode())
        connection.endheaders(body)
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers
    finally:
        connection.close()


def flood(kind: str, port: int, new_keys: Callable[[], list[str]], count: int) -> Counter[str]:
    """Send ``count`` requests of a kind at once, in one window. Returns how many got which outcome."""
    chance = random.Random()
    while True:
        requests = KINDS[kind][0](new_keys(), chance)
        status, headers = send(port, next(requests))
        if int(headers["X-RateLimit-Reset"]) - time.time() > LONGEST:
            break
    began = time.monotonic()

    def outcome(sent: Sent) -> str:
        status, headers = send(port, sent)
        return {200: "let through", 429: f"refused by {headers['X-RateLimit-DeniedBy']}"}.get(status, str(status))

    with ThreadPoolExecutor(THREADS) as clients:
        outcomes = Counter(clients.map(outcome, itertools.islice(requests, count - 1)))
    assert time.monotonic() - began < LONGEST, "The window may have ended: send fewer requests."
    outcomes["let through" if status == 200 else str(status)] += 1
    return outcomes


def new_keys() -> list[str]:
    """Return three keys of a new account."""
    from apikeys.keys import create_api_key
    from tests import factories

    account: Any = factories.Account()
    return [create_api_key(account)[1] for _ in range(3)]


def main(limit: int) -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "notpanel.settings")
    redis_url = os.environ["REDIS_URL"]
    import django

    import tests.environment  # noqa: F401  # as pytest does, before the settings are read

    django.setup()
    from django.db import connection

    from tests.server import Server

    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    wrong = False
    try:
        for kind, (_, layer, settings) in KINDS.items():
            with tempfile.TemporaryDirectory() as directory:
                environment = {"REDIS_URL": redis_url, "WEB_CONCURRENCY": str(PROCESSES), **settings(limit)}
                server = Server(Path(directory), **environment)
                began = time.monotonic()
                try:
                    outcomes = flood(kind, server.port, new_keys, 3 * limit)
                finally:
                    server.stop()
                took = time.monotonic() - began
            sys.stdout.write(f"{kind}: {dict(outcomes)} in {took:.1f} s\n")
            wrong |= outcomes != {"let through": limit, f"refused by {layer}": 2 * limit}
    finally:
        connection.creation.destroy_test_db(connection.settings_dict["NAME"], verbosity=0)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
