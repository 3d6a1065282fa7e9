"""Each condition on refills, and the raw SQL that repeats some of them."""

from datetime import date, datetime, timedelta

import pytest
from django.db import transaction
from django.db.models import Count, Q
from django.utils import timezone

from orders.models import Order
from refills.desk import timeliness
from refills.models import Refill
from refills.querysets import is_late
from refills.requesting import lock_orders, tally_refills
from refills.rules import Tally
from refills.settlement import claimed_by_another
from refills.statuses import IN_FLIGHT, SETTLED, RefillStatus
from tests import factories

pytestmark = pytest.mark.django_db


def test_every_status_is_in_flight_or_settled_and_never_both():
    assert set(IN_FLIGHT) | set(SETTLED) == set(RefillStatus)
    assert not set(IN_FLIGHT) & set(SETTLED)


def test_refills_by_their_status():
    by_status = {status: factories.Refill(status=status) for status in RefillStatus}

    def found(queryset):
        return {status for status, refill in by_status.items() if refill in queryset}

    assert found(Refill.objects.in_flight()) == {"pending", "approved"}
    assert found(Refill.objects.settled()) == {"completed", "rejected"}
    assert found(Refill.objects.used_of_cap()) == {"pending", "approved", "completed"}


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        (timedelta(hours=18), "on time"),
        (timedelta(hours=18, microseconds=1), "due soon"),
        (timedelta(hours=24), "due soon"),
        (timedelta(hours=24, microseconds=1), "late"),
    ],
)
def test_a_refill_is_as_late_for_the_list_as_for_the_page(age, expected):
    now = timezone.now()
    refill = factories.Refill(created_at=now - age)

    assert timeliness(refill, now) == expected
    assert Refill.objects.late(now).exists() == (expected == "late")
    assert Refill.objects.filter(is_late(now)).exists() == (expected == "late")
    assert Refill.objects.due_soon_or_late(now).exists() == (expected != "on time")


def test_a_settled_refill_is_neither_late_nor_due_soon():
    now = timezone.now()
    for status in SETTLED:
        factories.Refill(status=status, created_at=now - timedelta(days=9))

    assert not Refill.objects.late(now).exists()
    assert not Refill.objects.due_soon_or_late(now).exists()


@pytest.mark.parametrize(("ago", "taken"), [(timedelta(minutes=14, seconds=59), True), (timedelta(minutes=15), False)])
def test_an_agent_has_taken_a_refill_until_the_claim_expires(staff, ago, taken):
    now = timezone.now()
    factories.Refill(claimed_by=factories.Account(), claimed_at=now)
    factories.Refill(claimed_by=staff, claimed_at=now - ago)

    assert Refill.objects.taken_by(staff, now).count() == taken


@pytest.mark.parametrize(
    ("first", "last", "found"),
    [
        (None, None, [1, 2, 3]),
        (date(2026, 5, 2), None, [2, 3]),
        (None, date(2026, 5, 2), [1, 2]),
        (date(2026, 5, 2), date(2026, 5, 2), [2]),
        (date(2026, 5, 3), date(2026, 5, 2), []),
        (date.min, date.max, [1, 2, 3]),
    ],
)
def test_refills_settled_on_days_of_the_current_time_zone(first, last, found):
    factories.Refill()
    with timezone.override("Pacific/Auckland"):
        for day in (1, 2, 3):
            for hour in (0, 23):
                settled_at = datetime(2026, 5, day, hour, 59, tzinfo=timezone.get_current_timezone())
                factories.Refill(status="completed", settled_at=settled_at)

        days = [
            timezone.localtime(refill.settled_at).day
            for refill in Refill.objects.settled_on_days(first, last).order_by("settled_at")
        ]

    assert days == [day for day in found for _ in range(2)]


@pytest.mark.parametrize("whose", ["nobody", "own", "colleague"])
@pytest.mark.parametrize("ago", [timedelta(minutes=15), timedelta(minutes=14, seconds=59)])
def test_a_claim_keeps_colleagues_away_until_it_expires(staff, whose, ago):
    now = timezone.now()
    claimed_by = {"nobody": None, "own": staff, "colleague": factories.Account()}[whose]
    refill = factories.Refill(claimed_by=claimed_by, claimed_at=claimed_by and now - ago)
    taken = whose == "colleague" and ago < timedelta(minutes=15)

    assert claimed_by_another(refill, staff, now) == taken
    assert Refill.objects.free_for(staff, now).exists() != taken


def test_the_queue_begins_with_the_oldest():
    now = timezone.now()
    later, older = (factories.Refill(created_at=now - timedelta(hours=hours)) for hours in (1, 2))
    same = factories.Refill(created_at=older.created_at)

    assert list(Refill.objects.oldest_first()) == [*sorted([older, same], key=lambda refill: refill.pk), later]


def test_refills_are_tallied_as_the_queryset_counts_them():
    orders = [factories.Order() for _ in range(3)]
    for order, statuses in zip(orders, [RefillStatus.values[1:], ["pending", "rejected", "rejected"], []], strict=True):
        for status in statuses:
            factories.Refill(order=order, status=status)
    of_an_order_that_is_not_asked_for = factories.Refill()

    tallies = tally_refills(order.pk for order in orders)

    counted = {
        order_id: Tally(in_flight, used)
        for order_id, in_flight, used in Refill.objects.filter(order__in=orders)
        .values_list("order")
        .annotate(
            in_flight=Count("pk", filter=Q(pk__in=Refill.objects.in_flight())),
            used=Count("pk", filter=Q(pk__in=Refill.objects.used_of_cap())),
        )
    }
    assert tallies == counted
    assert tallies == {orders[0].pk: Tally(1, 2), orders[1].pk: Tally(1, 1)}
    assert of_an_order_that_is_not_asked_for.order_id not in tallies


@pytest.mark.django_db(transaction=True)
def test_orders_are_locked_as_the_queryset_finds_them():
    order = factories.Order(service__refill_days=30, service__refill_limit=2)
    by_number = factories.Order(account=order.account, status="cancelled", completed_at=None)
    factories.Order(account=order.account)
    other = factories.Order()
    references = [order.pk, by_number.number, other.pk, other.number, None]

    with transaction.atomic():
        locked = lock_orders(order.account_id, references)

    found = Order.objects.filter(account=order.account).named(references).select_related("service")
    assert {
        (each.id, each.number, each.service_id, each.status, each.completed_at, *each.service)
        for each in locked.values()
    } == {
        (
            each.id,
            each.number,
            each.service_id,
            each.status,
            each.completed_at,
            each.service.refill,
            each.service.refill_days,
            each.service.refill_limit,
        )
        for each in found
    }
    assert set(locked) == {order.pk, order.number, by_number.pk, by_number.number}
