"""The alerts, the dashboard and the documentation name metrics that exist."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from django.test import Client
from django.utils import timezone

from notpanel import metrics
from notpanel.kit import metrics as kit
from tests import factories
from tests.notpanel.test_docs import anchors

BASE_DIR = Path(__file__).resolve().parent.parent.parent
PROMETHEUS = BASE_DIR / "deploy" / "prometheus"
ALERTS = PROMETHEUS / "alerts.yml"
DASHBOARD = json.loads((BASE_DIR / "deploy" / "grafana" / "notpanel.json").read_text())
PAGE = BASE_DIR / "docs" / "monitoring.md"

# A server reports these once there is a supplier.
OF_SUPPLIERS = {"notpanel_supplier_resting", "notpanel_supplier_paused"}
_NAME = re.compile(r"\bnotpanel_\w+")


def alerts_names():
    expressions = re.findall(r"expr: (?:\|-\n((?: {10}.*\n)+)|(.*)\n)", ALERTS.read_text())
    return set(_NAME.findall(" ".join(map("".join, expressions))))


def dashboard_queries():
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]


@pytest.fixture
def exported(transactional_db):
    """Return the names of all time series, with what counters and histograms add to theirs."""
    factories.Supplier()
    Client().get("/healthz")  # loads the middleware, which counts requests
    families = [*kit.collect(), *metrics.read(timezone.now())]
    endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}
    return {family.name + ending for family in families for ending in endings[family.type]}


def test_the_alerts_and_the_dashboard_name_metrics_that_there_are(exported):
    assert alerts_names()
    assert not alerts_names() - exported
    assert not set(_NAME.findall(" ".join(dashboard_queries()))) - exported


def test_the_page_lists_every_metric(exported):
    listed = set(re.findall(r"^\| `(notpanel_\w+)", PAGE.read_text(), re.MULTILINE))

    assert listed == {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported}


def test_the_dashboard_shows_every_metric(exported):
    shown = set(_NAME.findall(" ".join(dashboard_queries())))

    assert {name for name in exported if not name.endswith(("_sum", "_count"))} == shown


def test_every_panel_has_a_unit_and_a_place_of_its_own():
    places = set()
    for panel in DASHBOARD["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["fieldConfig"]["defaults"]["unit"]
        grid = panel["gridPos"]
        cells = {
            (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & places
        assert grid["x"] + grid["w"] <= 24
        places |= cells


def test_every_alert_leads_to_a_section_and_is_explained():
    text = ALERTS.read_text()
    names, runbooks = re.findall(r"alert: (\w+)", text), re.findall(r"runbook: (\S+)", text)

    assert len(names) == len(runbooks) == text.count("severity:") == text.count("summary:") == text.count("for:")
    for runbook in runbooks:
        page, anchor = runbook.split("#")
        assert anchor in anchors(BASE_DIR / page)
    assert re.findall(r"^\| `(NotPanel\w+)`", PAGE.read_text(), re.MULTILINE) == names


def test_the_rules_are_what_prometheus_takes_and_fire_when_they_should():
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not on the PATH")

    done = subprocess.run([promtool, "test", "rules", PROMETHEUS / "alerts_test.yml"], capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
    tested = set(re.findall(r"alertname: (\w+)", (PROMETHEUS / "alerts_test.yml").read_text()))
    assert tested == set(re.findall(r"alert: (\w+)", ALERTS.read_text()))


def test_the_example_reads_the_page_with_the_token():
    text = (PROMETHEUS / "prometheus.yml").read_text()

    assert f"metrics_path: {metrics.PATH}" in text
    own = (PROMETHEUS.parent / "systemd" / "notpanel-own@.socket").read_text()
    [address] = re.findall(r"^ListenStream=(.+)%i$", own, re.MULTILINE)
    assert f'targets: ["{address}1", "{address}2"]' in text
