"""A short form of ``make faults``: whatever is killed or locked, nothing is lost, doubled or unexplained."""

import shutil
from contextlib import nullcontext
from dataclasses import replace

import pytest

from tests import factories
from tests.faults import judging
from tests.faults.clients import Answer, Client
from tests.faults.faults import Fault
from tests.faults.installation import Customer
from tests.faults.judging import Window
from tests.server import run_alone


@pytest.mark.xdist_group("embedded")  # it starts a PostgreSQL of its own
@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not on the PATH")
def test_nothing_is_lost_doubled_or_unexplained_while_parts_are_killed_and_locked():
    done = run_alone("tests.faults", "--quick", "--within", "20")  # a machine that runs tests may be slow

    assert done.returncode == 0, done.stdout + done.stderr
    for fault in ("PostgreSQL killed", "Redis killed", "a process of the server killed", "the worker killed"):
        assert f"\n{fault} " in done.stdout
    assert done.stdout.endswith("problems: none\n")


def test_the_judgement_finds_what_is_lost_doubled_or_unexplained(customer):
    order = factories.Order(account=customer.account)
    refill = factories.Refill(order=order)
    client = Client(0, Customer(customer.account, customer.raw_key, range(0)), 3, lambda: 0.0)
    fault = Fault("a lock", lambda site: nullcontext(), 1)
    windows = [Window(fault, 0.0, 1.0, 2.0), Window(replace(fault, may_commit=True), 10.0, 11.0, 12.0)]
    client.told.listed, client.told.requests[order.number] = {refill.pk: "pending"}, 1

    def found():
        return list(judging.wrong_in_the_books([client], windows))

    client.told.unanswered[order.number] = [Answer(0.0, 1.5, "503", "refill")]  # it wrote nothing
    assert [problem.startswith(f"nobody was told of {refill.pk}") for problem in found()] == [True]
    client.told.unanswered[order.number].append(Answer(10.0, 11.5, "503", "refill"))
    assert found() == []
    client.told.refills = {refill.pk: order.number, "ref_other": order.number}
    assert found() == [f"ref_other of order {order.number} is lost"]
    del client.told.refills["ref_other"]
    client.told.requests[order.number] = 0
    assert found() == [f"order {order.number} has 1 refills of 0 requests"]


@pytest.mark.parametrize(
    ("kind", "at", "is_explained"),
    [("503", 1.5, True), ("503", 3.0, False), ("closed", 1.5, False), ("wrong", 1.5, False), ("good", 3.0, True)],
)
def test_a_fault_explains_the_answers_of_its_own_kind_and_time(kind, at, is_explained):
    window = Window(Fault("a lock", lambda site: nullcontext(), 1), 0.0, 1.0, 2.0)

    assert (list(judging.unexplained([Answer(0.0, at, kind, "refill")], [window])) == []) is is_explained
