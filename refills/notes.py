"""Notes of staff on a refill, at any time. Customers never see them."""

from collections.abc import Iterable
from datetime import datetime

from django.db import transaction
from django.utils import timezone

from apikeys.models import Account
from refills.models import LONGEST_NOTE, Note, Refill
from refills.refusals import NoSuchRefill, NotANote
from refills.settlement import Outcome


def add_note(refills: Iterable[str], by: Account, text: str) -> Outcome:
    """Add a note to each of ``refills`` (ids), whatever its status. Raises NotANote."""
    text = checked(text)
    ids = list(dict.fromkeys(refills))
    with transaction.atomic():
        found = Refill.objects.in_bulk(ids)
        write(found.values(), by, timezone.now(), text)
    return Outcome(list(found.values()), {refill_id: NoSuchRefill() for refill_id in ids if refill_id not in found})


def checked(text: str) -> str:
    """Return the text of a note without blanks around it. Raises NotANote if it is empty or too long."""
    text = text.strip()
    if not text or len(text) > LONGEST_NOTE or "\x00" in text:
        raise NotANote(longest=LONGEST_NOTE)
    return text


def write(refills: Iterable[Refill], by: Account, now: datetime, text: str) -> None:
    """Write a checked note on each of the refills, in the order of their ids, because each insert locks its refill."""
    in_order = sorted(refills, key=lambda refill: refill.pk)
    Note.objects.bulk_create(Note(refill=refill, at=now, by=by, text=text) for refill in in_order)
