import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "notpanel.settings")

from tests.desk.tasks import TASKS

BEFORE = Path(__file__).with_name("before.json")
FIGURES = ("clicks", "keys", "pages", "hand", "machine")
WINDOW = {"width": 1440, "height": 900}

Figures = Mapping[str, Mapping[str, Any]]  # by the task's name: the figures, or {"impossible": why}


def measure(rounds: int) -> Figures:
    """Do each task ``rounds`` times. Returns the medians."""
    import tests.environment  # noqa: F401  # as pytest does, before the settings are read

    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"  # Playwright runs an event loop in this thread
    import django

    django.setup()
    from contextlib import ExitStack

    from django.db import connection
    from django.test.utils import setup_test_environment
    from playwright.sync_api import sync_playwright

    from tests.browser.conftest import SWITCHES, browsing
    from tests.desk.data import load
    from tests.desk.hand import Hand
    from tests.desk.ways import WAYS
    from tests.server import Server

    program = shutil.which("chromium")
    if program is None:
        sys.exit("chromium is missing. On Debian and Ubuntu, install it with: apt-get install chromium")
    setup_test_environment()
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    with ExitStack() as stack:
        stack.callback(connection.creation.destroy_test_db, "", verbosity=0)
        stack.callback(connection.close)
        data = load()
        server = Server(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        stack.callback(server.stop)
        playwright = stack.enter_context(sync_playwright())
        stack.callback(connection.close)  # Playwright's event loop has a connection of its own
        browser = playwright.chromium.launch(executable_path=program, args=SWITCHES)
        stack.callback(browser.close)
        hands = [
            Hand(stack.enter_context(browsing(browser, server.url, agent, viewport=WINDOW)))
            for agent in data.agents[:2]
        ]
        for hand in hands:
            hand.start("/admin/refills/refill/")  # the browser has the style sheets and scripts now
        found: dict[str, Any] = {}
        for task in TASKS:
            sys.stderr.write(f"{task.words}\n")
            counts = [asdict(WAYS[task.name](hands, data)) for _ in range(rounds)]
            found[task.name] = {name: round(statistics.median(count[name] for count in counts), 2) for name in FIGURES}
        return found


def table(sets: Mapping[str, Figures]) -> str:
    """Return the figures of each set, one under the other for each task, as a table in Markdown."""
    rows = [
        "| task | edition | clicks | keys | pages | hand, s | machine, s | together, s |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for task in TASKS:
        for name, figures in sets.items():
            found = figures[task.name]
            cells = ["not possible", *[""] * 5] if "impossible" in found else list(_cells(found))
            rows.append(f"| {task.words} | {name} | {' | '.join(cells)} |")
    for name, figures in sets.items():
        rows.append(f"| **a day of 300 refills** | {name} | {' | '.join(_cells(day(figures)))} |")
    return "\n".join(rows) + "\n"


def day(figures: Figures) -> dict[str, float]:
    """Return what a day takes. A task that is not possible takes nothing, so such a day is too short."""
    possible = [(task, figures[task.name]) for task in TASKS if "impossible" not in figures[task.name]]
    return {name: sum(task.times * found[name] for task, found in possible) for name in FIGURES}


def _cells(found: Mapping[str, float]) -> Iterable[str]:
    for name in FIGURES[:3]:
        yield f"{found[name]:,.0f}"
    for seconds in (found["hand"], found["machine"], found["hand"] + found["machine"]):
        yield f"{seconds:,.1f}" if seconds < 1000 else f"{seconds:,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.desk", description="Measure an agent's day at the desk.")
    parser.add_argument("--rounds", type=int, default=3, help="how often to do each task; medians count (default: 3)")
    parser.add_argument("--record", type=Path, help="a file for the figures, as JSON")
    options = parser.parse_args()
    found = measure(options.rounds)
    if options.record:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        record = {"commit": commit, "measured": f"{datetime.now(UTC):%Y-%m-%d}", "figures": found}
        options.record.write_text(json.dumps(record, indent=2) + "\n")
    sets = {"now": found}
    if BEFORE.exists() and (not options.record or options.record.resolve() != BEFORE):
        sets = {"before": json.loads(BEFORE.read_text())["figures"], **sets}
    sys.stdout.write(table(sets))


if __name__ == "__main__":
    main()
