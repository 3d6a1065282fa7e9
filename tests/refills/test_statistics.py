"""The figures of the start page, computed by hand."""

from datetime import UTC, datetime, timedelta

import pytest
from django.urls import reverse

from refills.statistics import statistics
from tests import factories

NOW = datetime(2026, 5, 20, 15, 0, tzinfo=UTC)


def hours(count):
    return timedelta(hours=count)


def days(count):
    return timedelta(days=count)


def settled(ago, took, status="completed", **fields):
    """A refill that was settled ``ago`` and had waited for ``took``."""
    return factories.Refill(status=status, settled_at=NOW - ago, created_at=NOW - ago - took, **fields)


def order(service, ago, **fields):
    return factories.Order(service=service, created_at=NOW - ago - days(1), completed_at=NOW - ago, **fields)


def test_without_refills_there_are_no_figures(db):
    found = statistics(NOW)

    assert (found.waiting, found.late, found.settled_today) == (0, 0, 0)
    assert found.hours_to_settle == {7: (None, None), 30: (None, None)}
    assert [count for _, count in found.requests_per_day] == [0] * 30
    assert found.scorecard == []


def test_waiting_and_late_refills_are_counted(db, settings):
    settings.SLA_HOURS = 24
    factories.Refill(created_at=NOW - hours(1))
    factories.Refill(created_at=NOW - hours(24), status="approved")  # just in time
    factories.Refill(created_at=NOW - hours(25))
    settled(hours(1), hours(50))

    found = statistics(NOW)

    assert (found.waiting, found.late) == (3, 1)


def test_settled_today_begins_at_midnight_utc(db):
    settled(hours(15), hours(1))  # at midnight
    settled(hours(1), hours(1), "rejected")
    settled(hours(15) + timedelta(seconds=1), hours(1))  # a second before

    assert statistics(NOW).settled_today == 2


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


def test_requests_are_counted_by_day_in_utc(db):
    for ago in (hours(1), hours(15), hours(15) + timedelta(seconds=1), days(29) + hours(15), days(30)):
        factories.Refill(created_at=NOW - ago)

    found = statistics(NOW).requests_per_day

    assert len(found) == 30
    assert found[0] == ("2026-04-21", 1)  # its first second; the one before was 30 days ago, at 15:00
    assert found[1] == ("2026-04-22", 0)
    assert found[-2] == ("2026-05-19", 1)
    assert found[-1] == ("2026-05-20", 2)


def test_the_scorecard_has_the_rates_of_each_service(db):
    drops, holds, settled_only, quiet = factories.Service.create_batch(4)
    refilled = [order(drops, days(3)), order(drops, days(30), status="partial")]
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
    assert (scores[0].orders, scores[0].refilled_orders) == (3, 2)
    assert (scores[0].refill_rate, scores[0].honour_rate) == pytest.approx((2 / 3, 2 / 3))
    # one of four; nothing was settled
    assert (scores[1].refill_rate, scores[1].honour_rate) == (0.25, None)
    assert (scores[2].refill_rate, scores[2].honour_rate) == (None, 0.0)


def test_refills_and_orders_dated_in_the_future_are_in_no_figure(db):
    """Clocks differ, and imported times come from a file."""
    service = factories.Service()
    settled(-hours(1), hours(2), order=order(service, -hours(2)))

    found = statistics(NOW)

    assert found.settled_today == 0
    assert found.hours_to_settle == {7: (None, None), 30: (None, None)}
    assert found.scorecard == []
    factories.Refill(created_at=NOW + hours(1))
    assert [count for _, count in statistics(NOW).requests_per_day] == [0] * 29 + [1]  # the first, an hour ago


def test_only_refills_settled_in_the_last_seven_days_count_for_seven_days(db):
    settled(days(7) + timedelta(microseconds=1), hours(6))

    assert statistics(NOW).hours_to_settle == {7: (None, None), 30: (6.0, 6.0)}


@pytest.mark.parametrize("status", ["cancelled", "refunded"])
def test_an_order_that_was_not_delivered_is_not_on_the_scorecard(db, status):
    service = factories.Service()
    settled(days(1), hours(1), order=order(service, days(2)))
    order(service, days(2), status=status)

    assert [score.orders for score in statistics(NOW).scorecard] == [1]


@pytest.mark.parametrize("count", [1, 30])
def test_the_statements_do_not_grow_with_the_rows(db, django_assert_num_queries, count):
    for _ in range(count):
        settled(days(1), hours(1), order=order(factories.Service(), days(2)))

    with django_assert_num_queries(6):
        assert len(statistics(NOW).scorecard) == min(count, 20)


def test_the_start_page_shows_the_figures(client, staff):
    client.force_login(staff)
    factories.Refill.create_batch(3)
    factories.Refill(status="completed", order__service__name="Likes that drop")

    page = client.get(reverse("admin:index")).content.decode()

    assert "Waiting now" in page
    assert "Likes that drop" in page
    assert client.get(reverse("admin:index")).context["statistics"].waiting == 3


def test_the_start_page_renews_the_figures_after_a_minute(client, staff, time_machine):
    def waiting():
        return client.get(reverse("admin:index")).context["statistics"].waiting

    time_machine.move_to(NOW, tick=False)
    client.force_login(staff)
    assert waiting() == 0
    factories.Refill(created_at=NOW)

    time_machine.move_to(NOW + timedelta(seconds=59), tick=False)
    assert waiting() == 0
    time_machine.move_to(NOW + timedelta(seconds=61), tick=False)
    assert waiting() == 1


def test_staff_who_may_not_see_refills_see_no_figures(client, db):
    client.force_login(factories.Account(is_staff=True))

    assert "Waiting now" not in client.get(reverse("admin:index")).content.decode()
