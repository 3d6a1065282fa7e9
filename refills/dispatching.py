"""Queue refills to be sent to their suppliers, and record what agents decide. ``refills.following`` sends them."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from apikeys.models import Account
from notpanel.kit import queue
from notpanel.kit.public_id import to_uuid
from notpanel.kit.sql import fetch
from refills.models import Dispatch, DispatchStep, Refill
from refills.refusals import DispatchDecided, NotASupplierRefill
from refills.statuses import IN_FLIGHT, DispatchState
from refills.supplier_answers import LONGEST_ID

FOLLOW = "refills.tasks.follow_supplier"  # the task, which takes the id of a supplier

# In the order of the refills' ids (docs/locks.md). A supplier that is not automatic gets nothing here.
INSERT_REQUESTED = """
    INSERT INTO refills_dispatch (refill_id, supplier_id, state, on_approval, asked_at, next_at, attempts, asked,
        supplier_refill, words, breaks_promise)
    SELECT made.refill_id, supplier.id, 'waiting', false, %(now)s, %(now)s, 0, 0, '', '', false
    FROM unnest(%(refills)b::uuid[], %(suppliers)s::bigint[]) AS made (refill_id, supplier_id)
        JOIN orders_supplier AS supplier ON supplier.id = made.supplier_id AND supplier.mode = 'automatic'
    ORDER BY made.refill_id
    RETURNING supplier_id
"""
# A refill that was approved again is sent again, unless it is or may be with the supplier.
INSERT_APPROVED = """
    INSERT INTO refills_dispatch (refill_id, supplier_id, state, on_approval, asked_at, next_at, attempts, asked,
        supplier_refill, words, breaks_promise)
    SELECT refill.id, supplier.id, 'waiting', true, %(now)s, %(next_at)s, 0, 0, '', '', false
    FROM refills_refill AS refill
        JOIN orders_order AS "order" ON "order".id = refill.order_id AND "order".supplier_order <> ''
        JOIN orders_service AS service ON service.id = refill.service_id
        JOIN orders_supplier AS supplier ON supplier.id = service.supplier_id AND supplier.mode <> 'off'
    WHERE refill.id = ANY(%(refills)b::uuid[])
    ORDER BY refill.id
    ON CONFLICT (refill_id) DO UPDATE
    SET supplier_id = excluded.supplier_id, state = 'waiting', on_approval = true, asked_at = excluded.asked_at,
        next_at = excluded.next_at, asked = 0, supplier_refill = '', breaks_promise = false, ended_at = NULL
    WHERE refills_dispatch.state IN ('refused', 'settled')
        OR refills_dispatch.state = 'waiting' AND refills_dispatch.on_approval
    RETURNING supplier_id
"""


def send_requested(suppliers: Mapping[str, int], now: datetime) -> None:
    """Send new refills to their suppliers, if those are automatic. ``suppliers`` maps refills' ids to suppliers' ids.

    Call it in the transaction that inserts the refills. Two statements, or one if no supplier is automatic.
    """
    rows = fetch(
        INSERT_REQUESTED,
        {"refills": [to_uuid(refill) for refill in suppliers], "suppliers": list(suppliers.values()), "now": now},
    )
    _wake({supplier for [supplier] in rows})


def send_approved(refills: Iterable[str], now: datetime) -> None:
    """Send refills (ids) that an agent has just approved to their suppliers, once the approval cannot be undone.

    Call it in the transaction that approves them. Two statements, or one if none has a supplier.
    """
    next_at = now + timedelta(seconds=settings.UNDO_SECONDS)
    rows = fetch(INSERT_APPROVED, {"refills": [to_uuid(refill) for refill in refills], "now": now, "next_at": next_at})
    _wake({supplier for [supplier] in rows}, at=next_at)


def send_again(refill: Refill, by: Account) -> None:
    """Send a refill again: ``by`` knows that the supplier does not have it. Raises DispatchDecided."""
    with transaction.atomic():
        dispatch = _lock_for_decision(refill)
        now = timezone.now()
        dispatch.state, dispatch.next_at, dispatch.ended_at = DispatchState.WAITING, now, None
        dispatch.asked_at, dispatch.asked, dispatch.breaks_promise, dispatch.supplier_refill = now, 0, False, ""
        # Its refill may be pending, if the supplier had not accepted it, or approved.
        dispatch.on_approval = False
        _decided(dispatch, by, now, "Not there: send it again.")
        _wake({dispatch.supplier_id})


def is_with_supplier(refill: Refill, supplier_refill: str, by: Account) -> None:
    """Follow a refill that ``by`` found at the supplier under this id. Raises DispatchDecided or NotASupplierRefill."""
    supplier_refill = supplier_refill.strip()
    if not supplier_refill or len(supplier_refill) > LONGEST_ID or "," in supplier_refill:
        raise NotASupplierRefill(longest=LONGEST_ID)
    with transaction.atomic():
        dispatch = _lock_for_decision(refill)
        now = timezone.now()
        dispatch.state, dispatch.supplier_refill = DispatchState.SENT, supplier_refill
        dispatch.next_at, dispatch.ended_at, dispatch.asked, dispatch.asked_at = now, None, 0, now
        dispatch.attempts, dispatch.sent_at = max(dispatch.attempts, 1), dispatch.sent_at or now
        _decided(dispatch, by, now, f"It is there: {supplier_refill}.")
        _wake({dispatch.supplier_id})


def _lock_for_decision(refill: Refill) -> Dispatch:
    in_flight = Refill.objects.select_for_update().filter(pk=refill.pk, status__in=IN_FLIGHT).exists()
    dispatch = Dispatch.objects.select_for_update().filter(pk=refill.pk).first()
    if not in_flight or dispatch is None or not dispatch.waits_for_decision:
        raise DispatchDecided
    return dispatch


def _decided(dispatch: Dispatch, by: Account, now: datetime, words: str) -> None:
    dispatch.save()
    DispatchStep.objects.create(
        dispatch=dispatch,
        at=now,
        kind=DispatchStep.Kind.DECISION,
        attempt=dispatch.attempts,
        state=dispatch.state,
        words=words,
        by=by,
    )


def _wake(suppliers: set[int], at: datetime | None = None) -> None:
    queue.wake(FOLLOW, *({"supplier": supplier} for supplier in sorted(suppliers)), at=at)
