"""The figures by day equal a count of the refills and orders one by one, whatever happened to those."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.utils import timezone

from orders.models import DELIVERED, Order, OrderStatus
from refills import figures
from refills.audit import findings
from refills.models import Refill
from refills.reopening import reopen, undo
from refills.requesting import request_refills
from refills.statistics import statistics
from refills.statuses import IN_FLIGHT, SETTLED, RefillStatus
from tests import factories
from tests.conftest import settle
from tests.races import MARKS, race
from tests.refills import slow_statistics

NOW = datetime(2026, 5, 20, 15, 0, tzinfo=UTC)
LENGTHS = [timedelta(), timedelta(seconds=1), timedelta(minutes=5), timedelta(hours=7), timedelta(days=9)]


def wrong_figures():
    return [finding for finding in findings() if finding.invariant.name == "figures"]


def changes():
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM refills_figurechange")
        return cursor.fetchone()[0]


class Walk:
    """Random changes of orders and refills, as they come from imports, requests, the desk and manual edits."""

    def __init__(self, seed):
        self.dice = random.Random(seed)
        self.now = NOW
        self.accounts = factories.Account.create_batch(5)
        self.services = factories.Service.create_batch(4)
        self.agents = [*factories.Account.create_batch(3, is_staff=True), factories.Supplier().account]
        self.last_order = 0

    def some_time(self):
        """Return a moment of the last 40 days, often a midnight or the edge of a week; seldom one in the future."""
        edges = [timedelta(days=days) for days in (0, 7, 14, 30)]
        if self.dice.random() < 0.3:
            midnight = self.now.replace(hour=0, minute=0, second=0, microsecond=0)
            return midnight - timedelta(days=self.dice.randint(0, 31)) + self.dice.choice([-1, 0, 1]) * LENGTHS[1]
        if self.dice.random() < 0.2:
            return self.now - self.dice.choice(edges) + timedelta(microseconds=self.dice.randint(-1, 1))
        return self.now + timedelta(minutes=30 - self.dice.expovariate(1 / 10_000))

    def ordered(self):
        status = self.dice.choice([*OrderStatus, *DELIVERED, *DELIVERED])
        at = self.some_time()
        ended = at if status in (*DELIVERED, OrderStatus.CANCELLED, OrderStatus.REFUNDED) else None
        return {"status": status, "created_at": at - timedelta(days=1), "completed_at": ended}

    def import_orders(self):
        orders = [
            factories.Order.build(
                number=self.last_order + n,
                account=self.dice.choice(self.accounts),
                service=self.dice.choice(self.services),
                **self.ordered(),
            )
            for n in range(1, 9)
        ]
        self.last_order += len(orders)
        Order.objects.bulk_create(orders)

    def change_order(self):
        Order.objects.filter(number__in=self.dice.choices(range(1, self.last_order + 1), k=3)).update(**self.ordered())

    def delete_order(self):
        Order.objects.filter(refills=None, number=self.dice.randint(1, self.last_order)).delete()

    def status(self, status):
        """Return fields of a refill that satisfy the constraints."""
        settled_at, agent = self.some_time(), self.dice.choice(self.agents)
        created_at = settled_at - self.dice.choice(LENGTHS) * self.dice.choice([1, 1, self.dice.random()])
        settled = {"settled_at": settled_at, "settled_by": agent} if status in SETTLED else {}
        fields = {"settled_at": None, "settled_by": None, "approved_at": None, "approved_by": None, "snoozed_by": None}
        fields |= {"snoozed_until": None, "status": status, "created_at": created_at} | settled
        if status == RefillStatus.APPROVED:
            fields |= {"approved_at": created_at, "approved_by": agent}
        if status == RefillStatus.PENDING and self.dice.random() < 0.3:
            fields |= {"snoozed_until": self.some_time(), "snoozed_by": agent}
        return fields

    def add_refills(self):
        busy = set(Refill.objects.in_flight().values_list("order_id", flat=True))
        refills = []
        for order in self.dice.choices(list(Order.objects.all()), k=6):
            status = self.dice.choice(SETTLED if order.pk in busy else [*RefillStatus, *SETTLED])
            busy |= {order.pk} if status in IN_FLIGHT else set()
            refills.append(Refill(order=order, account_id=order.account_id, service_id=order.service_id))
            for name, value in self.status(status).items():
                setattr(refills[-1], name, value)
        Refill.objects.bulk_create(refills)

    def change_refills(self):
        for refill in self.dice.choices(list(Refill.objects.all()), k=4):
            others = Refill.objects.in_flight().filter(order=refill.order_id).exclude(pk=refill.pk)
            status = self.dice.choice(SETTLED if others.exists() else RefillStatus.values)
            Refill.objects.filter(pk=refill.pk).update(**self.status(status))

    def settle_many(self):
        in_flight = list(Refill.objects.in_flight().values_list("pk", flat=True))
        chosen = self.dice.sample(in_flight, k=min(len(in_flight), 2))
        Refill.objects.filter(pk__in=chosen).update(**self.status(self.dice.choice(SETTLED)))

    def delete_refill(self):
        Refill.objects.filter(pk=self.dice.choice(list(Refill.objects.values_list("pk", flat=True)))).delete()

    def roll_back(self):
        with transaction.atomic():
            self.add_refills()
            transaction.set_rollback(True)

    def fold(self):
        figures.fold(self.now)

    def wait(self):
        self.now += timedelta(hours=self.dice.randint(1, 30))

    def step(self):
        steps = [self.import_orders, self.change_order, self.delete_order, self.add_refills, self.change_refills]
        steps += [self.settle_many, self.delete_refill, self.roll_back, self.fold, self.wait]
        self.dice.choices(steps, weights=[3, 3, 1, 5, 4, 2, 1, 1, 3, 1])[0]()


@pytest.mark.parametrize("seed", range(3))
def test_after_any_changes_the_figures_equal_the_slow_way(db, monkeypatch, seed):
    monkeypatch.setattr("refills.statistics.LEAST_SAMPLE", 2)
    monkeypatch.setattr("refills.statistics.CANDIDATES", 3)  # of five customers
    walk = Walk(seed)
    walk.import_orders()
    for _ in range(3):
        walk.add_refills()

    for _ in range(40):
        walk.step()
        assert statistics(walk.now) == slow_statistics.statistics(walk.now)
    assert wrong_figures() == []


def test_days_leave_the_window_and_their_refills_may_still_be_reopened(db):
    old, recent = (
        factories.Refill(status="completed", created_at=NOW - timedelta(days=days), order__created_at=NOW - days_before)
        for days, days_before in ((29, timedelta(days=30)), (10, timedelta(days=12)))
    )
    figures.fold(NOW)

    for days in (1, 2, 25):
        now = NOW + timedelta(days=days)
        before_the_fold = statistics(now)
        figures.fold(now)
        assert before_the_fold == statistics(now) == slow_statistics.statistics(now)
    for refill in (old, recent):
        Refill.objects.filter(pk=refill.pk).update(status="pending", settled_at=None, settled_by=None)
        figures.fold(now)

    assert statistics(now) == slow_statistics.statistics(now)
    assert wrong_figures() == []
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM refills_recentfigure WHERE completed <> 0")
        assert cursor.fetchone() == (0,)


def test_the_window_moves_on_a_minute_after_midnight(db):
    """Before that, a server whose clock is behind may still show the day that leaves."""
    midnight = NOW.replace(hour=0)
    figures.fold(NOW - timedelta(days=2))

    figures.fold(midnight + timedelta(seconds=59))
    assert _since() == midnight.date() - timedelta(days=30)
    figures.fold(midnight + timedelta(seconds=60))
    assert _since() == midnight.date() - timedelta(days=29)
    figures.fold(NOW - timedelta(days=2))  # a clock that is wrong does not bring days back
    assert _since() == midnight.date() - timedelta(days=29)


def _since():
    with connection.cursor() as cursor:
        cursor.execute("SELECT since FROM refills_figurewindow")
        return cursor.fetchone()[0]


def test_a_batch_appends_one_row_for_its_requests_and_uncounted_changes_none(customer, staff):
    orders = factories.Order.create_batch(20, account=customer.account, service=factories.Service())
    figures.fold(timezone.now())

    made = request_refills(customer.account.pk, [order.pk for order in orders])
    assert changes() == 1 + 20  # with a row for each order that now has a refill
    settle([refill.id for refill in made], "approved", staff)
    Refill.objects.update(claimed_by=staff, claimed_at=timezone.now())
    Order.objects.update(remains=1)
    assert changes() == 21


class TestRaces:
    pytestmark = MARKS

    def test_figures_stay_right_while_everything_happens_at_once(self, staff):
        accounts = factories.Account.create_batch(3)
        orders = [order for account in accounts for order in factories.Order.create_batch(4, account=account)]

        def work(seed):
            dice = random.Random(seed)
            for _ in range(25):
                some = dice.sample(orders, k=3)
                account = some[0].account_id
                match dice.randint(0, 6):
                    case 0 | 1:
                        request_refills(account, [order.pk for order in orders if order.account_id == account])
                    case 2 | 3:
                        found = list(Refill.objects.in_flight().values_list("pk", flat=True))
                        settle(found[: dice.randint(1, 4)], dice.choice(["approved", *SETTLED]), staff)
                    case 4:
                        found = list(Refill.objects.settled().values_list("pk", flat=True))
                        undo(dice.sample(found, k=min(len(found), 3)), staff)
                    case 5:
                        found = list(Refill.objects.settled().values_list("pk", flat=True))
                        reopen(dice.sample(found, k=min(len(found), 3)), staff, "Dropped again.")
                    case 6:
                        done = {"status": "completed", "completed_at": some[0].created_at + timedelta(days=5)}
                        under_way = {"status": "in_progress", "completed_at": None}
                        for order in sorted(some, key=lambda order: order.pk):
                            Order.objects.filter(pk=order.pk).update(**dice.choice([done, done, under_way]))

        def keep():
            for turn in range(15):
                (figures.rebuild if turn % 5 == 4 else figures.fold)(timezone.now())

        race([*(lambda seed=seed: work(seed) for seed in range(5)), keep])

        assert wrong_figures() == []
        for _ in range(2):
            now = timezone.now() + timedelta(seconds=1)
            assert statistics(now) == slow_statistics.statistics(now)
            figures.fold(now)

    def test_a_settlement_that_is_not_committed_while_the_figures_are_rebuilt_is_counted(self, staff):
        refill = factories.Refill()
        now = timezone.now() + timedelta(seconds=1)

        def rebuild():
            figures.rebuild(now)
            connection.close()

        with transaction.atomic():
            settle([refill.pk], "completed", staff)
            race([rebuild])
        assert wrong_figures() == []
        assert statistics(now).week.settled == 1

    def test_the_command_mends_what_the_audit_finds(self, staff, capsys):
        factories.Refill.create_batch(3, status="completed")
        figures.fold(timezone.now())
        with connection.cursor() as cursor:
            cursor.execute("UPDATE refills_dayfigure SET completed = completed + 1 WHERE kind = 'day'")
            cursor.execute("DELETE FROM refills_recentfigure WHERE kind = 'service'")
        [found] = wrong_figures()
        assert found.count == 4
        assert f"day {timezone.now().date()}" in found.first

        call_command("rebuildfigures")

        assert wrong_figures() == []
        assert capsys.readouterr().out == "Recounted the figures.\n"
