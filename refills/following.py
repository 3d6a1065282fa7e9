"""Send refills to a supplier and follow them there, each exactly once, until the supplier has settled it.

``follow`` is the work with one supplier, alone: an advisory lock keeps other workers away, and ends with the worker,
however that ends. What a request may do is committed before the request is made: a dispatch that is found ``sending``
without a worker may have been sent, so it is unclear, and is never sent again by itself.

No transaction is open while a supplier is asked. In each, refills are locked before dispatches (docs/locks.md).
"""

import contextlib
import functools
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection
from django.db.models import Min, Q, QuerySet
from django.utils import timezone

from notpanel.kit import queue
from orders.models import Supplier
from refills import supplier_api
from refills.dispatching import FOLLOW
from refills.locked_dispatches import Locked, lock
from refills.models import Dispatch, DispatchStep, Refill, SupplierText, Transition
from refills.settlement import StatusChange, change_status
from refills.statuses import IN_FLIGHT, SETTLED, DispatchState, RefillStatus
from refills.supplier_answers import Accepted, NotDone, Progress, Refused, Status, Unclear
from refills.supplier_lanes import Lane, lane_of
from refills.supplier_texts import KnownTexts
from refills.supplier_traffic import Traffic, is_failure

LOCK = 7_001  # the class of the advisory locks, one per supplier
TURN = 20.0  # seconds after which the work with a supplier lets others have the worker
ASK_AFTER = (timedelta(seconds=5), timedelta(seconds=30), timedelta(minutes=3))  # about an unclear refill
NO_PLACE = timedelta(seconds=5)  # until a slow supplier for which a worker had no place is tried again
TRY_AGAIN_AFTER = timedelta(seconds=30)  # what did not reach the supplier
PATIENCE = 3  # useless answers after which a person decides
UNDONE = "The approval was undone before it was sent."
BY_HAND = "It was settled by hand, so it is no longer followed."
LOST = "The worker ended before the supplier had answered."
SILENT = "The supplier does not say what became of it."

Reply = Accepted | Refused | NotDone | Unclear  # to a refill that was sent
Said = Status | Refused | Unclear  # of one that is followed


def follow(supplier_id: int) -> None:
    """Do what is due with a supplier, and make sure that a worker looks again when more is due.

    If another worker holds the lock, that one does it: it looks again after it has released the lock.
    """
    while not queue.is_stopping():
        with lane_of(supplier_id) as lane:
            if not lane.is_open:
                queue.wake_unless_due(FOLLOW, {"supplier": supplier_id}, timezone.now() + NO_PLACE)
                return
            with _alone_with(supplier_id) as is_alone:
                if not is_alone:
                    return
                turn = _Turn(Supplier.objects.get(pk=supplier_id), lane)
                turn.take()
        # Look without the lock: a worker that could not get it has already committed.
        next_at = turn.next_at()
        if next_at is None:
            return
        if next_at > timezone.now():
            queue.wake_unless_due(FOLLOW, {"supplier": supplier_id}, next_at)
            return
        if turn.is_over():
            queue.wake(FOLLOW, {"supplier": supplier_id})
            return


def sweep() -> None:
    """Wake the worker for each supplier with work that is due: a job may have been lost with its worker."""
    now = timezone.now()
    due = Dispatch.objects.filter(Q(next_at__lte=now) | Q(state=DispatchState.SENDING), ended_at=None)
    for supplier in due.order_by().values_list("supplier", flat=True).distinct():
        queue.wake_unless_due(FOLLOW, {"supplier": supplier}, now)


