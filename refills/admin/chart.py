"""The chart of the start page: where its bars, lines and labels are. templates/admin/chart.html draws it as SVG."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count

from refills.statistics import Day

# In units of the SVG's own grid. One panel is above the other, and they share the axis of days.
WIDTH, LEFT, RIGHT, TOP = 760, 40, 12, 16
FLOW, STOCK = 160, 90  # the heights of the panels: what came and went each day, and what was in flight
GAP, BOTTOM = 34, 22
HEIGHT = TOP + FLOW + GAP + STOCK + BOTTOM
LABELLED = 5  # every so many days the axis has a date, counted back from today
MOST_TICKS = 4


@dataclass(frozen=True)
class Bar:
    kind: str  # a CSS class
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Label:
    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Panel:
    title: Label
    ticks: list[Label]  # each with a line across the panel
    bottom: float


@dataclass(frozen=True)
class Chart:
    today: Bar
    bars: list[Bar]
    line: str  # the points of the line of refills in flight
    panels: list[Panel]
    dates: list[Label]
    summary: str  # for those who do not see the chart
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT


def chart_of(days: list[Day]) -> Chart:
    """Lay out the days, the oldest first: requested beside settled, and below them how many were in flight."""
    slot = (WIDTH - LEFT - RIGHT) / len(days)
    wide = round(slot * 0.36, 1)
    flow_top = max(max(day.requested, day.completed + day.rejected) for day in days)
    stock_top = max(day.in_flight for day in days)
    flow, flow_scale = _panel("Refills requested and settled", flow_top, TOP, FLOW)
    stock, stock_scale = _panel("In flight at the end of the day", stock_top, TOP + FLOW + GAP, STOCK)
    bars, points = [], []
    for place, day in enumerate(days):
        left = LEFT + place * slot + slot * 0.12
        heights = [flow_scale * number for number in (day.requested, day.completed, day.rejected)]
        requested, completed, rejected = (round(height, 1) for height in heights)
        bars.append(Bar("requested", round(left, 1), round(flow.bottom - requested, 1), wide, requested))
        right = round(left + wide + 1, 1)
        bars.append(Bar("completed", right, round(flow.bottom - completed, 1), wide, completed))
        bars.append(Bar("rejected", right, round(flow.bottom - completed - rejected, 1), wide, rejected))
        middle = LEFT + (place + 0.5) * slot
        points.append(f"{middle:.1f},{stock.bottom - stock_scale * day.in_flight:.1f}")
    dates = [
        Label(
            round(LEFT + (place + 0.5) * slot, 1),
            HEIGHT - 6,
            "today" if place == len(days) - 1 else f"{days[place].date:%m-%d}",
        )
        for place in range(len(days) - 1, -1, -LABELLED)
    ]
    today = Bar("today", round(WIDTH - RIGHT - slot, 1), TOP, round(slot, 1), HEIGHT - TOP - BOTTOM)
    return Chart(today, [bar for bar in bars if bar.height], " ".join(points), [flow, stock], dates, _summary(days))


def _panel(title: str, most: int, top: int, height: int) -> tuple[Panel, float]:
    """Return the panel with its axis up to ``most``, and how many units of the grid one refill is high."""
    step = _step(most)
    highest = step * max(-(-most // step), 1)
    scale, bottom = height / highest, top + height
    ticks = [Label(LEFT - 6, round(bottom - scale * value, 1), str(value)) for value in range(0, highest + 1, step)]
    return Panel(Label(LEFT, top - 5, title), ticks, bottom), scale


def _step(most: int) -> int:
    """Return the distance of the ticks of an axis up to ``most``: 1, 2 or 5 times a power of ten."""
    steps: Iterable[int] = (factor * 10**power for power in count() for factor in (1, 2, 5))
    return next(step for step in steps if step * MOST_TICKS >= most)


def _summary(days: list[Day]) -> str:
    requested, completed, rejected = (
        sum(getattr(day, name) for day in days) for name in ("requested", "completed", "rejected")
    )
    return (
        f"In the last {len(days)} days {requested} refills were requested, {completed} completed and {rejected} "
        f"rejected. {days[0].in_flight} were in flight at the end of {days[0].date}, and {days[-1].in_flight} are now."
    )
