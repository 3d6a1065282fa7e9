"""The figures on the admin's start page."""

from dataclasses import dataclass
from datetime import date
from typing import Any
from urllib.parse import urlencode

from django.urls import reverse
from django.utils import timezone

from apikeys.requests import SignedInRequest
from notpanel.kit import queue
from refills.admin.chart import chart_of
from refills.statistics import LEAST_SAMPLE, WEEK, Statistics, statistics, today
from refills.supplier_statistics import alerts


@dataclass(frozen=True)
class Comparison:
    """A figure of the last seven days beside that of the seven days before, as the page shows them."""

    title: str
    figure: str
    arrow: str
    words: str


@dataclass(frozen=True)
class Row:
    """A row of a table: a name that leads to the list of the refills that it counts, and its figures."""

    name: str
    url: str
    figures: tuple[object, ...]


@dataclass(frozen=True)
class Table:
    """A table of agents, services or customers."""

    title: str
    columns: tuple[str, ...]
    rows: list[Row]
    without_rows: str
    remark: str = ""


def add_statistics(request: SignedInRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add the figures to the start page of staff who may see refills. Unfold's DASHBOARD_CALLBACK calls this."""
    if request.user.has_perm("refills.view_refill"):
        now = timezone.now()
        told = alerts(now)
        found = statistics(now)
        context |= {
            "today": today(now),
            "links": _links(timezone.localdate(now)),
            "statistics": found,
            "comparisons": _comparisons(found),
            "chart": chart_of(found.days),
            "tables": _tables(found, with_agents=request.user.has_perm("refills.view_agent_figures")),
            "queue": queue.figures(now),
            "suppliers": told,
            "to_decide": [
                (state.label.capitalize(), count, _dispatches(waits="person", state__exact=state))
                for state, count in told.to_decide.items()
            ],
        }
    return context


def _list(**query: Any) -> str:
    """Return the address of the list with these filters."""
    return f"{reverse('admin:refills_refill_changelist')}?{urlencode(query)}"


def _dispatches(**query: Any) -> str:
    """Return the address of the list of what went to suppliers with these filters."""
    return f"{reverse('admin:refills_dispatch_changelist')}?{urlencode(query)}"


def _links(local_day: date) -> dict[str, str]:
    """Return the addresses of the lists that show what is counted."""
    of_today = {"settled_from": local_day, "settled_to": local_day}
    return {
        "waiting": _list(status="waiting"),
        "in_flight": _list(status="in_flight"),
        "late": _list(age="late"),
        "approved": _list(status="approved"),
        "completed_today": _list(status="completed", **of_today),
        "rejected_today": _list(status="rejected", **of_today),
    }


def _tables(found: Statistics, *, with_agents: bool) -> list[Table]:
    """Return the tables of the page, each row with the address of its refills settled in that time."""
    this_week: dict[str, Any] = {"status": "settled", "settled_from": found.days[-WEEK.days].date}
    this_month: dict[str, Any] = {"status": "settled", "settled_from": found.days[0].date}
    agents = Table(
        "Agents, today and the six days before (UTC)",
        ("Agent", "Completed", "Rejected", "Hours to settle, median"),
        [
            Row(
                agent.username,
                _list(**this_week, settled_by=agent.account_id),
                (agent.completed, agent.rejected, f"{agent.hours:.1f}"),
            )
            for agent in found.agents
        ],
        without_rows="Nobody has settled a refill in the last seven days.",
    )
    services = Table(
        "Services that drop most, last 30 days (UTC)",
        ("Service", "Orders", "Refilled", "Drop rate", "Settled", "Honour rate"),
        [
            Row(
                score.service.name,
                _list(**this_month, service__id__exact=score.service.pk),
                (
                    score.rates.orders,
                    score.rates.refilled_orders,
                    _shown("{:.0%}", score.rates.refill_rate),
                    score.rates.settled,
                    _shown("{:.0%}", score.rates.honour_rate),
                ),
            )
            for score in found.scorecard
        ],
        without_rows="No service has had that many in the last 30 days.",
        remark=f"A rate needs {LEAST_SAMPLE} orders, or {LEAST_SAMPLE} settled refills. A dash means fewer.",
    )
    customers = Table(
        "Customers rejected most, last 30 days (UTC)",
        ("Customer", "Settled", "Rejected", "Share rejected", "Orders", "Refill rate"),
        [
            Row(
                score.username,
                _list(**this_month, account=score.username),
                (
                    score.rates.settled,
                    score.rates.rejected,
                    _shown("{:.0%}", score.rates.rejected_share),
                    score.rates.orders,
                    _shown("{:.0%}", score.rates.refill_rate),
                ),
            )
            for score in found.worst_customers
        ],
        without_rows="No customer has had that many in the last 30 days.",
        remark=f"Customers with {LEAST_SAMPLE} settled refills or more. A refill rate needs {LEAST_SAMPLE} orders.",
    )
    return [*([agents] if with_agents else []), services, customers]


def _comparisons(found: Statistics) -> list[Comparison]:
    week, before = found.week, found.week_before
    return [
        _comparison("Requested", week.requested, before.requested, "{}"),
        _comparison("Settled", week.settled, before.settled, "{}"),
        _comparison("Rejected of the settled", week.rejected_share, before.rejected_share, "{:.0%}"),
        _comparison("Hours to settle, median", week.hours, before.hours, "{:.1f}"),
    ]


def _comparison(title: str, figure: float | None, before: float | None, shape: str) -> Comparison:
    shown, shown_before = _shown(shape, figure), _shown(shape, before)
    if figure is None or before is None:
        return Comparison(title, shown, "", f"{shown_before} in the week before")
    if shown == shown_before:
        return Comparison(title, shown, "=", "the same as in the week before")
    arrow, word = ("▲", "more") if figure > before else ("▼", "less")
    return Comparison(title, shown, arrow, f"{word} than in the week before: {shown_before}")


def _shown(shape: str, figure: float | None) -> str:
    """Return the figure in this shape, or a dash if there is none."""
    return "–" if figure is None else shape.format(figure)
