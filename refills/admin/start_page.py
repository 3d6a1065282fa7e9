"""The figures on the admin's start page."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from urllib.parse import urlencode

from django.core.cache import cache
from django.urls import reverse
from django.utils import timezone

from apikeys.requests import SignedInRequest
from notpanel.kit import queue
from refills.admin.chart import chart_of
from refills.statistics import LEAST_SAMPLE, WEEK, Day, Statistics, statistics, today
from refills.supplier_statistics import alerts

KEPT_FOR = 60  # seconds
KEPT, RENEWING = "refills.statistics.2", "refills.statistics.renewing"  # keys of the cache


@dataclass(frozen=True)
class Comparison:
    """A figure of the last seven days beside that of the seven days before, as the page shows them."""

    title: str
    figure: str
    arrow: str
    words: str


def add_statistics(request: SignedInRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add the figures to the start page of staff who may see refills. Unfold's DASHBOARD_CALLBACK calls this."""
    if request.user.has_perm("refills.view_refill"):
        now = timezone.now()
        as_of, found = _kept_statistics(now)
        context |= {
            "today": today(now),
            "links": _links(timezone.localdate(now), found.days),
            "as_of": as_of,
            "statistics": found,
            "comparisons": _comparisons(found),
            "chart": chart_of(found.days),
            "least_sample": LEAST_SAMPLE,
            "queue": queue.figures(now),
            "suppliers": alerts(now),
            "may_see_agents": request.user.has_perm("refills.view_agent_figures"),
        }
    return context


def _links(local_day: date, days: list[Day]) -> dict[str, str]:
    """Return the addresses of the lists that show what is counted. Of some the page adds a filter at the end."""
    url = reverse("admin:refills_refill_changelist")
    of_today = {"settled_from": local_day, "settled_to": local_day}
    dispatches = reverse("admin:refills_dispatch_changelist")
    queries: dict[str, dict[str, Any]] = {
        "waiting": {"status": "waiting"},
        "in_flight": {"status": "in_flight"},
        "late": {"age": "late"},
        "approved": {"status": "approved"},
        "completed_today": {"status": "completed", **of_today},
        "rejected_today": {"status": "rejected", **of_today},
        "settled_this_week": {"status": "settled", "settled_from": days[-WEEK.days].date},
        "settled_this_month": {"status": "settled", "settled_from": days[0].date},
    }
    links = {name: f"{url}?{urlencode(query)}" for name, query in queries.items()}
    return links | {"to_decide": f"{dispatches}?waits=person"}


def _kept_statistics(now: datetime) -> tuple[datetime, Statistics]:
    """Return the figures, a minute old at most, and the moment that they are of.

    Over a month of a large panel they take seconds. One request at a time renews them; the others get the old ones.
    """
    kept: tuple[datetime, Statistics] | None = cache.get(KEPT)
    if kept and (now - kept[0]).total_seconds() < KEPT_FOR:
        return kept
    if kept and not cache.add(RENEWING, True, timeout=KEPT_FOR):
        return kept
    kept = now, statistics(now)
    cache.set(KEPT, kept, timeout=10 * KEPT_FOR)
    cache.delete(RENEWING)
    return kept


def _comparisons(found: Statistics) -> list[Comparison]:
    week, before = found.week, found.week_before
    return [
        _comparison("Requested", week.requested, before.requested, "{}"),
        _comparison("Settled", week.settled, before.settled, "{}"),
        _comparison("Rejected of the settled", week.rejected_share, before.rejected_share, "{:.0%}"),
        _comparison("Hours to settle, median", week.hours, before.hours, "{:.1f}"),
    ]


def _comparison(title: str, figure: float | None, before: float | None, shape: str) -> Comparison:
    shown, shown_before = ("–" if number is None else shape.format(number) for number in (figure, before))
    if figure is None or before is None:
        return Comparison(title, shown, "", f"{shown_before} in the week before")
    if shown == shown_before:
        return Comparison(title, shown, "=", "the same as in the week before")
    arrow, word = ("▲", "more") if figure > before else ("▼", "less")
    return Comparison(title, shown, arrow, f"{word} than in the week before: {shown_before}")
