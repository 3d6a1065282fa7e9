"""Settle what customers request, as the staff do: ``python -m tests.faults.settler LOG``.

Each change that was committed is a line of the log: the refill and its new status.
"""

import os
import random
import sys
import time
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "notpanel.settings")

AT_ONCE = 60  # refills
PAUSE = 0.2  # seconds


def main(log: Path) -> None:
    import django
    from django.conf import settings
    from django.db import InterfaceError, OperationalError, connection

    settings.DATABASES["default"]["OPTIONS"].pop("pool", None)
    django.setup()
    from apikeys.models import Account
    from notpanel.server.worker import end_with_parent
    from refills.models import Refill
    from refills.settlement import StatusChange, change_status
    from refills.statuses import RefillStatus

    end_with_parent()
    changes = (
        *[StatusChange(RefillStatus.COMPLETED)] * 3,
        StatusChange(RefillStatus.REJECTED, words="Nothing dropped."),
        StatusChange(RefillStatus.APPROVED),
    )
    while True:
        time.sleep(PAUSE)
        try:
            agent = Account.objects.get(username="agent")
            waiting = list(
                Refill.objects.in_flight()
                .filter(service__supplier=None)
                .order_by("created_at")
                .values_list("pk", "status")[:AT_ONCE]
            )
            chosen: dict[StatusChange, list[str]] = {change: [] for change in changes}
            for pk, status in waiting:
                if (change := random.choice(changes)).to != status:
                    chosen[change].append(pk)
            for change, refills in chosen.items():
                outcome = change_status(refills, change, agent)
                with log.open("a") as opened:
                    opened.writelines(f"{refill.pk} {change.to}\n" for refill in outcome.done)
        except (OperationalError, InterfaceError):
            connection.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
