"""``manage.py work`` sped up: what takes minutes there takes seconds here, for the short form of the test."""

import os
import sys
from datetime import timedelta

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "notpanel.settings")


def main() -> None:
    import django
    from django.conf import settings
    from django.core.management import execute_from_command_line

    settings.PROCRASTINATE_WORKER_DEFAULTS = {"update_heartbeat_interval": 1.0}
    django.setup()
    from notpanel import tasks
    from refills import following, supplier_api, supplier_traffic

    tasks.ALIVE = timedelta(seconds=5)  # type: ignore[attr-defined]
    following.ASK_AFTER = (timedelta(seconds=0.5), timedelta(seconds=1), timedelta(seconds=2))
    following.TRY_AGAIN_AFTER = timedelta(seconds=1)
    supplier_traffic.SHORTEST_REST, supplier_traffic.LONGEST_REST = timedelta(seconds=1), timedelta(seconds=2)
    supplier_api.WAITING = 2.0
    execute_from_command_line([sys.argv[0], "work", "--with-parent"])


if __name__ == "__main__":
    main()
