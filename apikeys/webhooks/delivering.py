"""Deliver webhooks: one job per worker takes what is due, in batches, and makes many attempts at once.

Its SQL runs in a thread of its own, its requests in the event loop. It ends when nothing has been due for a while.
"""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from django.conf import settings
from django.utils import timezone

from apikeys.webhooks import leasing, metrics
from apikeys.webhooks.leasing import Leased, Result
from apikeys.webhooks.models import SHOWN, EventType
from apikeys.webhooks.recording import DELIVER
from apikeys.webhooks.signing import signed_headers
from notpanel.kit import queue, secrets
from notpanel.kit.outbound import Answer, Client, NoAnswer

logger = logging.getLogger(__name__)

AT_ONCE = 400  # attempts of one worker
FAILING_AT_ONCE = 200  # of these, to endpoints that fail
BATCH = 100  # deliveries leased by one statement
GATHERING = 0.02  # seconds in which results are gathered, to be written together
LOOK_EVERY = 1.0  # seconds, while nothing happens
# Seconds without anything due after which the job ends. A transaction that saw a job waiting, and so added none, may
# commit a little after that job has run.
LINGER = 10.0
# Before each attempt, the first included.
DELAYS = (
    timedelta(),
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
JITTER = 0.1  # of a delay, more or less
LONGEST_RETRY_AFTER = timedelta(hours=24)

T = TypeVar("T")

_running: "Deliverer | None" = None


def new_client() -> Client:
    """Return the client with which webhooks are sent, as the settings say."""
    return Client(proxy=settings.WEBHOOK_PROXY, loopback=settings.WEBHOOK_LOOPBACK)


async def deliver() -> None:
    """Deliver what is due until nothing is. If this process already has a deliverer, make that one look at once."""
    global _running
    if _running is not None:
        _running.look()
        return
    _running = Deliverer()
    try:
        await _running.run()
    finally:
        _running = None


class Deliverer:
    """The deliveries of this process."""

    def __init__(self) -> None:
        self._client = new_client()
        self._sql = ThreadPoolExecutor(1, thread_name_prefix="webhooks")
        self._changed = asyncio.Event()
        self._attempts: dict[asyncio.Task[None], Leased] = {}
        self._results: list[Result] = []

    def look(self) -> None:
        """Look soon for what is due."""
        self._changed.set()

    async def run(self) -> None:
        try:
            await self._deliver()
            if not queue.is_stopping():
                await self._in_sql(leasing.wake_for_next, DELIVER)
        finally:
            # Attempts are left only after an error. Their deliveries are due again when the leases end.
            for attempt in self._attempts:
                attempt.cancel()
            await self._in_sql(leasing.let_go)
            self._sql.shutdown(wait=False)
            self._client.close()

    async def _deliver(self) -> None:
        ends_at = time.monotonic() + LINGER
        while True:
            self._changed.clear()
            found = await self._take_up()
            if found or self._attempts:
                ends_at = time.monotonic() + LINGER
            elif not self._results and (queue.is_stopping() or time.monotonic() >= ends_at):
                return
            if found < BATCH:
                await self._wait()
            await self._write()

    async def _take_up(self) -> int:
        """Begin attempts of what is due, as many as there is room for. Returns how many."""
        room = min(BATCH, AT_ONCE - len(self._attempts))
        if queue.is_stopping() or room <= 0:
            return 0
        busy = Counter(leased.endpoint for leased in self._attempts.values())
        failing = sum(leased.is_failing for leased in self._attempts.values())
        found = await self._in_sql(leasing.lease, room, busy, failing=failing < FAILING_AT_ONCE)
        for leased in found:
            self._attempts[asyncio.create_task(self._attempt(leased))] = leased
        return len(found)

    async def _wait(self) -> None:
        """Wait until there is something to do, and a little longer, so that more can be done at once."""
        try:
            async with asyncio.timeout(LOOK_EVERY):
                await self._changed.wait()
        except TimeoutError:
            return
        await asyncio.sleep(GATHERING)

    async def _write(self) -> None:
        if self._results:
            results, self._results = self._results, []
            await self._in_sql(leasing.write, results)

    async def _attempt(self, leased: Leased) -> None:
        task: Any = asyncio.current_task()
        try:
            result = await attempt(self._client, leased)
        except Exception:
            # Without a result it would be tried again and again.
            logger.exception("Failed to attempt the delivery %s.", leased.id)
            result = judge(leased, None, "It failed because of an error of ours.", 0, timezone.now())
        finally:
            del self._attempts[task]
            self._changed.set()
        metrics.count(result)
        self._results.append(result)  # not the list of before the attempt: it is replaced when written

    async def _in_sql(self, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._sql, lambda: call(*args, **kwargs))


async def attempt(client: Client, leased: Leased) -> Result:
    """Make an attempt. Returns its result, whatever goes wrong; it raises nothing."""
    begun = time.monotonic()
    answer, words = None, ""
    try:
        tokens = filter(None, (leased.encrypted_secret, leased.encrypted_old_secret))
        headers = signed_headers(map(secrets.decrypt, tokens), leased.message_id, timezone.now(), leased.body)
        answer = await client.post(leased.url, headers, leased.body.encode())
    except NoAnswer as error:
        words = str(error)
    except secrets.Undecipherable:
        words = "The secret cannot be decrypted: rotate it."
    took = round((time.monotonic() - begun) * 1000)
    return judge(leased, answer, words, took, timezone.now())


def judge(leased: Leased, answer: Answer | None, words: str, milliseconds: int, now: datetime) -> Result:
    """Return the result of an attempt: it was delivered, is tried again, or has failed for good."""
    status = answer.status if answer else None
    text = answer.body.decode("utf-8", errors="replace").replace("\x00", "")[:SHOWN] if answer else ""
    state, next_at = "failed", None
    if status is not None and 200 <= status < 300:
        state = "delivered"
    elif status != 410 and leased.attempts < len(DELAYS) and leased.type != EventType.TEST:
        state, next_at = "waiting", now + max(_delay(leased.attempts), _retry_after(answer, now))
    return Result(leased, state, next_at, status, milliseconds, text, words)


def _delay(attempts: int) -> timedelta:
    return DELAYS[attempts] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311  # no secret


def _retry_after(answer: Answer | None, now: datetime) -> timedelta:
    """Return how long an answer asks to be left alone: its Retry-After, in seconds or as a date."""
    text = answer.headers.get("retry-after", "").strip() if answer else ""
    try:
        if text.isascii() and text.isdigit():
            wait = timedelta(seconds=int(text[:9]))
        else:
            at = parsedate_to_datetime(text)
            wait = (at if at.tzinfo else at.replace(tzinfo=UTC)) - now
    except (ValueError, OverflowError):
        return timedelta()
    return min(wait, LONGEST_RETRY_AFTER)
