"""The figures of the start page, computed by hand."""

from datetime import UTC, date, datetime, timedelta

import pytest
from django.utils import timezone

from refills.statistics import AgentScore, Rates, Today, Week, statistics, today
from tests import factories

NOW = datetime(2026, 5, 20, 15, 0, tzinfo=UTC)


def hours(count):
    return timedelta(hours=count)


def days(count):
    return timedelta(days=count)


def settled(ago, took, status="completed", **fields):
    """Make a refill that was settled ``ago`` and had waited for ``took``."""
    return factories.Refill(status=status, settled_at=NOW - ago, created_at=NOW - ago - took, **fields)


def order(service, ago, **fields):
    return factories.Order(service=service, created_at=NOW - ago - days(1), completed_at=NOW - ago, **fields)


@pytest.fixture
def no_least_sample(monkeypatch):
    monkeypatch.setattr("refills.statistics.LEAST_SAMPLE", 1)


def test_without_refills_there_are_no_figures(db):
    found = statistics(NOW)

    assert (found.waiting, found.in_flight, found.approved, found.late) == (0, 0, 0, 0)
    assert found.hours_to_settle == {7: (None, None), 30: (None, None)}
    assert found.week == found.week_before == Week(requested=0, settled=0, rejected=0, hours=None)
    assert len(found.days) == 30
    assert {(day.requested, day.completed, day.rejected, day.in_flight) for day in found.days} == {(0, 0, 0, 0)}
    assert (found.agents, found.scorecard, found.worst_customers) == ([], [], [])


def test_refills_in_flight_are_counted_with_the_late_and_the_approved_ones(db, settings):
    settings.SLA_HOURS = 24
    factories.Refill(created_at=NOW - hours(1))
    factories.Refill(created_at=NOW - hours(24), status="approved")  # just in time
    snoozed = {"snoozed_until": NOW + hours(1), "snoozed_by": factories.Account()}
    factories.Refill(created_at=NOW - hours(25), **snoozed)
    settled(hours(1), hours(50))

    found = statistics(NOW)

    assert (found.waiting, found.in_flight, found.approved, found.late) == (1, 3, 1, 1)


@pytest.mark.parametrize(
    ("zone", "counted"),
    [
        # 2026-05-20 15:00 UTC is 17:00 in Berlin, and 00:00 of the next day in Tokyo.
        ("UTC", Today(date(2026, 5, 20), requested=3, completed=2, rejected=1)),
        ("Europe/Berlin", Today(date(2026, 5, 20), requested=4, completed=3, rejected=1)),
        ("Asia/Tokyo", Today(date(2026, 5, 21), requested=0, completed=0, rejected=0)),
    ],
)
def test_today_begins_at_midnight_of_the_current_time_zone(db, zone, counted):
    settled(hours(15), hours(0))  # at midnight UTC
    settled(hours(1), hours(1))
    settled(hours(1), hours(1), "rejected")
    settled(hours(17), hours(0))  # at midnight in Berlin
    settled(hours(17) + timedelta(seconds=1), hours(1))

    with timezone.override(zone):
        assert today(NOW) == counted


def test_hours_to_settle_are_medians_and_p90(db):
    for took in (1, 2, 3, 4, 10):
        settled(days(1), hours(took))
    settled(days(7), hours(6))  # the first moment of the seven days
    settled(days(20), hours(100), "rejected")
    settled(days(31), hours(1000))  # too long ago

    found = statistics(NOW).hours_to_settle

    # 1 2 3 4 6 10: the median lies between 3 and 4; p90 is at 0.9 × 5 = 4.5, half way from 6 to 10
    assert found[7] == pytest.approx((3.5, 8.0))
    # and with 100: the median is the fourth, 4; p90 at 0.9 × 6 = 5.4, four tenths of the way from 10 to 100
    assert found[30] == pytest.approx((4.0, 46.0))


def test_the_last_week_is_compared_with_the_one_before(db):
    settled(days(7), hours(2))  # the first moment of the last week, but requested in the week before
    settled(days(1), hours(4), "rejected")
    settled(days(7) + timedelta(microseconds=1), hours(10))
    settled(days(14), hours(20), "rejected")  # the first moment of the week before
    settled(days(14) + timedelta(microseconds=1), hours(1))

    found = statistics(NOW)

    assert found.week == Week(requested=1, settled=2, rejected=1, hours=3.0)
    assert found.week.rejected_share == 0.5
    assert found.week_before == Week(requested=2, settled=2, rejected=1, hours=15.0)


def test_requests_and_settlements_are_counted_by_day_in_utc(db):
    for ago in (hours(1), hours(15), hours(15) + timedelta(seconds=1), days(29) + hours(15), days(30)):
        factories.Refill(created_at=NOW - ago)
    settled(hours(14), hours(2))  # requested the day before
    settled(hours(1), days(60), "rejected")

    with timezone.override("Asia/Tokyo"):  # whatever time zone the agent has
        found = statistics(NOW).days

    assert len(found) == 30
    first, second, *_, yesterday, last = ((day.date.isoformat(), day.requested) for day in found)
    assert first == ("2026-04-21", 1)  # its first second; the one before was 30 days ago, at 15:00
    assert second == ("2026-04-22", 0)
    assert yesterday == ("2026-05-19", 2)
    assert last == ("2026-05-20", 2)
    assert [(day.completed, day.rejected) for day in found[-2:]] == [(0, 0), (1, 1)]


def test_the_refills_in_flight_at_the_end_of_each_day_follow_from_what_came_and_went(db):
    factories.Refill(created_at=NOW - days(60))
    factories.Refill(created_at=NOW - days(2))
    settled(days(1), days(40))
    settled(hours(1), hours(2))  # came and went on one day

    found = [day.in_flight for day in statistics(NOW).days]

    # From the first day on: the refill of 60 days ago, and the one that was settled yesterday.
    assert found[:27] == [2] * 27
    assert found[27:] == [3, 2, 2]


