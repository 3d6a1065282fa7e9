"""A run: the load, the faults that were inflicted on it, and what came of it."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from tests.faults import judging
from tests.faults.clients import CLOSED, GOOD, REFUSED, UNAVAILABLE_503, WRONG, Answer, Client, Visitor
from tests.faults.faults import Fault
from tests.faults.installation import Installation, say
from tests.faults.judging import Window

CALM = 1.5  # seconds of good answers after which a fault is over
LONGEST = 60.0  # seconds to wait for that
KINDS = (GOOD, UNAVAILABLE_503, REFUSED, CLOSED, WRONG)


class Run:
    """A run: the load, and the faults that were inflicted on it."""

    def __init__(self, site: Installation, clients: Sequence[Client], visitor: Visitor) -> None:
        self.site, self.clients, self.visitor = site, clients, visitor
        self.windows: list[Window] = []
        self.wrong: list[str] = []

    def answers(self, since: float = 0.0) -> list[Answer]:
        every = [*(answer for client in self.clients for answer in list(client.answers)), *self.visitor.answers]
        return [answer for answer in every if answer.ended >= since]

    def inflict(self, fault: Fault, within: float) -> None:
        """Inflict a fault, wait until it is over, and say what was answered meanwhile."""
        if why := fault.why_not(self.site):
            say(f"{fault.name:32} not inflicted: {why}")
            return
        began = time.monotonic()
        with fault.inflict(self.site):
            time.sleep(fault.seconds)
        lifted = time.monotonic()
        while not self._is_calm(lifted) and time.monotonic() < lifted + LONGEST:
            time.sleep(0.1)
        window = Window(fault, began, lifted, time.monotonic())
        self.windows.append(window)
        answers = self.answers(began)
        back = window.back_after(answers)
        counts = Counter(answer.kind for answer in answers)
        longest = max(answer.ended - answer.began for answer in answers)
        say(f"{fault.name:32} {'  '.join(f'{counts[kind]:5}' for kind in KINDS)}  {longest:6.1f} s  {back:6.1f} s")
        if back > within:
            self.wrong.append(f"{fault.name}: back after {back:.1f} s")
        from refills.audit import audit

        self.wrong += [f"{fault.name}: {finding.invariant.holds} {finding.first}" for finding in retried(audit)]

    def _is_calm(self, lifted: float) -> bool:
        """Return whether all clients had good answers alone for a while."""
        since = time.monotonic() - CALM
        latest = self.answers(since)
        by_client = [client for client in self.clients if client.answers and client.answers[-1].ended > since]
        return since > lifted and len(by_client) == len(self.clients) and all(each.kind == GOOD for each in latest)

    def end(self, webhooks: Any) -> None:
        """Let everything come to rest, and judge the result."""
        for client in self.clients:
            client.stopping.set()
        self.visitor.stopping.set()
        for thread in (*self.clients, self.visitor):
            thread.join()
        self._wait_until_quiet()
        for client in self.clients:
            self.wrong += client.ask_again()
        self.wrong += [
            *self.site.wrong,
            *judging.unexplained(self.answers(), self.windows),
            *judging.wrong_in_the_books(self.clients, self.windows),
            *judging.wrong_settlements(self.site.settled_log),
            *judging.wrong_webhooks(webhooks.got),
            *judging.wrong_at_the_supplier(self.site.supplier_log),
            *judging.audit(),
            *judging.unexplained_tracebacks(self.site),
        ]

    def _wait_until_quiet(self) -> None:
        """Wait until every refill is settled or waits for an agent to decide, and every webhook is delivered."""
        from apikeys.models import WebhookDelivery
        from tests.suppliers import judging as suppliers
        from tests.suppliers.__main__ import wake

        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            wake("refills.tasks.sweep", "apikeys.tasks.sweep_webhooks")
            left = {
                "refills": suppliers.unsettled(),
                "deliveries": WebhookDelivery.objects.filter(state="waiting").count(),
                "jobs": suppliers.jobs("doing"),
            }
            if not any(left.values()):
                return
            time.sleep(0.5)
        self.wrong.append(f"it does not come to rest: {left}")


def retried(ask: Callable[[], Any]) -> Any:
    """Return what ``ask`` returns, once the database answers."""
    from django.db import InterfaceError, OperationalError, connection

    for _ in range(50):
        try:
            return ask()
        except (OperationalError, InterfaceError):
            connection.close()
            time.sleep(0.2)
    return ask()
