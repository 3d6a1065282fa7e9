"""Find accounts for the staff, and balances for customers' programs."""

from collections.abc import Sequence
from decimal import Decimal

from django.db.models import F, Q, Value
from django.db.models.functions import Lower

from apikeys.models import Account, name_parts

SHORTEST_PART = 2  # characters of a name that are looked for anywhere in it


def find_accounts(names: Sequence[str], most: int) -> list[Account]:
    """Return the accounts whose user name or e-mail address contains any of ``names``, ignoring case.

    Those whose whole name it is come first. A name of one character must match the whole name. Two statements at most.
    """
    if not names:
        return []
    lowered = [Lower(Value(name)) for name in names]
    accounts = Account.objects.alias(lower_username=Lower("username"), lower_email=Lower("email"))
    whole = accounts.filter(Q(lower_username__in=lowered) | Q(lower_email__in=lowered)).order_by("username")
    found: list[Account] = list(whole[:most])
    part, pieces = Q(), Account.objects.alias(parts=name_parts(F("username"), F("email")))
    for name in names:
        if len(name) >= SHORTEST_PART:
            # The index finds the accounts that have all its pieces; only some have them in this order.
            has_pieces = Q(parts__contains=name_parts(Value(name), Value("")))
            part |= has_pieces & (Q(username__icontains=name) | Q(email__icontains=name))
    if part and len(found) < most:
        # Not ordered by name: a common part would mean sorting a large share of all accounts.
        others = pieces.filter(part).exclude(pk__in=[account.pk for account in found])
        found += others[: most - len(found)]
    return found


def find_balance(account_id: int) -> tuple[Decimal | None, str]:
    """Return the balance at the last import of accounts, None if it had none, and its currency. One statement."""
    return Account.objects.values_list("balance", "currency").get(pk=account_id)