def test_agents_come_with_what_they_settled_in_seven_days(db):
    ann, bob = factories.Account(username="ann"), factories.Account(username="bob")
    settled(hours(1), hours(2), staff=bob)
    settled(days(6) + hours(15), hours(4), "rejected", staff=bob)  # the first moment of the first day
    settled(days(6) + hours(15) + timedelta(seconds=1), hours(400), staff=bob)
    settled(hours(1), hours(3), staff=ann)
    settled(hours(1), hours(3), staff=factories.Supplier().account)

    assert statistics(NOW).agents == [AgentScore(bob.pk, "bob", 1, 1, 3.0), AgentScore(ann.pk, "ann", 1, 0, 3.0)]


def test_the_scorecard_has_the_rates_of_each_service(db, no_least_sample):
    drops, holds, settled_only, quiet = factories.Service.create_batch(4)
    refilled = [order(drops, days(3)), order(drops, days(29) + hours(15), status="partial")]
    order(drops, days(5))
    order(drops, days(31))  # too long ago
    order(holds, days(2))
    one_of_four = order(holds, days(2))
    order(holds, days(2))
    order(holds, days(2))
    order(quiet, days(2))
    settled(days(1), hours(1), order=refilled[0])
    settled(days(2), hours(1), "rejected", order=refilled[0])
    settled(days(3), hours(1), order=refilled[1])
    factories.Refill(order=one_of_four, created_at=NOW)
    settled(days(1), hours(1), "rejected", order=order(settled_only, days(40)))

    scores = statistics(NOW).scorecard

    assert [score.service for score in scores] == [drops, holds, settled_only]
    # two of three orders have a refill; two of three settled refills were completed
    assert scores[0].rates == Rates(orders=3, refilled_orders=2, completed=2, rejected=1)
    assert (scores[0].rates.refill_rate, scores[0].rates.honour_rate) == pytest.approx((2 / 3, 2 / 3))
    # one of four; nothing was settled
    assert (scores[1].rates.refill_rate, scores[1].rates.honour_rate) == (0.25, None)
    assert (scores[2].rates.refill_rate, scores[2].rates.honour_rate) == (None, 0.0)


def test_fewer_than_ten_give_no_rate():
    assert (Rates(9, 9, 8, 1).refill_rate, Rates(9, 9, 8, 1).honour_rate, Rates(9, 9, 8, 1).rejected_share) == (
        None,
    ) * 3
    assert (Rates(10, 9, 8, 2).refill_rate, Rates(10, 9, 8, 2).honour_rate) == (0.9, 0.8)
    assert Rates(10, 9, 8, 2).rejected_share == 0.2


def test_a_service_with_a_small_sample_is_not_on_the_scorecard(db):
    service = factories.Service()
    for _ in range(9):
        settled(days(1), hours(1), order=order(service, days(2)))
    assert statistics(NOW).scorecard == []

    settled(days(1), hours(1), order=order(service, days(2)))
    assert [score.service for score in statistics(NOW).scorecard] == [service]


def test_the_customers_whose_refills_were_rejected_most_come_first(db):
    def customer(name, rejected, completed):
        account = factories.Account(username=name)
        for place in range(rejected + completed):
            of_account = factories.Order(account=account, created_at=NOW - days(4), completed_at=NOW - days(3))
            settled(days(1), hours(1), "rejected" if place < rejected else "completed", order=of_account)

    customer("mostly", 9, 1)
    customer("partly", 5, 6)
    customer("few", 9, 0)  # nine settled: no sample

    found = statistics(NOW).worst_customers

    assert [(score.username, score.rates.rejected_share) for score in found] == [("mostly", 0.9), ("partly", 5 / 11)]
    assert [score.rates.refill_rate for score in found] == [1.0, 1.0]


def test_refills_and_orders_dated_in_the_future_are_in_no_figure(db, no_least_sample):
    """Clocks differ, and imported times come from a file."""
    service = factories.Service()
    settled(-hours(1), hours(2), order=order(service, -hours(2)))

    found = statistics(NOW)

    assert today(NOW) == Today(NOW.date(), requested=1, completed=0, rejected=0)
    assert found.hours_to_settle == {7: (None, None), 30: (None, None)}
    assert (found.scorecard, found.agents, found.worst_customers) == ([], [], [])
    factories.Refill(created_at=NOW + hours(1))
    assert [day.requested for day in statistics(NOW).days] == [0] * 29 + [1]  # the first, an hour ago


def test_only_refills_settled_in_the_last_seven_days_count_for_seven_days(db):
    settled(days(7) + timedelta(microseconds=1), hours(6))

    assert statistics(NOW).hours_to_settle == {7: (None, None), 30: (6.0, 6.0)}


@pytest.mark.parametrize("status", ["cancelled", "refunded"])
def test_an_order_that_was_not_delivered_is_not_on_the_scorecard(db, no_least_sample, status):
    service = factories.Service()
    settled(days(1), hours(1), order=order(service, days(2)))
    order(service, days(2), status=status)

    assert [score.rates.orders for score in statistics(NOW).scorecard] == [1]


@pytest.mark.parametrize("count", [1, 30])
def test_the_statements_do_not_grow_with_the_rows(db, django_assert_num_queries, no_least_sample, count):
    for _ in range(count):
        settled(days(1), hours(1), order=order(factories.Service(), days(2)))

    with django_assert_num_queries(7):
        found = statistics(NOW)
    assert len(found.scorecard) == min(count, 20)
    assert len(found.worst_customers) == min(count, 10)
    with django_assert_num_queries(2):
        today(NOW)
