"""Audits the books: each invariant of orders, refills, their history, dispatches and deliveries is a statement.

The database's constraints and the locks of the code hold them. A statement looks for rows that break one all the same,
because somebody edited the database, restored it in part, or found a bug.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from django.conf import settings
from django.db import connection, transaction

from refills.figures import WRONG_FIGURES

SHOWN = 5  # violations of each invariant


@dataclass(frozen=True)
class Invariant:
    """What must hold, and the statement that returns what breaks it, a text each."""

    name: str
    holds: str  # a sentence
    violations: str  # SQL


@dataclass(frozen=True)
class Finding:
    """How often an invariant is broken."""

    invariant: Invariant
    count: int
    first: list[str]  # SHOWN at most


INVARIANTS = (
    Invariant(
        "in_flight",
        "An order has one refill in flight at most.",
        """
        SELECT 'order ' || "order".number
        FROM refills_refill AS refill JOIN orders_order AS "order" ON "order".id = refill.order_id
        WHERE refill.status IN ('pending', 'approved')
        GROUP BY "order".number HAVING count(*) > 1
        """,
    ),
    Invariant(
        "cap",
        "An order has no more refills than its cap allows today, rejected ones not counted.",
        """
        SELECT 'order ' || "order".number
        FROM refills_refill AS refill
            JOIN orders_order AS "order" ON "order".id = refill.order_id
            JOIN orders_service AS service ON service.id = "order".service_id
        WHERE refill.status <> 'rejected'
        GROUP BY "order".number, service.refill_limit
        HAVING count(*) > coalesce(nullif(service.refill_limit, 0), %(cap)s)
        """,
    ),
    Invariant(
        "order",
        "A refill has the account and the service of its order.",
        """
        SELECT 'refill ' || refill.number
        FROM refills_refill AS refill LEFT JOIN orders_order AS "order" ON "order".id = refill.order_id
        WHERE (refill.account_id, refill.service_id) IS DISTINCT FROM ("order".account_id, "order".service_id)
        """,
    ),
    Invariant(
        "status",
        "A refill has a status that is known, and the times and persons of that status.",
        """
        SELECT 'refill ' || number
        FROM refills_refill
        WHERE status NOT IN ('pending', 'approved', 'completed', 'rejected')
            OR (status IN ('completed', 'rejected')) IS DISTINCT FROM (settled_at IS NOT NULL)
            OR (settled_at IS NULL) IS DISTINCT FROM (settled_by_id IS NULL)
            OR (approved_at IS NULL) IS DISTINCT FROM (approved_by_id IS NULL)
            OR status = 'approved' AND approved_at IS NULL
            OR status = 'pending' AND approved_at IS NOT NULL
            OR delivered IS NOT NULL AND status <> 'completed'
            OR (reason_id IS NOT NULL OR reason_text <> '') AND status <> 'rejected'
            OR (claimed_at IS NULL) IS DISTINCT FROM (claimed_by_id IS NULL)
            OR (snoozed_until IS NULL) IS DISTINCT FROM (snoozed_by_id IS NULL)
            OR (claimed_at IS NOT NULL OR snoozed_until IS NOT NULL) AND status IN ('completed', 'rejected')
        """,
    ),
    Invariant(
        "times",
        "A refill is requested, then approved, then settled.",
        """
        SELECT 'refill ' || number
        FROM refills_refill
        WHERE approved_at < created_at OR settled_at < created_at OR settled_at < approved_at
        """,
    ),
    Invariant(
        "history",
        "The history of a refill begins with pending, has no gap, and ends with the status that it has.",
        """
        SELECT 'refill ' || refill.number
        FROM refills_refill AS refill
            LEFT JOIN LATERAL (
                SELECT (array_agg(to_status ORDER BY id DESC))[1] AS last, bool_or(from_status <> before) AS has_gap
                FROM (
                    SELECT id, from_status, to_status, lag(to_status, 1, 'pending') OVER (ORDER BY id) AS before
                    FROM refills_transition WHERE refill_id = refill.id
                ) AS step
            ) AS history ON true
        WHERE history.has_gap OR coalesce(history.last, 'pending') <> refill.status
        """,
    ),
    Invariant(
        "changes",
        "A refill carries a transaction of this server. If one does not, run `manage.py mendrefilllist`.",
        """
        SELECT 'refill ' || number
        FROM refills_refill
        WHERE changed_in >= pg_snapshot_xmax(pg_current_snapshot())
            AND changed_in IS DISTINCT FROM pg_current_xact_id_if_assigned()
        """,
    ),
    Invariant(
        "dispatch",
        "A dispatch has the times and the supplier's id of its state, and the steps of its attempts.",
        """
        SELECT 'refill ' || refill.number
        FROM refills_dispatch AS dispatch JOIN refills_refill AS refill ON refill.id = dispatch.refill_id
        WHERE (dispatch.ended_at IS NOT NULL) IS DISTINCT FROM (dispatch.state IN ('refused', 'settled', 'given_up'))
            OR dispatch.state IN ('waiting', 'sent') AND dispatch.next_at IS NULL
            OR dispatch.state = 'sent' AND dispatch.supplier_refill = ''
            OR dispatch.attempts > 0 AND dispatch.state IN ('sent', 'refused', 'settled') AND NOT EXISTS (
                SELECT FROM refills_dispatchstep AS step WHERE step.dispatch_id = dispatch.refill_id
            )
        """,
    ),
    Invariant(
        "supplier",
        "No two refills are followed under the same id of a supplier.",
        """
        SELECT 'supplier ' || supplier_id || ', refill ' || supplier_refill
        FROM refills_dispatch WHERE supplier_refill <> '' AND ended_at IS NULL
        GROUP BY supplier_id, supplier_refill HAVING count(*) > 1
        """,
    ),
    Invariant(
        "delivery",
        "A delivery tells the owner of its endpoint about a refill of the same account, and goes on or has ended.",
        """
        SELECT 'delivery ' || delivery.id
        FROM apikeys_webhookdelivery AS delivery
            JOIN apikeys_webhookendpoint AS endpoint ON endpoint.id = delivery.endpoint_id
            LEFT JOIN refills_refill AS refill ON refill.id = delivery.subject
        WHERE (delivery.state = 'waiting') IS DISTINCT FROM (delivery.next_at IS NOT NULL)
            OR delivery.attempts > 0 AND delivery.attempted_at IS NULL
            OR delivery.subject IS NOT NULL AND refill.account_id IS DISTINCT FROM endpoint.account_id
        """,
    ),
    Invariant(
        "superuser",
        "At least one superuser, who manages the staff, may sign in.",
        """
        SELECT 'no active superuser'
        WHERE NOT EXISTS (SELECT FROM apikeys_account WHERE is_superuser AND is_staff AND is_active)
        """,
    ),
    Invariant(
        "figures",
        "The start page's figures count what there is. If one does not, run `manage.py rebuildfigures`.",
        WRONG_FIGURES,
    ),
    Invariant(
        "guards",
        "The triggers, constraints and indexes that guard these tables are in force.",
        """
        SELECT 'trigger ' || tgname || ' of ' || tgrelid::regclass
        FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
        WHERE tgenabled IN ('D', 'R') AND relnamespace = current_schema()::regnamespace
        UNION ALL
        SELECT 'constraint ' || conname || ' of ' || conrelid::regclass
        FROM pg_constraint WHERE NOT convalidated AND connamespace = current_schema()::regnamespace
        UNION ALL
        SELECT 'index ' || indexrelid::regclass
        FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
        WHERE NOT indisvalid AND relnamespace = current_schema()::regnamespace
        """,
    ),
)
NAMES = tuple(invariant.name for invariant in INVARIANTS)


def audit(skipped: frozenset[str] = frozenset()) -> list[Finding]:
    """Look for violations in one snapshot, without locks: requests go on meanwhile. ``skipped`` names invariants."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            cursor.execute("SET LOCAL statement_timeout = 0")
        return list(findings(skipped))


def findings(skipped: frozenset[str] = frozenset()) -> Iterator[Finding]:
    """Yield each invariant that the current transaction sees broken. One statement for each."""
    for invariant in INVARIANTS:
        if invariant.name in skipped:
            continue
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*), (array_agg(what ORDER BY what))[:%(shown)s] "  # noqa: S608 (both are written above)
                f"FROM ({invariant.violations}) AS violation (what)",
                {"cap": settings.REFILL_LIMIT, "shown": SHOWN},
            )
            count, first = cursor.fetchone()
        if count:
            yield Finding(invariant, count, first)
