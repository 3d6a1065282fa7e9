"""Erase a customer's personal data on request, and keep the books: orders, refills, their times, counts and charges."""

from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from apikeys import erasing
from apikeys.models import Account
from apikeys.refusals import CannotEraseStaff
from orders.models import Supplier
from refills.refusals import RefillsInFlight

# An import of orders, which inserts rows that refer to accounts, ends first: it locks the table, then accounts.
LOCK_OUT_IMPORTS = "LOCK TABLE orders_order IN ROW EXCLUSIVE MODE"
# A request that waits for one of these orders finds no order once its link is erased (``requesting.LOCK_ORDERS``).
LOCK_ORDERS = """
    SELECT count(*) FROM (SELECT FROM orders_order WHERE account_id = %(account)s ORDER BY id FOR UPDATE) AS locked
"""
LOCK_REFILLS = """
    SELECT count(*) FROM (SELECT FROM refills_refill WHERE account_id = %(account)s ORDER BY id FOR UPDATE) AS locked
"""
OPEN = """
    SELECT count(*)
    FROM refills_refill AS refill LEFT JOIN refills_dispatch AS dispatch ON dispatch.refill_id = refill.id
    WHERE refill.account_id = %(account)s
        AND (refill.status IN ('pending', 'approved') OR dispatch.refill_id IS NOT NULL AND dispatch.ended_at IS NULL)
"""
# Words from the list of reasons say nothing about a customer. A supplier's words may quote a link.
_WORDS = """
    note = CASE WHEN note <> '' THEN '(erased)' ELSE '' END,
    reason_text = CASE
        WHEN reason_text = '' OR reason_text IN (SELECT text FROM refills_rejectionreason) THEN reason_text
        ELSE '(erased)'
    END
"""
ERASURES = (
    "UPDATE orders_order SET link = 'erased:' || number WHERE account_id = %(account)s",
    f"""
    UPDATE refills_refill SET {_WORDS}
    WHERE account_id = %(account)s AND (note <> '' OR reason_text <> '')
    """,  # noqa: S608  # made of constants
    f"""
    UPDATE refills_transition SET {_WORDS}
    WHERE refill_id IN (SELECT id FROM refills_refill WHERE account_id = %(account)s)
        AND (note <> '' OR reason_text <> '')
    """,  # noqa: S608  # made of constants
    """
    UPDATE refills_note SET text = '(erased)'
    WHERE refill_id IN (SELECT id FROM refills_refill WHERE account_id = %(account)s)
    """,
    """
    UPDATE refills_dispatch SET words = '(erased)'
    WHERE refill_id IN (SELECT id FROM refills_refill WHERE account_id = %(account)s) AND words <> ''
    """,
    """
    UPDATE refills_dispatchstep SET words = '(erased)'
    WHERE dispatch_id IN (SELECT id FROM refills_refill WHERE account_id = %(account)s) AND words <> ''
    """,
)


@dataclass(frozen=True)
class Erased:
    """An account that was erased, and how much of it is kept."""

    account: Account
    orders: int
    refills: int


def erase_customer(account_id: int) -> Erased:
    """Erase everything personal of a customer in one transaction, which locks the account and its orders.

    Call it again to erase what a concurrent request has left since. Raises CannotEraseStaff, also for the account of a
    supplier, and RefillsInFlight.
    """
    which = {"account": account_id}
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 0")
            cursor.execute(LOCK_OUT_IMPORTS)
        now = timezone.now()
        account = erasing.close(account_id, now)
        if Supplier.objects.filter(account=account).exists():
            raise CannotEraseStaff
        orders, refills, still_open = (_count(statement, which) for statement in (LOCK_ORDERS, LOCK_REFILLS, OPEN))
        if still_open:
            raise RefillsInFlight(count=still_open)
        with connection.cursor() as cursor:
            for statement in ERASURES:
                cursor.execute(statement, which)
        erasing.erase(account, now)
    return Erased(account, orders, refills)


def _count(statement: str, which: dict[str, Any]) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement, which)
        return int(cursor.fetchone()[0])
