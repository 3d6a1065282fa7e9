"""Keep the first answer to a request that has a request_id, and give it to each repetition.

The API's parameter ``request_id`` (docs/contract.md, "action=refill") is an idempotency key.
"""

from collections.abc import Callable
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from notpanel.kit.refusals import RequestIdUsed, ServiceUnavailable
from notpanel.kit.rendered import Rendered
from notpanel.kit.sql import execute, fetch

KEPT_FOR = timedelta(hours=24)  # apikeys/retention.py deletes what is older

# The unique constraint makes the second of two equal requests wait here until the first one's transaction ends.
CLAIM = """
    INSERT INTO apikeys_keptanswer (account_id, request_id, digest, created_at, status, code, body)
    VALUES (%(account)s, %(request_id)s, %(digest)s, %(now)s, 0, '', '')
    ON CONFLICT (account_id, request_id) DO NOTHING
    RETURNING id
"""
KEEP = "UPDATE apikeys_keptanswer SET status = %(status)s, code = %(code)s, body = %(body)s WHERE id = %(id)s"
FIND = """
    SELECT digest, status, code, body FROM apikeys_keptanswer
    WHERE account_id = %(account)s AND request_id = %(request_id)s
"""


def answer_once(account_id: int, request_id: str, digest: str, answer: Callable[[], Rendered]) -> tuple[Rendered, bool]:
    """Return the answer to the account's request, and whether it is the kept answer to an earlier one.

    ``answer`` runs in the transaction that keeps its result. If it raises, so does this, and nothing is kept. A
    repetition waits while the first request is still running. Raises RequestIdUsed if the first had a different
    ``digest``.
    """
    claim = {"account": account_id, "request_id": request_id, "digest": digest, "now": timezone.now()}
    with transaction.atomic():
        if claimed := fetch(CLAIM, claim):
            answered = answer()
            execute(KEEP, {"id": claimed[0][0], **answered._asdict()})
            return answered, False
        kept = fetch(FIND, claim)
    if not kept:  # it was old, and was deleted between the two statements
        raise ServiceUnavailable
    [(first_digest, *first)] = kept
    if first_digest != digest:
        raise RequestIdUsed
    return Rendered(*first), True
