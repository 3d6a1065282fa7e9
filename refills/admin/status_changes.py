"""How staff change a status at the desk: a refill's page, a row's buttons and bulk actions call ``apply_change``."""

from collections import defaultdict
from datetime import datetime

from django.contrib import messages
from django.contrib.auth.models import AnonymousUser
from django.template.loader import render_to_string

from apikeys.models import Account
from apikeys.requests import SignedInRequest
from notpanel.kit.refusals import Refusal
from notpanel.kit.times import time_text
from refills.models import Refill
from refills.settlement import Outcome, StatusChange, change_status

LARGEST_SELECTION = 1000  # refills that an action takes at once
NAMED = 5  # refills that a message names: of those done, and for each cause of refusal


def may_settle(account: Account) -> bool:
    """Return whether the account may settle and claim refills."""
    return account.has_perm("refills.settle_refill")


def may_reopen(account: Account) -> bool:
    """Return whether the account may reopen refills that were settled earlier."""
    return account.has_perm("refills.reopen_refill")


def may_request(account: Account | AnonymousUser) -> bool:
    """Return whether the account may request refills for customers."""
    return account.has_perm("refills.request_refill")


def apply_change(request: SignedInRequest, refills: list[str], change: StatusChange) -> Outcome:
    """Make the change to refills (ids), and tell the agent what was done and what was refused."""
    try:
        outcome = change_status(refills, change, request.user)
    except Refusal as refusal:
        messages.error(request, refusal.text)
        return Outcome([], {})
    report(request, outcome, change.to.label.lower(), undoable=True)
    return outcome


def report(request: SignedInRequest, outcome: Outcome, participle: str, *, undoable: bool = False) -> None:
    """Tell the agent which refills were done, with a button to undo that, and which were refused, by cause."""
    undo_until: datetime | None = outcome.done[0].undoable_until if undoable and outcome.done else None
    context = {
        "done": f"{_refills_were(outcome.done)} {participle}.",
        "refused": f"{_count_were(len(outcome.refused))} refused. {_causes(outcome.refused)}"
        if outcome.refused
        else "",
        "refills": " ".join(refill.pk for refill in outcome.done),
        "undo_until": undo_until and undo_until.timestamp(),
    }
    level = messages.WARNING if outcome.refused else messages.SUCCESS
    messages.add_message(request, level, render_to_string("admin/refills/refill/report.html", context))


def report_snoozed(request: SignedInRequest, outcome: Outcome, until: datetime) -> None:
    """Tell the agent until when refills were snoozed, in the agent's time zone."""
    report(request, outcome, f"snoozed until {time_text(until)}")


def _refills_were(done: list[Refill]) -> str:
    """Return "Refill #7 was", "12 refills (#1, #2, … and 7 more) were" or "No refills were"."""
    if len(done) == 1:
        return f"Refill #{done[0].number} was"
    if not done:
        return "No refills were"
    return f"{len(done)} refills ({_named([f'#{refill.number}' for refill in done])}) were"


def _count_were(count: int) -> str:
    return "1 refill was" if count == 1 else f"{count} refills were"


def _causes(refused: dict[str, Refusal]) -> str:
    """Say why refills were refused, by their numbers, each cause once: ``#12, #15: completed by agent at …``."""
    numbers = dict(Refill.objects.filter(pk__in=refused).values_list("id", "number"))
    causes: dict[str, list[str]] = defaultdict(list)
    for refill_id, refusal in refused.items():
        causes[refusal.text].append(f"#{numbers[refill_id]}" if refill_id in numbers else "unknown")
    return " ".join(f"{_named(names)}: {cause}." for cause, names in causes.items())


def _named(names: list[str]) -> str:
    named = ", ".join(names[:NAMED])
    return named if len(names) <= NAMED else f"{named} and {len(names) - NAMED} more"
