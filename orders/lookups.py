"""Find orders and services for customers' programs."""

from collections.abc import Iterable
from uuid import UUID

from notpanel.kit.public_id import parse
from orders.models import Catalogue, Order, Service


def find_orders(account_id: int, ids: Iterable[str]) -> dict[str, Order | None]:
    """Return the account's orders by ``ids`` (ids or numbers, as a client sent them), None for unknown ones.

    One statement.
    """
    references = {text: parse("ord", text) for text in ids}
    found: dict[str | int | None, Order] = {}
    for order in Order.objects.filter(account=account_id).named(references.values()):
        found[order.id] = found[order.number] = order
    return {text: found.get(reference) for text, reference in references.items()}


def catalogue_version() -> UUID | None:
    """Return the version of the services, which changes with them in the same transaction."""
    return Catalogue.objects.values_list("version", flat=True).first()


def active_services() -> Iterable[Service]:
    """Return the services that can be ordered, in the order of their ids."""
    return Service.objects.filter(active=True)