@contextlib.contextmanager
def _alone_with(supplier_id: int) -> Iterator[bool]:
    """Yield whether this is the only worker that now deals with the supplier."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [LOCK, supplier_id])
        [is_alone] = cursor.fetchone()
    try:
        yield is_alone
    finally:
        # If the connection was lost, so was the lock, and there is nothing to give back.
        if is_alone and connection.connection is not None and not connection.connection.closed:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [LOCK, supplier_id])


class _Turn:
    """One turn of work with one supplier."""

    def __init__(self, supplier: Supplier, lane: Lane) -> None:
        self.supplier, self.lane = supplier, lane
        self.traffic = Traffic(supplier)
        self.texts = KnownTexts()
        self.ends_at = time.monotonic() + TURN

    def is_over(self) -> bool:
        return queue.is_stopping() or time.monotonic() >= self.ends_at

    def must_end(self) -> bool:
        return self.is_over() or self.lane.is_blocked()

    def take(self) -> None:
        """Do what is due, until nothing is, the supplier rests, its limit is spent, or the turn is over."""
        self._take_over()
        self._end_what_was_settled()
        self._give_up()
        # One of each in turn: many refills to send must not keep those that were sent from being followed.
        steps: tuple[Callable[[], bool], ...] = (self._poll, self._ask, self._send)
        while not self.supplier.paused and not self.must_end():
            worked = [step() for step in steps]
            if not any(worked):
                return

    def next_at(self) -> datetime | None:
        """Return when something is next due, which may be in the past; None: nothing is."""
        if self.supplier.paused:
            return None
        is_mine = Q(refill__status__in=IN_FLIGHT)
        if self.supplier.mode == Supplier.Mode.OFF:
            is_mine &= ~Q(state=DispatchState.WAITING)
        found = self._open().aggregate(
            due=Min("next_at", filter=is_mine),
            settled=Min("refill__settled_at", filter=Q(next_at__isnull=False)),
        )
        moments = []
        if found["due"]:
            moments.append(max(filter(None, [found["due"], self.traffic.stops_until()])))
        if found["settled"]:
            moments.append(found["settled"] + timedelta(seconds=settings.UNDO_SECONDS))
        return min(moments, default=None)

    def _open(self) -> QuerySet[Dispatch]:
        return Dispatch.objects.filter(supplier=self.supplier, ended_at=None)

    def _due(self, state: DispatchState) -> QuerySet[Dispatch]:
        due = self._open().filter(state=state, next_at__lte=timezone.now(), refill__status__in=IN_FLIGHT)
        return due.order_by("next_at", "refill_id")

    # ---- What was left by others

    def _take_over(self) -> None:
        """Mark as unclear what a worker that has ended was sending. Nobody else sends: this turn has the lock."""
        with lock(self._open().filter(state=DispatchState.SENDING)) as locked:
            for _, dispatch in locked.rows:
                locked.write(dispatch, DispatchState.UNCLEAR, LOST, next_at=locked.now)
                locked.record(dispatch, DispatchStep.Kind.SEND, LOST)

    def _end_what_was_settled(self) -> None:
        """End the following of refills that agents settled, once they cannot undo that."""
        final = timezone.now() - timedelta(seconds=settings.UNDO_SECONDS)
        with lock(self._open().filter(refill__settled_at__lte=final)) as locked:
            for refill, dispatch in locked.rows:
                if refill.status in SETTLED:
                    locked.write(dispatch, DispatchState.SETTLED, dispatch.words)
                    locked.record(dispatch, DispatchStep.Kind.DECISION, BY_HAND, by=refill.settled_by_id)

    def _give_up(self) -> None:
        """Give up what the supplier has not settled for SUPPLIER_DAYS. An agent decides then."""
        since = timezone.now() - timedelta(days=settings.SUPPLIER_DAYS)
        with lock(self._open().filter(asked_at__lte=since)) as locked:
            for _, dispatch in locked.rows:
                locked.write(dispatch, DispatchState.GIVEN_UP, dispatch.words)
                locked.record(dispatch, DispatchStep.Kind.ASK, f"Not settled within {settings.SUPPLIER_DAYS} days.")

    # ---- Sending

    def _send(self) -> bool:
        """Send the refill that has been due longest. Returns whether there was one."""
        if self.supplier.mode == Supplier.Mode.OFF:
            return False
        found = self._due(DispatchState.WAITING).first()
        if found is None or not self.traffic.may_ask():
            return False
        with lock(Dispatch.objects.filter(pk=found.pk)) as locked:
            [(refill, dispatch)] = locked.rows
            if dispatch.state != DispatchState.WAITING or not dispatch.next_at or dispatch.next_at > locked.now:
                return True  # somebody decided meanwhile
            if refill.status not in IN_FLIGHT:
                return True
            if dispatch.on_approval and refill.status != RefillStatus.APPROVED:
                locked.write(dispatch, DispatchState.SETTLED, dispatch.words)
                locked.record(dispatch, DispatchStep.Kind.DECISION, UNDONE)
                return True
            dispatch.attempts, dispatch.sent_at = dispatch.attempts + 1, locked.now
            locked.write(dispatch, DispatchState.SENDING, dispatch.words)
        # From here on the refill may be at the supplier, whatever happens to this worker.
        reply, took = self.traffic.timed(
            lambda: supplier_api.request_refill(self.supplier, refill.order.supplier_order)
        )
        self._sent(refill.pk, dispatch.attempts, reply, took)
        return True

    def _sent(self, refill_id: str, attempt: int, reply: Reply, milliseconds: int) -> None:
        """Record what came of an attempt to send a refill."""
        with lock(Dispatch.objects.filter(pk=refill_id)) as locked:
            [(refill, dispatch)] = locked.rows
            awaited = {DispatchState.SENDING, DispatchState.UNCLEAR}
            if isinstance(reply, Accepted):  # an agent may have decided to send it again
                awaited |= {DispatchState.WAITING}
            if dispatch.attempts == attempt and dispatch.state in awaited:
                self._conclude(locked, refill, dispatch, reply)
            locked.record(dispatch, DispatchStep.Kind.SEND, reply.words, milliseconds, attempt=attempt)

    def _conclude(self, locked: Locked, refill: Refill, dispatch: Dispatch, reply: Reply) -> None:
        match reply:
            case Accepted(supplier_refill, words):
                dispatch.supplier_refill = supplier_refill
                locked.write(dispatch, DispatchState.SENT, words, next_at=self._next_poll(locked.now))
                self._approve([refill.pk])
            case Refused(words):
                self._refused(locked, refill, dispatch, words)
            case NotDone(words):
                locked.write(dispatch, DispatchState.WAITING, words, next_at=locked.now + TRY_AGAIN_AFTER)
            case Unclear(words):
                locked.write(dispatch, DispatchState.UNCLEAR, words, next_at=locked.now + ASK_AFTER[0])

    def _refused(self, locked: Locked, refill: Refill, dispatch: Dispatch, words: str) -> None:
        """Do what the list of answers says about a refusal: reject, send again later, or let an agent decide."""
        known = self.texts.find(words)
        dispatch.breaks_promise = known is not None and known.breaks_promise
        if known is not None and known.hours is not None:
            locked.write(dispatch, DispatchState.WAITING, words, next_at=locked.now + timedelta(hours=known.hours))
            return
        locked.write(dispatch, DispatchState.REFUSED, words)
        if known is not None and known.reason is not None:
            change = StatusChange(RefillStatus.REJECTED, reason=known.reason)
            # An agent who is working on the refill sees the refusal, and decides.
            change_status([refill.pk], change, self.supplier.account, via=Transition.Via.SUPPLIER)

    # ---- Asking about what is unclear

    def _ask(self) -> bool:
        """Ask for an unclear refill by its order. Returns whether there was one."""
        found = self._due(DispatchState.UNCLEAR).select_related("refill__order").first()
        if found is None or not self.traffic.may_ask():
            return False
        order = found.refill.order.supplier_order
        reply, milliseconds = self.traffic.timed(lambda: supplier_api.latest_refill(self.supplier, order))
        with lock(Dispatch.objects.filter(pk=found.pk)) as locked:
            [(refill, dispatch)] = locked.rows
            if dispatch.state != DispatchState.UNCLEAR:
                return True
            if isinstance(reply, Status) and self._is_the_lost_one(dispatch, reply):
                dispatch.supplier_refill = reply.refill
                locked.write(dispatch, DispatchState.SENT, reply.words, next_at=self._next_poll(locked.now))
                self._approve([refill.pk])
            else:
                asked = dispatch.asked + 1
                next_at = locked.now + ASK_AFTER[asked] if asked < len(ASK_AFTER) else None
                locked.write(dispatch, DispatchState.UNCLEAR, dispatch.words, next_at=next_at, asked=asked)
            locked.record(dispatch, DispatchStep.Kind.ASK, reply.words, milliseconds)
        return True

    def _is_the_lost_one(self, dispatch: Dispatch, reply: Status) -> bool:
        """Return whether the latest refill of the order at the supplier is the one whose answer was lost.

        A supplier has at most one refill of an order in flight. A settled one may be an earlier refill that did not
        come from us, so an agent must look.
        """
        if reply.progress != Progress.IN_PROGRESS or not reply.refill:
            return False
        others = Dispatch.objects.filter(supplier=self.supplier, refill__order=dispatch.refill.order_id)
        return not others.exclude(pk=dispatch.pk).filter(supplier_refill=reply.refill).exists()

    # ---- Following what was sent

    def _poll(self) -> bool:
        """Ask what became of up to a hundred refills. Returns whether there were any."""
        found = list(self._due(DispatchState.SENT)[: supplier_api.LARGEST_BATCH])
        if not found or not self.traffic.may_ask():
            return False
        if len(found) > 1:
            batch = [dispatch.supplier_refill for dispatch in found]
            replies, milliseconds = self.traffic.timed(lambda: supplier_api.refill_statuses(self.supplier, batch))
            if isinstance(replies, dict):
                self._polled(found, replies, milliseconds)
                return True
            if is_failure(replies):
                self._put_off(found, replies.words)
                return True
            # It does not take a list, so it is asked for each.
        for number, dispatch in enumerate(found):
            if (number or len(found) > 1) and (self.must_end() or not self.traffic.may_ask()):
                return False
            ask = functools.partial(supplier_api.refill_status, self.supplier, dispatch.supplier_refill)
            reply, milliseconds = self.traffic.timed(ask)
            if isinstance(reply, NotDone) or is_failure(reply):
                self._put_off(found[number:], reply.words)
                return True
            self._polled([dispatch], {dispatch.supplier_refill: reply}, milliseconds)
        return True

    def _put_off(self, found: Iterable[Dispatch], words: str) -> None:
        """Ask again later about refills of which the supplier said nothing at all."""
        with lock(Dispatch.objects.filter(pk__in=[dispatch.pk for dispatch in found])) as locked:
            for _, dispatch in locked.rows:
                if dispatch.state == DispatchState.SENT:
                    next_at = self._next_poll(locked.now)
                    locked.write(dispatch, DispatchState.SENT, words, next_at=next_at, asked=dispatch.asked)

    def _polled(self, found: Iterable[Dispatch], replies: dict[str, Said], milliseconds: int) -> None:
        """Record what the supplier says of refills that were sent, and settle those that it has settled."""
        with lock(Dispatch.objects.filter(pk__in=[dispatch.pk for dispatch in found])) as locked:
            rows = [
                (refill, dispatch)
                for refill, dispatch in locked.rows
                if dispatch.state == DispatchState.SENT and refill.status in IN_FLIGHT
            ]
            nothing = Unclear(SILENT, answered=True)
            said = {refill.pk: replies.get(dispatch.supplier_refill, nothing) for refill, dispatch in rows}
            settled = self._settle(said)
            for refill, dispatch in rows:
                reply = said[refill.pk]
                is_news = reply.words != dispatch.words
                if refill.pk in settled:
                    locked.write(dispatch, DispatchState.SETTLED, reply.words)
                elif isinstance(reply, Status):  # in progress; or settled, while an agent works on it: asked again
                    locked.write(dispatch, DispatchState.SENT, reply.words, next_at=self._next_poll(locked.now))
                else:
                    self._not_said(locked, dispatch, reply)
                if is_news or dispatch.state != DispatchState.SENT:
                    locked.record(dispatch, DispatchStep.Kind.ASK, reply.words, milliseconds)

    def _settle(self, said: dict[str, Said]) -> set[str]:
        """Change the status of refills as the supplier says. Returns the ids of the refills that it settled."""
        changes: dict[StatusChange, list[str]] = {}
        for refill, reply in said.items():
            if isinstance(reply, Status):
                changes.setdefault(self._change(reply), []).append(refill)
        settled: set[str] = set()
        for change, refills in changes.items():
            outcome = change_status(refills, change, self.supplier.account, via=Transition.Via.SUPPLIER)
            if change.to in SETTLED:
                settled |= {refill.pk for refill in outcome.done}
        return settled

    def _change(self, reply: Status) -> StatusChange:
        match reply.progress:
            case Progress.COMPLETED:
                return StatusChange(RefillStatus.COMPLETED)
            case Progress.REJECTED:
                return StatusChange(RefillStatus.REJECTED, reason=self.texts.reason_of_rejection(reply.words))
        return StatusChange(RefillStatus.APPROVED)

    def _not_said(self, locked: Locked, dispatch: Dispatch, reply: Refused | Unclear) -> None:
        """Ask again about a refill, until it is clear that an agent has to decide."""
        known = self.texts.find(reply.words) if isinstance(reply, Refused) else None
        asked = dispatch.asked + 1
        if asked >= PATIENCE or (known is not None and known.action == SupplierText.Action.PERSON):
            locked.write(dispatch, DispatchState.UNCLEAR, reply.words, asked=asked)
        else:
            next_at = self._next_poll(locked.now)
            locked.write(dispatch, DispatchState.SENT, reply.words, next_at=next_at, asked=asked)

    def _approve(self, refills: list[str]) -> None:
        """Approve refills (ids) that the supplier has accepted, unless they already are or an agent works on them."""
        change_status(refills, StatusChange(RefillStatus.APPROVED), self.supplier.account, via=Transition.Via.SUPPLIER)

    def _next_poll(self, now: datetime) -> datetime:
        return now + timedelta(seconds=self.supplier.poll_seconds)
