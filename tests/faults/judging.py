"""Whether what customers were told is in the books, and nothing else, and whether every answer is explained."""

import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.clients import CLOSED, GOOD, REFUSED, UNAVAILABLE_503, WRONG, Answer, Client
from tests.faults.faults import Fault
from tests.faults.installation import Installation
from tests.suppliers.parts import BASE_DIR

# Exceptions that a fault explains: PostgreSQL or Redis is away, a lock is held, or a disk is full.
EXPLAINED = re.compile(
    r"^(psycopg\.(OperationalError|InterfaceError)"
    r"|psycopg\.errors\.(AdminShutdown|CrashShutdown|CannotConnectNow|LockNotAvailable|QueryCanceled|TooManyConnections"
    r"|DiskFull|IdleInTransactionSessionTimeout)"
    r"|psycopg\.DatabaseError: (server closed the connection unexpectedly|consuming input failed)"
    r"|psycopg_pool\.PoolTimeout"
    r"|django\.db\.utils\.(OperationalError|InterfaceError)"
    r"|redis\.exceptions\.(ConnectionError|TimeoutError|BusyLoadingError)"
    r"|notpanel\.server\.checks\.Unready: The database"
    r"|procrastinate\.exceptions\.ConnectorException"
    r"|AttributeError: 'SessionStore' object has no attribute '_session_cache"  # Django loads it then, which failed
    r"|ConnectionRefusedError|ConnectionResetError|BrokenPipeError|TimeoutError)\b"
)
# The last line of a traceback is the first that is not indented further than its first line.
TRACEBACK = re.compile(r"([ \t]*)Traceback \(most recent call last\):\n(?:\1[ \t]+.*\n|\s*\n)*\1(\S.*)")


@dataclass(frozen=True)
class Window:
    """When a fault was inflicted, lifted, and found to be over. Times are of time.monotonic()."""

    fault: Fault
    began: float
    lifted: float
    over: float

    def back_after(self, answers: Iterable[Answer]) -> float:
        """Return the seconds from the end of the fault to the first good answer after the last bad one."""
        bad = max((each.ended for each in answers if each.kind != GOOD and self.holds(each)), default=0.0)
        since = max(bad, self.lifted)
        first = min((each.ended for each in answers if each.kind == GOOD and each.ended >= since), default=self.over)
        return first - self.lifted

    def holds(self, answer: Answer) -> bool:
        return self.began <= answer.ended <= self.over and answer.kind != WRONG

    def explains(self, answer: Answer) -> bool:
        """Return whether the fault may have caused this answer."""
        if answer.kind in (REFUSED, CLOSED):
            return self.fault.loses_answers and self.holds(answer)
        return answer.kind != WRONG and self.holds(answer)


def unexplained(answers: Iterable[Answer], windows: Sequence[Window]) -> Iterator[str]:
    """Yield the answers that no fault explains."""
    for answer in answers:
        if answer.kind != GOOD and not any(window.explains(answer) for window in windows):
            near = [window.fault.name for window in windows if window.began <= answer.ended]
            yield f"{answer.action} got {answer.kind} {answer.text} after {near[-1] if near else 'nothing'}"


def wrong_in_the_books(clients: Sequence[Client], windows: Sequence[Window]) -> Iterator[str]:
    """Yield what is lost, doubled or unexplained among the refills."""
    from refills.models import Refill

    for client in clients:
        told, orders = client.told, dict[str, int]()
        made: dict[int, list[str]] = defaultdict(list)
        statuses = dict[str, str]()
        for pk, order, status in Refill.objects.filter(account=client.customer.account).values_list(
            "pk", "order__number", "status"
        ):
            orders[pk], statuses[pk] = order, status
            made[order].append(pk)
        for pk, order in told.refills.items():
            if orders.get(pk) != order:
                yield f"{pk} of order {order} is lost"
        for pk, order in orders.items():
            if pk not in told.refills and not _may_be_done(told.unanswered.get(order, ()), windows):
                yield f"nobody was told of {pk}, of order {order}: {told.unanswered.get(order)}"
        for order, refills in made.items():
            if len(refills) > told.requests[order]:
                yield f"order {order} has {len(refills)} refills of {told.requests[order]} requests"
        if told.listed != statuses:
            differ = {pk for pk, _ in told.listed.items() ^ statuses.items()}
            yield f"the list told {len(differ)} refills of {client.customer.account} otherwise: {sorted(differ)[:3]}"


def _may_be_done(lost: Iterable[Answer], windows: Sequence[Window]) -> bool:
    """Return whether one of the requests without an answer may have been carried out."""
    return any(
        answer.kind == CLOSED
        or (answer.kind == UNAVAILABLE_503 and any(each.fault.may_commit and each.holds(answer) for each in windows))
        for answer in lost
    )


def wrong_settlements(log: Path) -> Iterator[str]:
    """Yield settlements that were committed, and are not in the history."""
    from refills.models import Transition

    known = {f"{refill} {status}" for refill, status in Transition.objects.values_list("refill_id", "to_status")}
    for line in set(log.read_text().splitlines()) - known:
        yield f"the settlement {line} is lost"


def wrong_webhooks(got: Sequence[Any]) -> Iterator[str]:
    """Yield the events that an endpoint did not get."""
    import json

    from apikeys.models import WebhookEndpoint
    from refills.models import Refill, Transition

    told = Counter((body["data"]["refill"], body["type"]) for body in (json.loads(each.body) for each in got))
    refills = Refill.objects.filter(account__in=WebhookEndpoint.objects.values("account"))
    expected = {(pk, "refill.requested") for pk in refills.values_list("pk", flat=True)}
    expected |= {
        (pk, f"refill.{status}")
        for pk, status in Transition.objects.filter(refill__in=refills).values_list("refill_id", "to_status")
    }
    for event in sorted(expected - set(told)):
        yield f"no webhook told of {event}"


def wrong_at_the_supplier(log: Path) -> Iterator[str]:
    """Yield the problems that the judgement of the suppliers finds."""
    from orders.models import Supplier
    from refills.models import Refill
    from tests.suppliers import judging

    orders = Refill.objects.values("order").distinct().count()
    return judging.problems({Supplier.objects.get().pk: judging.read_log(log)}, orders)


def audit() -> list[str]:
    """Run `manage.py audit`. Returns what it says is wrong."""
    command = [sys.executable, "manage.py", "audit"]
    done = subprocess.run(command, cwd=BASE_DIR, capture_output=True, text=True, check=False)
    return [] if done.returncode == 0 else [f"audit: {done.stdout}{done.stderr}"]


def tracebacks(site: Installation) -> Counter[str]:
    """Count the exceptions in the logs, by the last line of each."""
    counts: Counter[str] = Counter()
    for part in (site.server, site.worker, site.settler, site.supplier):
        text = part.log.read_text(errors="replace").replace("\\n", "\n")
        counts.update(f"{part.name}: {last[:160]}" for _, last in TRACEBACK.findall(text))
    return counts


def unexplained_tracebacks(site: Installation) -> Iterator[str]:
    for line, count in tracebacks(site).items():
        if not EXPLAINED.match(line.partition(": ")[2]):
            yield f"the log has {count} times: {line}"
