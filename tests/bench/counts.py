"""Count the statements and the round trips to Redis of each kind of request.

``python -m tests.bench.counts KEY LIMITED_KEY ORDERS`` uses the database and the Redis of the environment, and prints
JSON: for each kind of request, the number of its SQL statements and of its round trips to Redis.
"""

import json
import os
import sys
from pathlib import Path

import django


def main(key: str, limited_key: str, orders: list[str]) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "notpanel.settings")
    django.setup()

    from django.test import Client, override_settings

    from tests.work import counted

    def post(body: str, *expected: int, key: str = key) -> tuple[int, int]:
        with counted() as work:
            response = Client(headers={"host": "127.0.0.1"}).post(
                "/api/v2", f"key={key}&{body}", content_type="application/x-www-form-urlencoded"
            )
        if response.status_code not in (expected or (200,)):
            sys.exit(f"{body[:60]} was answered with {response.status_code}: {response.content[:200]!r}")
        return work.statements, work.round_trips

    hundred = ",".join(orders[1:101])
    post("action=services")  # connects, records the use of the key, loads the script of the counters
    found = {
        "singles": post(f"action=refill&order={orders[0]}"),
        "batches": post(f"action=refill&orders={hundred}"),
        "refused": post(f"action=refill&order={orders[0]}", 400),
        "status": post(f"action=status&orders={hundred}"),
        "services": post("action=services"),
    }
    # The second of two requests is over a limit of one, regardless of what was counted before.
    with override_settings(RATE_LIMIT_IP=1):
        post("action=services", 200, 429)
        found["limited address"] = post("action=services", 429)
    post("action=services", 200, 429, key=limited_key)
    found["limited key"] = post("action=services", 429, key=limited_key)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]).read_text().split())
