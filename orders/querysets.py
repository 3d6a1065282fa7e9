"""The conditions on orders, each defined once."""

from collections.abc import Iterable
from typing import Self

from django.db.models import F, Func, Q, TextField, Value
from django.db.models.functions import Concat

from notpanel.kit.public_id import PublicIdQuerySet, parse
from orders.pasted import read, ways_to_write, without_scheme


class OrderQuerySet(PublicIdQuerySet):
    def matching(self, text: str) -> Self:
        """Return the orders that a pasted text names: by ids, numbers and links, several at once."""
        pasted = read(text)
        if pasted.is_too_long:
            return self.none()
        return self.pasted(pasted.ids, pasted.links)

    def pasted(self, ids: Iterable[str], links: Iterable[str]) -> Self:
        """Return the orders with any of ``ids`` (ids or numbers), and those on any of ``links``, however written.

        A link is found without its scheme, its ``www.``, its query or its trailing slash, ignoring case.
        """
        references = [parse("ord", text) for text in ids]
        found = Q(pk__in=[name for name in references if isinstance(name, str)])
        found |= Q(number__in=[name for name in references if isinstance(name, int)])
        for link in links:
            same, longer = ways_to_write(link)
            found |= Q(link_key__in=[link_key(Value(way)) for way in same])
            for start in longer:
                # The last character is put back: the key of a link ends before it.
                found |= Q(link_key__startswith=Concat(link_key(Value(start[:-1])), Value(start[-1])))
        return self.alias(link_key=link_key(F("link"))).filter(found)

    def found_by(self, text: str) -> Self:
        """Return the orders that a pasted text names or, if none has it as its link, those whose links contain it.

        No index serves a part of a link: that reads all of these orders, which must be those of one account
        (docs/decisions/0009-parts-of-names-without-pg-trgm.md). So whole links are asked for first, by a statement of
        their own.
        """
        pasted, part = read(text), without_scheme(text)
        if pasted.is_too_long or pasted.ids or len(pasted.links) > 1 or not part:
            return self.matching(text)
        if pasted.links and (whole := self.pasted([], pasted.links)).exists():
            return whole
        return self.filter(link__icontains=part)


def link_key(link: F | Value) -> Func:
    """Return what all ways to write a link have in common (migration 0006). The index ``order_by_link_key`` has it."""
    return Func(link, function="orders_link_key", output_field=TextField())
