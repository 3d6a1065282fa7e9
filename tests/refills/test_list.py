"""The desk's list of refills: its tabs, its order and the filters that are set."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.messages import get_messages
from django.urls import reverse
from django.utils import timezone

from tests import factories

pytestmark = pytest.mark.django_db

LIST = reverse("admin:refills_refill_changelist")
NOON = datetime(2026, 5, 20, 12, 0, tzinfo=UTC)


@pytest.fixture
def admin(client, staff):
    client.force_login(staff)
    return client


@pytest.fixture
def at_noon(time_machine):
    time_machine.move_to(NOON, tick=False)


def list_of(client, **query):
    return client.get(LIST, query).context["cl"]


def shown(client, **query):
    return list(list_of(client, **query).result_list)


class TestTabs:
    @pytest.fixture
    def refills(self, staff, at_noon):
        def refill(hours=1, **fields):
            return factories.Refill(created_at=NOON - timedelta(hours=hours), **fields)

        claim = {"claimed_by": staff, "claimed_at": NOON}
        return {
            "waiting": refill(),
            "late": refill(hours=25),
            "mine": refill(**claim),
            "approved": refill(status="approved", **claim),
            "snoozed": refill(snoozed_by=staff, snoozed_until=NOON + timedelta(days=1)),
            "late and snoozed": refill(hours=26, snoozed_by=staff, snoozed_until=NOON + timedelta(hours=1)),
            "of a colleague": refill(claimed_by=factories.Account(), claimed_at=NOON),
            "claimed too long ago": refill(claimed_by=staff, claimed_at=NOON - timedelta(minutes=16)),
            "today": refill(hours=30, status="completed", settled_at=NOON.replace(hour=0)),
            "yesterday": refill(hours=30, status="rejected", settled_at=NOON.replace(hour=0) - timedelta(seconds=1)),
        }

    @pytest.mark.parametrize(
        ("label", "names"),
        [
            ("Waiting", ["waiting", "late", "mine", "of a colleague", "claimed too long ago"]),
            ("Late", ["late", "late and snoozed"]),
            ("Mine", ["mine", "approved"]),
            ("With supplier", ["approved"]),
            ("Snoozed", ["late and snoozed", "snoozed"]),
            ("Settled today", ["today"]),
        ],
    )
    def test_a_tab_leads_to_its_refills_and_counts_them(self, admin, refills, label, names):
        [tab] = [tab for tab in list_of(admin).tabs if tab.label == label]

        cl = admin.get(LIST + tab.url).context["cl"]

        assert {refill.pk for refill in cl.result_list} == {refills[name].pk for name in names}
        assert tab.refills == str(len(names))
        assert [tab.label for tab in cl.tabs if tab.is_current] == [label]

    def test_snoozed_refills_begin_with_the_next_to_wake(self, admin, refills):
        assert shown(admin, status="snoozed") == [refills["late and snoozed"], refills["snoozed"]]

    def test_the_tabs_are_a_navigation_that_marks_the_current_one(self, admin):
        page = admin.get(LIST, {"status": "mine"}).content.decode()

        assert '<nav class="desk-tabs" aria-label="Lists">' in page
        assert re.findall(r'aria-current="page"\s*>(\w+) ', page) == ["Mine"]

    def test_tabs_are_counted_up_to_a_bound(self, admin, monkeypatch):
        for module in ("notpanel.kit.admin", "refills.admin.changelist"):
            monkeypatch.setattr(f"{module}.COUNTED", 2)
        factories.Refill.create_batch(2)
        assert list_of(admin).tabs[0].refills == "2"

        factories.Refill()

        assert list_of(admin).tabs[0].refills == "2+"


class TestOrder:
    @pytest.fixture
    def refills(self):
        """Return four refills in flight: the second customer's are older, the second service's newer."""
        now, accounts = timezone.now(), factories.Account.create_batch(2)
        services = [factories.Service(id=number) for number in (10, 9)]

        def refill(hours, account, service):
            return factories.Refill(
                order__account=accounts[account],
                order__service=services[service],
                created_at=now - timedelta(hours=hours),
            )

        return [refill(4, 1, 0), refill(3, 0, 1), refill(2, 1, 1), refill(1, 0, 0)]

    @pytest.mark.parametrize(
        ("sort", "order"),
        [
            ("age", [0, 1, 2, 3]),
            ("-age", [3, 2, 1, 0]),
            ("customer", [1, 3, 0, 2]),
            ("-customer", [2, 0, 3, 1]),
            ("service", [1, 2, 0, 3]),
            ("-service", [3, 0, 2, 1]),
            ("nonsense", [0, 1, 2, 3]),
            ("-99", [0, 1, 2, 3]),
            ("²", [0, 1, 2, 3]),
        ],
    )
    def test_refills_in_flight_are_sorted(self, admin, refills, sort, order):
        assert shown(admin, o=sort) == [refills[place] for place in order]

    def test_a_click_on_the_head_of_a_column_sorts_by_it(self, admin, refills):
        cl = list_of(admin)
        column = next(number for number, name in enumerate(cl.list_display) if name == cl.customer)

        assert shown(admin, o=f"{column}") == shown(admin, o="customer")
        assert shown(admin, o=f"-{column}.1") == shown(admin, o="-customer")
        assert list_of(admin, o=f"-{column}").get_ordering_field_columns() == {column: "desc"}

    @pytest.mark.parametrize("query", [{"status": "completed"}, {"status": "settled"}, {"settled_from": "2000-01-01"}])
    def test_settled_refills_begin_with_the_latest_settlement(self, admin, query):
        now = timezone.now()
        old, new = (
            factories.Refill(
                status="completed", created_at=now - timedelta(days=9), settled_at=now - timedelta(days=days)
            )
            for days in (5, 1)
        )

        assert shown(admin, **query) == [new, old]
        assert shown(admin, **query, o="settlement") == [old, new]

    @pytest.mark.parametrize(
        ("query", "sort", "refusal"),
        [
            ({"status": "completed"}, "customer", "Filter by a customer or a service instead"),
            ({"status": "today"}, "-service", "Filter by a customer or a service instead"),
            ({}, "settlement", "Choose a list of settled refills"),
            ({"status": "mine"}, "waking", "Choose the list of snoozed refills"),
        ],
    )
    def test_an_order_that_no_index_serves_is_refused_with_the_reason(self, admin, query, sort, refusal):
        response = admin.get(LIST, {**query, "o": sort})

        assert refusal in response.content.decode()
        assert response.context["cl"].sort != sort
        assert sort not in {re.sub(r".*o=", "", link.url) for link in response.context["cl"].sorts}

    def test_a_long_list_says_so_and_leads_to_its_other_end(self, admin, monkeypatch):
        monkeypatch.setattr("notpanel.kit.admin.COUNTED", 2)
        now = timezone.now()
        refills = [
            factories.Refill(
                status="completed", settled_at=now - timedelta(days=days), created_at=now - timedelta(days=9)
            )
            for days in range(3)
        ]
        response = admin.get(LIST, {"status": "completed"})

        assert re.search(r"more than\s+2\s+refills", response.content.decode())
        assert "2 results" not in response.content.decode()
        other_end = admin.get(LIST + response.context["cl"].other_end).context["cl"]
        assert [*other_end.result_list][:1] == refills[-1:]


class TestChips:
    @pytest.mark.parametrize(
        ("query", "chips"),
        [
            ({}, []),
            ({"status": "nonsense", "age": "x", "tier": "x", "settled_by": "x", "service__id__exact": "99999"}, []),
            ({"status": "rejected"}, [("list", "Rejected")]),
            ({"age": "soon"}, [("age", "Due soon or late")]),
            ({"service__id__exact": "7"}, [("service", "7 Likes")]),
            ({"category": "Views & more"}, [("category", "Views & more")]),
            ({"account": "shop"}, [("customer", "shop")]),
            ({"tier": "agency"}, [("tier", "Agency")]),
            ({"settled_by": "{staff.pk}"}, [("settled by", "agent")]),
            ({"settled_from": "2026-05-01"}, [("settled", "from 2026-05-01")]),
            ({"settled_to": "2026-05-02"}, [("settled", "up to 2026-05-02")]),
            ({"settled_from": "2026-05-01", "settled_to": "2026-05-01"}, [("settled", "on 2026-05-01")]),
            (
                {"settled_from": "2026-05-01", "settled_to": "2026-05-02"},
                [("settled", "from 2026-05-01 up to 2026-05-02")],
            ),
            ({"q": "<b>"}, [("search", "<b>")]),
        ],
    )
    def test_a_chip_says_what_the_list_is_filtered_by(self, admin, staff, query, chips):
        factories.Service(id=7, name="Likes")
        cl = list_of(admin, **{name: value.format(staff=staff) for name, value in query.items()})

        assert [(chip.name, chip.value) for chip in cl.chips] == chips

    def test_a_chip_leads_to_the_list_without_its_filter_and_keeps_the_others(self, admin):
        query = {
            "account": "shop",
            "tier": "agency",
            "settled_from": "2026-05-01",
            "settled_to": "2026-05-02",
            "q": "12",
            "o": "age",
        }
        cl = list_of(admin, **query)

        links = {chip.name: admin.get(LIST + chip.url).context["cl"].params for chip in cl.chips}

        assert links == {
            "search": {name: value for name, value in query.items() if name != "q"},
            "customer": {name: value for name, value in query.items() if name != "account"},
            "tier": {name: value for name, value in query.items() if name != "tier"},
            "settled": {name: value for name, value in query.items() if not name.startswith("settled")},
        }

    def test_a_chip_is_a_link_with_a_name(self, admin):
        page = admin.get(LIST, {"account": '"shop'}).content.decode()

        assert 'aria-label="Remove the filter customer: &quot;shop"' in page


class TestSettledOnDays:
    @pytest.mark.parametrize(
        ("query", "days"),
        [
            ({"settled_from": "2026-05-02"}, [3, 2]),
            ({"settled_to": "2026-05-02"}, [2, 1]),
            ({"settled_from": "2026-05-02", "settled_to": "2026-05-02"}, [2]),
            ({"settled_from": "2026-05-03", "settled_to": "2026-05-01"}, []),
            ({"settled_from": "0001-01-01", "settled_to": "9999-12-31"}, [3, 2, 1]),
            ({"settled_from": "2026-05-02", "status": "rejected"}, []),
            ({"settled_from": "", "settled_to": "", "status": "settled"}, [3, 2, 1]),
        ],
    )
    def test_refills_are_filtered_by_the_days_of_their_settlement(self, admin, query, days):
        factories.Refill()
        for day in (1, 2, 3):
            factories.Refill(status="completed", settled_at=datetime(2026, 5, day, 23, 59, 59, tzinfo=UTC))

        assert [refill.settled_at.day for refill in shown(admin, **query)] == days

    @pytest.mark.parametrize("day", ["2026-02-30", "yesterday", "99999-01-01", "2026-05-01T00:00"])
    def test_an_invalid_day_is_refused_with_the_reason(self, admin, day):
        response = admin.get(LIST, {"settled_from": day})

        assert response.status_code == 302
        assert [str(message) for message in get_messages(response.wsgi_request)] == [
            "The list is shown without filters. Enter days of settlement such as 2026-11-25."
        ]


def test_the_filters_can_be_opened_with_the_keyboard(admin):
    page = admin.get(LIST).content.decode()

    assert re.search(r'<button type="button"\s+class="desk-filters[^>]+aria-controls="changelist-filter"', page)
