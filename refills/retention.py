"""How long dispatches are kept. Refills and their history stay: caps and ``refill_list`` read them."""

from datetime import timedelta

from django.conf import settings

from notpanel.kit.retention import Kept

# One that was given up stays: its refill may be with the supplier, and without it, an approval would send it again.
DISPATCHES = Kept(
    "dispatches to suppliers",
    kept_for=lambda: timedelta(days=settings.DISPATCH_DAYS) if settings.DISPATCH_DAYS else None,
    old="""
        SELECT dispatch.refill_id AS id
        FROM refills_dispatch AS dispatch JOIN refills_refill AS refill ON refill.id = dispatch.refill_id
        WHERE dispatch.ended_at < %(before)s AND dispatch.state IN ('settled', 'refused')
            AND refill.status IN ('completed', 'rejected') AND refill.settled_at < %(before)s
            AND NOT EXISTS (
                SELECT FROM refills_dispatchstep WHERE dispatch_id = dispatch.refill_id AND at >= %(before)s
            )
        ORDER BY dispatch.ended_at
    """,
    delete="""
        , steps AS (DELETE FROM refills_dispatchstep WHERE dispatch_id IN (SELECT id FROM old))
        DELETE FROM refills_dispatch WHERE refill_id IN (SELECT id FROM old)
    """,
    # A refill is locked before its dispatch (docs/locks.md). An agent who reopens it locks it more strongly.
    lock="FOR KEY SHARE OF refill SKIP LOCKED FOR UPDATE OF dispatch SKIP LOCKED",
)
ALL = (DISPATCHES,)
