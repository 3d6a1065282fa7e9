"""Keyset pagination: a page of a long list begins after a row, which an index finds however far back it lies."""

from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Model, Q, QuerySet

ROWS = 50  # of a page


@dataclass(frozen=True)
class Page:
    """Rows of a list, newest first, and the ids with which the pages next to it are requested."""

    rows: list[Any]
    newer_than: str | None  # ?after= of the next newer page; None: there is none
    older_than: str | None  # ?before= of the next older page; None: there is none


def page_of(
    queryset: QuerySet[Any],
    *,
    before: str = "",
    after: str = "",
    rows: int = ROWS,
    edges: QuerySet[Any] | None = None,
) -> Page:
    """Return up to ``rows`` rows of ``queryset`` that are older than ``before`` or newer than ``after``.

    Rows are ordered by created_at and id. ``before`` and ``after`` are ids of rows of ``edges``, without it of
    ``queryset``; an id that it does not contain, such as one of another account, gives the newest rows. With ``edges``
    a page stays where it is when the row before it leaves ``queryset``. Takes one statement, and a second one to look
    up the id.
    """
    edge = _edge(queryset if edges is None else edges, before or after)
    newest_first = ("-created_at", "-pk")
    if edge is None:
        found = list(queryset.order_by(*newest_first)[: rows + 1])
        return _page(found[:rows], newer=False, older=len(found) > rows)
    created_at, pk = edge
    # The second condition of each filter follows from the first, but is the one that an index can begin with.
    if before:
        is_older = Q(created_at__lt=created_at) | Q(created_at=created_at, pk__lt=pk)
        found = list(queryset.filter(is_older, created_at__lte=created_at).order_by(*newest_first)[: rows + 1])
        return _page(found[:rows], newer=True, older=len(found) > rows)
    is_newer = Q(created_at__gt=created_at) | Q(created_at=created_at, pk__gt=pk)
    found = list(queryset.filter(is_newer, created_at__gte=created_at).order_by("created_at", "pk")[: rows + 1])
    return _page(found[:rows][::-1], newer=len(found) > rows, older=True)


def _edge(queryset: QuerySet[Any], reference: str) -> tuple[Any, Any] | None:
    """Return created_at and id of the row that ``reference`` names, or None if ``queryset`` has no such row."""
    try:
        pk = queryset.model._meta.pk.to_python(reference)
    except ValidationError:
        return None
    return queryset.filter(pk=pk).values_list("created_at", "pk").first()


def _page(rows: list[Model], *, newer: bool, older: bool) -> Page:
    return Page(
        rows,
        newer_than=str(rows[0].pk) if rows and newer else None,
        older_than=str(rows[-1].pk) if rows and older else None,
    )
