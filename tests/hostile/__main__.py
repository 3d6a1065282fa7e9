"""Send many hostile requests, and print what went wrong.

``python -m tests.hostile [REQUESTS]`` (100,000 unless told) calls the WSGI application in this process.
``python -m tests.hostile server [CONNECTIONS]`` (20,000 unless told) connects to a running server.
``python -m tests.hostile log [LINES]`` (100,000 unless told) plants secrets in requests and records, and looks for them
in the log. Each makes a test database on the server that DATABASE_URL names, and drops it. It ends with status 1 if an
answer was a 5xx or HTML, or if a key or another secret was in an answer or in the log.
"""

import collections
import io
import json
import logging
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "notpanel.settings")

Found = collections.Counter[str]
Statuses = collections.Counter[int]


def catch_log() -> io.StringIO:
    """Return a file to which the handler of settings.LOGGING writes from now on."""
    [handler] = logging.getLogger().handlers
    assert isinstance(handler, logging.StreamHandler)
    log = io.StringIO()
    handler.setStream(log)
    return log


def call_application(count: int) -> tuple[Found, Statuses, int]:
    """Call the application with ``count`` requests. Returns problems, answers by status, and the lines of the log."""
    from hypothesis import HealthCheck, Phase, given, seed, settings

    from tests.hostile.requests import RAW_KEY, REQUESTS, Request, problems

    log = catch_log()
    found, statuses = Found(), Statuses()
    lines = 0

    @seed(time.time_ns())
    @settings(
        max_examples=count,
        phases=[Phase.generate],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(REQUESTS)
    def send(request: Request) -> None:
        nonlocal lines
        for problem in problems(request, statuses):
            found[problem] += 1
            sys.stderr.write(f"{problem}: {request!r}\n")
        text = log.getvalue()
        lines += text.count("\n")
        if RAW_KEY in text:
            found["a key in the log"] += 1
        log.seek(0)
        log.truncate()

    send()
    return found, statuses, lines


def fill_log(count: int) -> tuple[Found, Statuses, int]:
    """Write ``count`` lines of the log or a few more, every twentieth by a request. Returns problems, and the lines."""
    from django.conf import settings

    from tests.hostile.planted import Secrets, log, send

    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    written = catch_log()
    seed = time.time_ns()
    sys.stdout.write(f"seed {seed}\n")
    chance = random.Random(seed)
    found, loggers = Found(), collections.Counter[str]()
    lines = 0
    while lines < count:
        secrets = Secrets(chance)
        send(secrets)
        for _ in range(20):
            log(secrets)
        text = written.getvalue()
        for line in text.splitlines():
            loggers[json.loads(line)["logger"]] += 1
        lines += text.count("\n")
        for number, fragment in enumerate(secrets.fragments):
            if fragment in text:
                found[f"secret {number} in the log"] += 1
                sys.stderr.write(f"{fragment} in {text}\n")
        written.seek(0)
        written.truncate()
    sys.stdout.write(f"lines by logger: {dict(loggers.most_common())}\n")
    return found, Statuses(), lines


def attack_server(count: int) -> tuple[Found, Statuses, int]:
    """Make ``count`` connections to a server. Returns problems, answers by status, and the lines of the log."""
    from refills.models import Refill
    from tests.hostile.requests import UNFINISHED
    from tests.hostile.sockets import KEY, Attack, problems
    from tests.server import Server

    seed = time.time_ns()
    sys.stdout.write(f"seed {seed}\n")
    chance = random.Random(seed)
    found, statuses = Found(), Statuses()
    with tempfile.TemporaryDirectory() as directory:
        server = Server(Path(directory))

        def send(attack: Attack) -> tuple[Attack, list[str], Statuses]:
            answers = Statuses()
            return attack, problems(attack, server.port, answers), answers

        try:
            with ThreadPoolExecutor(8) as clients:
                for done in range(0, count, 1000):
                    attacks = [Attack.draw(chance) for _ in range(min(1000, count - done))]
                    for attack, wrong, answers in clients.map(send, attacks):
                        statuses += answers
                        found.update(wrong)
                        for problem in wrong:
                            sys.stderr.write(f"{problem}: {attack.ending} {attack.sent[:2000]!r}\n")
        finally:
            status = server.stop()
        if status != 0:
            found["the server did not stop"] += 1
        log = server.log
    for text in (KEY.decode(), "Traceback", "exception"):
        if text in log:
            found[f"{text[:9]} in the log"] += log.count(text)
            at = log.index(text)
            sys.stderr.write(f"{log[max(at - 1000, 0) : at + 3000]}\n")
    if Refill.objects.filter(order__number=UNFINISHED).exists():
        found["a refill that nobody finished asking for"] += 1
    return found, statuses, log.count("\n")


def main(send: Callable[[int], tuple[Found, Statuses, int]], count: int) -> int:
    import tests.environment  # noqa: F401  # as pytest does, before the settings are read

    without_limits = ("RATE_LIMIT_", "ATTEMPTS_", "PASSWORD_CHECKS", "PANEL_RATE_LIMIT")
    os.environ |= {name: "1000000000" for name in os.environ if name.startswith(without_limits)}
    import django

    django.setup()
    from django.db import connection
    from django.test.utils import setup_test_environment

    from tests.hostile.requests import make_customer

    setup_test_environment()
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    try:
        make_customer()
        started = time.monotonic()
        found, statuses, lines = send(count)
        took = time.monotonic() - started
    finally:
        connection.creation.destroy_test_db(connection.settings_dict["NAME"], verbosity=0)
    answers = ", ".join(f"{status}: {number:,}" for status, number in sorted(statuses.items()))
    sys.stdout.write(
        f"{count:,} in {took:.0f} s, {statuses.total():,} answers, {lines:,} log lines\nanswers by status: {answers}\n"
        f"problems: {dict(found) or 'none'}\n"
    )
    return 1 if found else 0


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments[:1] == ["server"]:
        sys.exit(main(attack_server, int(arguments[1]) if len(arguments) > 1 else 20_000))
    if arguments[:1] == ["log"]:
        sys.exit(main(fill_log, int(arguments[1]) if len(arguments) > 1 else 100_000))
    sys.exit(main(call_application, int(arguments[0]) if arguments else 100_000))
