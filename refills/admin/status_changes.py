"""How staff change a status at the desk: a refill's page, a row's buttons and bulk actions call ``apply_change``."""

from collections import defaultdict

from django.contrib import messages

from apikeys.models import Account
from apikeys.requests import SignedInRequest
from notpanel.kit.refusals import Refusal
from refills.models import Refill
from refills.settlement import StatusChange, change_status

NAMED = 5  # refused refills that a message names for each cause


def may_settle(account: Account) -> bool:
    """Return whether the account may settle and claim refills."""
    return account.has_perm("refills.settle_refill")


def apply_change(request: SignedInRequest, refills: list[str], change: StatusChange) -> list[Refill]:
    """Make the change to refills (ids), and tell the agent what was done and what was refused.

    Returns the refills that were changed.
    """
    try:
        outcome = change_status(refills, change, request.user)
    except Refusal as refusal:
        messages.error(request, refusal.text)
        return []
    done = f"{_refills_were(len(outcome.done))} {change.to.label.lower()}."
    if outcome.refused:
        refused = f"{_refills_were(len(outcome.refused))} refused. {_causes(outcome.refused)}"
        messages.warning(request, f"{done} {refused}")
    else:
        messages.success(request, done)
    return outcome.done


def _refills_were(count: int) -> str:
    return "1 refill was" if count == 1 else f"{count or 'No'} refills were"


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
