"""Slices of long lists: the rows before or after one, found by an index however far back they lie."""

from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Model, Q, QuerySet

ROWS = 50


@dataclass(frozen=True)
class Slice:
    """Rows of a list, the latest first, and the ids that its neighbours begin after."""

    rows: list[Any]
    newer_than: str | None  # ?after= of the next newer slice; None: there is none
    older_than: str | None  # ?before= of the next older slice; None: there is none


def slice_of(queryset: QuerySet[Any], *, before: str = "", after: str = "", rows: int = ROWS) -> Slice:
    """Return the rows of ``queryset``, in the order of created_at and id, that come before or after one of its own.

    ``before`` and ``after`` are ids; one that names no row of ``queryset`` gives the latest rows. One statement, and
    another if there is an id.
    """
    edge = _edge(queryset, before or after)
    newest_first = ("-created_at", "-pk")
    if edge is None:
        found = list(queryset.order_by(*newest_first)[: rows + 1])
        return _slice(found[:rows], newer=False, older=len(found) > rows)
    created_at, pk = edge
    if before:
        past = Q(created_at__lt=created_at) | Q(created_at=created_at, pk__lt=pk)
        found = list(queryset.filter(past, created_at__lte=created_at).order_by(*newest_first)[: rows + 1])
        return _slice(found[:rows], newer=True, older=len(found) > rows)
    future = Q(created_at__gt=created_at) | Q(created_at=created_at, pk__gt=pk)
    found = list(queryset.filter(future, created_at__gte=created_at).order_by("created_at", "pk")[: rows + 1])
    return _slice(found[:rows][::-1], newer=len(found) > rows, older=True)


def _edge(queryset: QuerySet[Any], reference: str) -> tuple[Any, Any] | None:
    try:
        pk = queryset.model._meta.pk.to_python(reference)
    except ValidationError:
        return None
    return queryset.filter(pk=pk).values_list("created_at", "pk").first()


def _slice(rows: list[Model], *, newer: bool, older: bool) -> Slice:
    return Slice(
        rows,
        newer_than=str(rows[0].pk) if rows and newer else None,
        older_than=str(rows[-1].pk) if rows and older else None,
    )
