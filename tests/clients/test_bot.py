"""docs/examples/bot.py requests each order once and learns what became of it, whatever is killed, and when."""

import ast
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter

import pytest

from refills.models import Refill
from tests import factories
from tests.clients.killed import BOT
from tests.conftest import new_customer, settle
from tests.server import MARKS, Server, backends, slow_refills, until

pytestmark = MARKS


class Bot:
    """The bot of a new customer who has some orders."""

    def __init__(self, directory, number, *orders):
        self.customer = new_customer()
        self.orders = [factories.Order(account=self.customer.account, **fields) for fields in orders]
        self.arguments = [str(directory / f"{number}.txt"), str(directory / f"{number}.db")]
        (directory / f"{number}.txt").write_text("".join(f"{order.pk}\n" for order in self.orders))

    def environment(self, url):
        return {"API_URL": f"{url}/api/v2", "API_KEY": self.customer.raw_key}

    def run(self, url):
        """Run it once, as a reseller does. Returns its exit status."""
        command = [sys.executable, str(BOT), *self.arguments]
        return subprocess.run(command, env=os.environ | self.environment(url), check=False, timeout=60).returncode

    @property
    def known(self):
        """Return what the bot's file says about refills."""
        with sqlite3.connect(self.arguments[1]) as db:
            return set(db.execute('SELECT id, "order", status, reason FROM refills'))

    @property
    def true(self):
        """Return what the database says about them."""
        refills = Refill.objects.filter(account=self.customer.account)
        return {(refill.pk, refill.order_id, refill.status, refill.reason_text or None) for refill in refills}


def run(url, bots, steps):
    """Run each bot, killing it at its step."""
    jobs = [json.dumps([bot.arguments, bot.environment(url), step]) for bot, step in zip(bots, steps, strict=True)]
    runs = subprocess.run(
        [sys.executable, "-m", "tests.clients.killed"],
        input="\n".join(jobs),
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return [json.loads(line) for line in runs.stdout.splitlines()]


def settle_some(fates):
    """Settle the refills in flight by ``fates``, in turn. A refill whose fate is empty is left alone."""
    admin = factories.Account(is_staff=True)
    in_flight = Refill.objects.filter(status__in=("pending", "approved")).order_by("number")
    for number, refill in enumerate(in_flight):
        if status := fates[number % len(fates)]:
            settle([refill.pk], status, admin)


def lines():
    """Return the numbers of the lines at which Python begins a statement of the bot."""
    body = ast.parse(BOT.read_text())
    return {node.lineno for node in ast.walk(body) if isinstance(node, ast.stmt)} - {1}


def learn_all(url, bots):
    """Run the bots until their files say what the database says. A transaction that is running holds the list back."""

    def learn():
        late = [bot for bot in bots if bot.known != bot.true]
        assert {status for *_, status in run(url, late, [None] * len(late))} <= {0}
        return not late

    until(learn)


def asked_twice():
    return [order for order, count in Counter(Refill.objects.values_list("order_id", flat=True)).items() if count > 1]


def test_the_bot_is_killed_at_each_of_its_lines(server, tmp_path):
    orders = [{}, {"status": "partial"}, {"status": "in_progress"}]
    [[steps, *_]] = run(server, [Bot(tmp_path, 0, *orders)], [None])
    bots = [Bot(tmp_path, step, *orders) for step in range(1, steps + 1)]

    killed = run(server, bots, range(1, steps + 1))
    whole = run(server, bots, [None] * steps)
    settle_some(["completed", None, "rejected", "approved"])
    again = run(server, bots, range(1, steps + 1))  # while there are fates to learn
    learn_all(server, bots)
    settle_some([None, "completed", "rejected"])
    learn_all(server, bots)

    assert {status for *_, status in killed} == {-signal.SIGKILL}
    assert lines() <= {line for _, line, _ in killed}
    assert sum(line == 0 for _, line, _ in killed) == 3  # a request was sent, no answer was read
    assert {status for *_, status in whole} == {0}
    assert sum(status == -signal.SIGKILL for *_, status in again) > steps / 2
    assert asked_twice() == []
    assert [len(bot.known) for bot in bots] == [2] * steps
    assert [bot.known for bot in bots] == [bot.true for bot in bots]
    assert {status for bot in bots for _, _, status, _ in bot.known} == {"pending", "approved", "completed", "rejected"}


@pytest.mark.parametrize("commit", [False, True], ids=["before the commit", "between commit and answer"])
def test_the_server_is_killed_while_it_answers(tmp_path, commit):
    bot = Bot(tmp_path, 0, {}, {})
    with slow_refills(commit=commit) as slow:
        server = Server(tmp_path)
        ends = []
        running = threading.Thread(target=lambda: ends.append(bot.run(server.url)))
        running.start()
        until(lambda: backends(slow) == 1)
        server.kill()
        running.join(20)
        until(lambda: backends(slow) == 0)
    made = Refill.objects.count()
    settle_some(["completed"])  # so that the database would accept a second refill
    server = Server(tmp_path)
    try:
        ends.append(bot.run(server.url))
        settle_some(["rejected", None])
        learn_all(server.url, [bot])
    finally:
        server.stop()

    assert ends == [1, 0]
    assert made == (2 if commit else 0)
    assert asked_twice() == []
    assert len(bot.known) == 2
    assert bot.known == bot.true


def test_more_orders_than_fit_a_batch_and_a_page(server, tmp_path):
    bot = Bot(tmp_path, 0, *[{}] * 203)

    assert [bot.run(server) for _ in range(2)] == [0, 0]
    settle_some(["completed"])
    assert bot.run(server) == 0
    learn_all(server, [bot])

    assert asked_twice() == []
    assert len(bot.known) == 203
    assert bot.known == bot.true


def test_a_batch_whose_answer_is_no_longer_kept_is_not_sent_again(server, tmp_path):
    bot = Bot(tmp_path, 0, {}, {})
    bot.customer.refill(bot.orders[0])  # as a bot did that was killed two days ago, before it got the answer
    settle_some(["completed"])
    with sqlite3.connect(bot.arguments[1]) as db:
        db.execute("CREATE TABLE batch (request_id, orders, at)")
        db.execute("INSERT INTO batch VALUES ('old', ?, unixepoch() - 48 * 3600)", [bot.orders[0].pk])

    assert bot.run(server) == 0
    learn_all(server, [bot])

    assert asked_twice() == []
    assert len(bot.known) == 2


def test_a_second_bot_at_the_same_time_ends(server, tmp_path):
    bot = Bot(tmp_path, 0, {}, {})
    with slow_refills(commit=True) as slow:
        first = threading.Thread(target=bot.run, args=[server])
        first.start()
        until(lambda: backends(slow) == 1)
        assert bot.run(server) == 1
        first.join(20)

    assert asked_twice() == []
    assert bot.known == bot.true
