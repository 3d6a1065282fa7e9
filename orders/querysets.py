"""Every condition on orders, once."""

from typing import Self

from notpanel.kit.public_id import PublicIdQuerySet, parse


class OrderQuerySet(PublicIdQuerySet):
    def matching(self, text: str) -> Self:
        """Return the orders that ``text`` names: the order of an id or a number, or all orders of a link."""
        reference = parse("ord", text)
        return self.filter(link=text) if reference is None else self.named([reference])
