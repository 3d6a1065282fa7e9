"""Find accounts for the staff."""

from collections.abc import Sequence

from django.db.models import Case, F, IntegerField, Q, QuerySet, Value, When
from django.db.models.functions import Lower

from apikeys.models import Account, name_parts

SHORTEST_PART = 2  # characters of a name that are looked for anywhere in it


def accounts_named(names: Sequence[str]) -> QuerySet[Account]:
    """Return the accounts whose user name or e-mail address has any of ``names`` in it, in either case.

    Those whose whole name it is come first, then the others by their user names. A name of one character must be the
    whole user name.
    """
    found, whole = Q(), Q()
    for name in names:
        whole |= Q(lower_username=Lower(Value(name))) | Q(lower_email=Lower(Value(name)))
        if len(name) < SHORTEST_PART:
            found |= Q(username=name)
        else:
            # The index finds the accounts that have all its pieces; only some have them in this order.
            has_pieces = Q(parts__contains=name_parts(Value(name), Value("")))
            found |= has_pieces & (Q(username__icontains=name) | Q(email__icontains=name))
    return (
        Account.objects.alias(
            parts=name_parts(F("username"), F("email")),
            lower_username=Lower("username"),
            lower_email=Lower("email"),
            rank=Case(When(whole, then=0), default=1, output_field=IntegerField()),
        )
        .filter(found)
        .order_by("rank", "username")
        if names
        else Account.objects.none()
    )
