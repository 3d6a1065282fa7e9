"""A supplier that fails or answers slowly does not keep the others waiting: jobs in threads, as a worker runs them."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from django.db import connection

from refills import dispatching, following, supplier_lanes
from refills.models import Dispatch, SupplierState
from tests import factories
from tests.supplier import DROP, stub

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def one_place(monkeypatch):
    """Let a worker deal with one slow supplier at a time, and forget those that it knows."""
    monkeypatch.setattr(supplier_lanes, "_places", threading.BoundedSemaphore(1))
    monkeypatch.setattr(supplier_lanes, "_slow", set())


@pytest.fixture
def jobs():
    """Yield a function that runs the job of a supplier in a thread. Returns its future."""
    with ThreadPoolExecutor() as pool:

        def run(supplier):
            def follow():
                try:
                    following.follow(supplier.pk)
                finally:
                    connection.close()

            return pool.submit(follow)

        yield run


@pytest.fixture
def suppliers():
    """Yield a function that starts a supplier, with a refill to be sent, which answers with what ``answer`` returns."""
    with ExitStack() as stack:

        def start(answer):
            server = stack.enter_context(stub(answer))
            supplier = factories.Supplier(url=server.url, poll_seconds=3600)
            supplier.asked = server.asked
            return supplier

        yield start


def request(customer, *suppliers):
    for supplier in suppliers:
        order = factories.Order(account=customer.account, service__supplier=supplier, supplier_order="815")
        assert "refill" in customer.refill(order)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")  # the test itself runs them


def waits(supplier):
    """Return when the supplier is looked at again."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT scheduled_at FROM procrastinate_jobs WHERE task_name = %s AND args->>'supplier' = %s"
            " AND scheduled_at IS NOT NULL",
            [dispatching.FOLLOW, str(supplier.pk)],
        )
        return [at for [at] in cursor.fetchall()]


class Slow:
    """A supplier's answer, which is given once the test says so."""

    def __init__(self):
        self.is_asked, self.may_answer = threading.Event(), threading.Event()

    def __call__(self, asked):
        self.is_asked.set()
        assert self.may_answer.wait(20)
        return b'{"refill": 1}'


def test_slow_suppliers_have_some_places_and_the_others_go_on(customer, jobs, suppliers):
    first, second = Slow(), Slow()
    slow, slower, healthy = suppliers(first), suppliers(second), suppliers(lambda asked: b'{"refill": 1}')
    for supplier in (slow, slower):
        supplier_lanes.note(supplier.pk, 10.0, failed=False)
    request(customer, slow, slower, healthy)

    holding = jobs(slow)
    assert first.is_asked.wait(20)
    jobs(slower).result(20)
    jobs(healthy).result(20)

    assert Dispatch.objects.get(supplier=healthy).state == "sent"
    assert (slower.asked, len(waits(slower))) == ([], 1)
    second.may_answer.set()
    first.may_answer.set()
    holding.result(20)
    jobs(slower).result(20)
    assert Dispatch.objects.get(supplier=slower).state == "sent"


def test_a_supplier_that_failed_needs_a_place_in_a_new_worker_too(customer, jobs, suppliers):
    first = Slow()
    slow, dead = suppliers(first), suppliers(lambda asked: DROP)
    supplier_lanes.note(slow.pk, 10.0, failed=False)
    SupplierState.objects.create(supplier=dead, failures=1)
    request(customer, slow, dead)

    holding = jobs(slow)
    assert first.is_asked.wait(20)
    jobs(dead).result(20)

    assert dead.asked == []
    first.may_answer.set()
    holding.result(20)


def test_a_job_whose_supplier_turns_out_to_fail_lets_go_after_one_request(customer, jobs, suppliers):
    first = Slow()
    slow, dying = suppliers(first), suppliers(lambda asked: DROP)
    supplier_lanes.note(slow.pk, 10.0, failed=False)
    request(customer, slow, dying, dying, dying)

    holding = jobs(slow)
    assert first.is_asked.wait(20)
    jobs(dying).result(20)

    assert len(dying.asked) == 1
    first.may_answer.set()
    holding.result(20)


def test_a_supplier_that_answers_again_needs_no_place(customer, jobs, suppliers):
    first = Slow()
    slow, recovered = suppliers(first), suppliers(lambda asked: b'{"refill": 1}')
    for failed in (True, False):
        supplier_lanes.note(recovered.pk, 0.1, failed=failed)
    supplier_lanes.note(slow.pk, 10.0, failed=False)
    request(customer, slow, recovered)

    holding = jobs(slow)
    assert first.is_asked.wait(20)
    jobs(recovered).result(20)

    assert Dispatch.objects.get(supplier=recovered).state == "sent"
    first.may_answer.set()
    holding.result(20)
