"""The admin's start page: its figures, their lists, and the chart."""

import re
from datetime import UTC, date, datetime, timedelta
from html import unescape

import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse

from refills.admin.chart import chart_of
from refills.statistics import Day
from tests import factories

NOW = datetime(2026, 5, 20, 15, 0, tzinfo=UTC)
START = reverse("admin:index")


@pytest.fixture
def desk(client, staff, time_machine):
    """Return the client of a member of the staff, on a day that does not move."""
    time_machine.move_to(NOW, tick=False)
    client.force_login(staff)
    return client


def settled(ago, status="completed", **fields):
    at = NOW - ago
    return factories.Refill(status=status, created_at=at, settled_at=at, **fields)


def shown(client):
    return client.get(START).content.decode()


def test_the_page_shows_the_figures(desk):
    factories.Refill.create_batch(3)
    service = factories.Service(name="Likes that drop")
    for _ in range(10):
        settled(timedelta(hours=1), order__service=service)

    page = desk.get(START)

    assert page.context["statistics"].in_flight == 3
    assert page.context["today"].completed == 10
    for text in ("In flight", "Likes that drop", "10 orders", "100%", "days of UTC"):
        assert text in page.content.decode()


def test_the_figures_are_those_of_this_moment(desk):
    for count in (0, 1, 2):
        page = desk.get(START)
        assert (page.context["statistics"].in_flight, page.context["statistics"].days[-1].requested) == (count, count)
        factories.Refill(created_at=NOW - timedelta(minutes=1))


@pytest.mark.parametrize("count", [10, 20])
def test_the_statements_of_the_page_do_not_grow_with_the_rows(desk, django_assert_num_queries, count):
    service, agent = factories.Service(), factories.Account()
    for _ in range(count):
        settled(timedelta(hours=1), order__service=service, staff=agent)
    shown(desk)

    # The session, the account, today (2), the suppliers (3), the figures (7), the queue, and two of the admin itself.
    with django_assert_num_queries(17):
        shown(desk)


def test_figures_lead_to_the_list_of_just_those_refills(desk, settings):
    settings.SLA_HOURS = 24
    waiting, approved = factories.Refill(), factories.Refill(status="approved")
    late = factories.Refill(created_at=NOW - timedelta(hours=25))
    completed, rejected = settled(timedelta(hours=1)), settled(timedelta(hours=2), "rejected")
    settled(timedelta(hours=15, seconds=1))  # yesterday

    links = desk.get(START).context["links"]

    for name, refills in {
        "waiting": {waiting, late},
        "in_flight": {waiting, approved, late},
        "late": {late},
        "approved": {approved},
        "completed_today": {completed},
        "rejected_today": {rejected},
    }.items():
        assert links[name].replace("&", "&amp;") in shown(desk)
        assert set(desk.get(links[name]).context["cl"].result_list) == refills, name


def test_the_rows_lead_to_the_lists_of_the_agent_the_service_and_the_customer(desk):
    shop, agent, service = (
        factories.Account(username="a&b"),
        factories.Account(username="ann", is_staff=True),
        factories.Service(),
    )
    refills = {settled(timedelta(hours=1), order__account=shop, order__service=service, staff=agent) for _ in range(10)}
    settled(timedelta(days=31), order__account=shop, order__service=service, staff=agent)

    links = [unescape(url) for url in re.findall(r'href="([^"]*settled_from=[^"]*)"', shown(desk))]

    rows = [url for url in links if "settled_to" not in url]
    assert len(rows) == 3
    for url in rows:
        assert set(desk.get(url).context["cl"].result_list) == refills, url


@pytest.mark.parametrize("permitted", [False, True])
def test_only_staff_with_the_permission_see_figures_of_agents(client, db, time_machine, permitted):
    time_machine.move_to(NOW, tick=False)
    settled(timedelta(hours=1), staff=factories.Account(username="ann", is_staff=True))
    viewer = factories.Account(is_staff=True)
    names = ["view_refill", "view_agent_figures"] if permitted else ["view_refill"]
    viewer.user_permissions.set(Permission.objects.filter(codename__in=names))
    client.force_login(viewer)

    page = shown(client)

    assert ("Agents" in page, ">ann</a>" in page) == (permitted, permitted)


def test_the_week_is_compared_in_words(desk):
    settled(timedelta(days=1))
    settled(timedelta(days=2))
    settled(timedelta(days=8))

    compared = {line.title: line for line in desk.get(START).context["comparisons"]}

    settled_line = compared["Settled"]
    assert (settled_line.figure, settled_line.arrow) == ("2", "▲")
    assert settled_line.words == "more than in the week before: 1"
    assert compared["Rejected of the settled"].words == "the same as in the week before"


def test_staff_who_may_not_see_refills_see_no_figures(client, db):
    client.force_login(factories.Account(is_staff=True))

    assert "In flight" not in shown(client)


class TestTheChart:
    def days(self, *numbers):
        first = date(2026, 4, 21)
        return [Day(first + timedelta(days=place), *counts) for place, counts in enumerate(numbers)]

    def test_a_bar_is_as_high_as_its_number_on_the_axis(self):
        chart = chart_of(self.days((4, 1, 1, 7), (0, 0, 0, 5)))

        by_kind = {bar.kind: bar for bar in chart.bars}
        assert [bar.kind for bar in chart.bars] == ["requested", "completed", "rejected"]  # nothing for a zero
        ticks = {tick.text: tick.y for tick in chart.panels[0].ticks}
        assert by_kind["requested"].y == pytest.approx(ticks["4"], abs=0.2)
        assert by_kind["completed"].y == pytest.approx(ticks["1"], abs=0.2)
        assert by_kind["rejected"].y == pytest.approx(ticks["2"], abs=0.2)  # upon the completed ones

    @pytest.mark.parametrize(
        ("most", "ticks"),
        [(0, "0 1"), (4, "0 1 2 3 4"), (9, "0 5 10"), (3064, "0 1000 2000 3000 4000")],
    )
    def test_the_axis_has_round_numbers(self, most, ticks):
        assert [tick.text for tick in chart_of(self.days((most, 0, 0, 0))).panels[0].ticks] == ticks.split()

    def test_everything_is_inside_the_drawing(self):
        chart = chart_of(self.days(*[(n, 2 * n, n, 30 - n) for n in range(30)]))

        for bar in [*chart.bars, chart.today]:
            assert 0 <= bar.x <= bar.x + bar.width <= chart.width + 0.1
            assert 0 <= bar.y <= bar.y + bar.height <= chart.height
        assert chart.dates[0].text == "today"

    def test_the_summary_says_what_is_drawn(self, desk):
        factories.Refill(created_at=NOW - timedelta(hours=1))
        settled(timedelta(hours=1), "rejected")

        page = shown(desk)

        assert "In the last 30 days 2 refills were requested, 0 completed and 1 rejected." in page
        assert 'role="img"' in page
        assert "<td>2026-05-20</td>" in page


def test_the_menu_begins_with_refills_and_orders(desk, staff):
    staff.user_permissions.add(*Permission.objects.filter(codename__startswith="view_"))

    apps = desk.get(START).context["available_apps"]

    assert [app["app_label"] for app in apps[:3]] == ["refills", "orders", "apikeys"]
    assert apps[0]["models"][0]["object_name"] == "Refill"
