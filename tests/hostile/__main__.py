"""Send many hostile requests to the WSGI application, in this process, and print what went wrong.

``python -m tests.hostile [REQUESTS]`` (100,000 unless told) makes a test database on the server that DATABASE_URL
names, and drops it. It ends with status 1 if an answer was a 5xx or HTML, or if a key was in an answer or in the log.
"""

import collections
import io
import logging
import os
import sys
import time

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "notpanel.settings")


def main(count: int) -> int:
    import tests.environment  # noqa: F401  # as pytest does, before the settings are read

    os.environ |= {name: "1000000000" for name in os.environ if name.startswith("RATE_LIMIT_")}
    import django

    django.setup()
    from django.db import connection
    from django.test.utils import setup_test_environment
    from hypothesis import HealthCheck, Phase, given, seed, settings

    from tests.hostile.requests import RAW_KEY, REQUESTS, Request, make_customer, problems

    setup_test_environment()
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    log = io.StringIO()
    root = logging.getLogger()
    root.handlers = [logging.StreamHandler(log)]
    found: collections.Counter[str] = collections.Counter()
    statuses: collections.Counter[int] = collections.Counter()
    lines = 0
    try:
        make_customer()

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

        started = time.monotonic()
        send()
        took = time.monotonic() - started
    finally:
        connection.creation.destroy_test_db(connection.settings_dict["NAME"], verbosity=0)
    answers = ", ".join(f"{status}: {number:,}" for status, number in sorted(statuses.items()))
    sys.stdout.write(
        f"{statuses.total():,} requests in {took:.0f} s, {lines:,} log lines\nanswers by status: {answers}\n"
        f"problems: {dict(found) or 'none'}\n"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000))
