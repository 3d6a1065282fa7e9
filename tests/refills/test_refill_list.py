"""action=refill_list: refills in the order in which they last changed, and no change is ever skipped."""

import base64
import os
import random
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.utils import timezone

from apikeys.models import ApiKey
from notpanel.kit.public_id import to_uuid
from refills.listing import CHANGED_REFILLS, HELD_UP, PAGE, Cursor, list_changed
from refills.models import Refill
from refills.reopening import undo
from refills.requesting import request_refills
from refills.statuses import RefillStatus
from tests import factories
from tests.conftest import new_customer, settle
from tests.races import await_others, race
from tests.server import database_url

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("races")]

SECONDS = float(os.environ.get("REFILL_LIST_SECONDS", "8"))  # of the race; make it minutes to be more certain


@pytest.fixture
def customer(transactional_db):
    return new_customer()


def pages(customer, cursor="", *, wait=True, **parameters):
    """Follow the list to its end. Returns the refills and the last cursor."""
    if wait:
        await_others()
    found = []
    while True:
        page = customer.post("refill_list", cursor=cursor, **parameters).json()
        assert len(page["refills"]) <= PAGE
        found += page["refills"]
        cursor = page["next"]
        if not page["more"]:
            return found, cursor


def ids(found):
    return [each["refill"] for each in found]


def test_a_refill_is_listed_with_its_order_and_its_times(customer, staff, time_machine):
    requested = datetime(2026, 11, 20, 12, tzinfo=UTC)
    time_machine.move_to(requested, tick=False)
    order = factories.Order(account=customer.account)
    made = customer.refill(order)["refill"]
    time_machine.move_to(requested + timedelta(hours=1), tick=False)
    settle([made], "completed", staff, delivered=650)
    time_machine.move_to(requested + timedelta(hours=1), tick=True)
    await_others()

    page = customer.post("refill_list").json()

    assert list(page) == ["refills", "next", "more"]
    assert page["more"] is False
    assert page["refills"] == [
        {
            "refill": made,
            "number": Refill.objects.get().number,
            "order": order.pk,
            "status": "completed",
            "delivered": 650,
            "requested_at": int(requested.timestamp()),
            "changed_at": int(requested.timestamp()) + 3600,
        }
    ]


def test_other_programs_get_numbers_and_words(customer, staff):
    ApiKey.objects.update(answers="perfectpanel")
    refill = factories.Refill(order__account=customer.account, status="approved", staff=staff)

    [listed] = pages(customer)[0]

    number = Refill.objects.get().number
    assert (listed["refill"], listed["number"], listed["order"]) == (number, number, refill.order.number)
    assert listed["status"] == "In progress"


def test_a_rejected_refill_has_its_reason(customer, staff):
    made = customer.refill(factories.Order(account=customer.account))["refill"]
    settle([made], "rejected", staff, words="Nothing dropped.")

    assert pages(customer)[0][0]["reason"] == "Nothing dropped."


def test_the_cursor_leads_to_what_changed_since(customer, staff):
    first, second, third = (
        customer.refill(each)["refill"] for each in factories.Order.create_batch(3, account=customer.account)
    )
    found, cursor = pages(customer)
    assert ids(found) == [first, second, third]
    assert pages(customer, cursor) == ([], cursor)

    settle([second], "completed", staff)
    settle([first], "approved", staff)
    found, cursor = pages(customer, cursor)
    assert [(each["refill"], each["status"]) for each in found] == [(second, "completed"), (first, "approved")]

    undo([second], staff)
    found, cursor = pages(customer, cursor)
    assert [(each["refill"], each["status"]) for each in found] == [(second, "pending")]
    assert pages(customer, cursor)[0] == []


def test_a_claim_or_a_note_is_not_a_change(customer, staff):
    made = customer.refill(factories.Order(account=customer.account))["refill"]
    _, cursor = pages(customer)

    Refill.objects.filter(pk=made).update(claimed_at=timezone.now(), claimed_by=staff, status="pending")

    assert pages(customer, cursor)[0] == []


def test_without_refills_there_is_a_cursor_to_keep(customer):
    page = customer.post("refill_list").json()
    assert (page["refills"], page["more"]) == ([], False)

    made = customer.refill(factories.Order(account=customer.account))["refill"]

    assert ids(pages(customer, page["next"])[0]) == [made]


@pytest.mark.parametrize(("count", "sizes"), [(100, [100]), (101, [100, 1]), (250, [100, 100, 50])])
def test_there_are_a_hundred_on_a_page(customer, count, sizes):
    made = [factories.Refill(order__account=customer.account).pk for _ in range(count)]
    await_others()
    cursor, found, seen = "", [], []
    for _ in sizes:
        page = customer.post("refill_list", cursor=cursor).json()
        seen.append(len(page["refills"]))
        found += ids(page["refills"])
        cursor = page["next"]
        assert page["more"] is (len(found) < count)

    assert (seen, found) == (sizes, made)


def test_refills_of_one_transaction_may_fall_on_two_pages(customer):
    orders = factories.Order.create_batch(150, account=customer.account)
    with transaction.atomic():
        for start in (0, 75):
            request_refills(customer.account.pk, [order.pk for order in orders[start : start + 75]])

    assert len(set(ids(pages(customer)[0]))) == 150


@pytest.mark.parametrize("status", RefillStatus.values)
def test_a_status_selects(customer, status):
    of = {each: factories.Refill(order__account=customer.account, status=each).pk for each in RefillStatus.values}

    assert ids(pages(customer, status=status)[0]) == [of[status]]


def test_nobody_sees_the_refills_of_others(customer):
    factories.Refill()

    assert pages(customer)[0] == []


@pytest.mark.parametrize("status", ["Completed", "done", "pending,approved"])
def test_an_unknown_status_is_refused(customer, status):
    response = customer.post("refill_list", status=status)

    assert (response.status_code, response.json()) == (400, {"error": "Unknown status"})


@pytest.mark.parametrize("cursor", ["x", "!" * 38, "é", "A" * 37, "A" * 38, "A" * 4000, "1"])
def test_an_invalid_cursor_is_refused(customer, cursor):
    response = customer.post("refill_list", cursor=cursor)

    assert (response.status_code, response.json()) == (400, {"error": "Invalid cursor"})


def test_a_cursor_of_another_history_is_refused(customer):
    """A restore changes the server or the timeline, and changes after the cursor may have been lost."""
    factories.Refill(order__account=customer.account)
    _, cursor = pages(customer)
    packed = bytearray(base64.urlsafe_b64decode(cursor + "=="))
    packed[0] ^= 1

    assert customer.post("refill_list", cursor=base64.urlsafe_b64encode(packed).decode()).json() == {
        "error": "Invalid cursor"
    }


def test_a_cursor_beyond_every_transaction_is_refused(customer):
    factories.Refill(order__account=customer.account)
    _, cursor = pages(customer)
    lost = Cursor.parse(cursor)._replace(transaction=2**62)

    assert customer.post("refill_list", cursor=str(lost)).json() == {"error": "Invalid cursor"}


def test_refills_of_another_server_are_moved_to_the_end(customer, capsys, caplog):
    foreign, own = (factories.Refill(order__account=customer.account).pk for _ in range(2))
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE refills_refill SET changed_in = '4000000000000' WHERE id = %s",
            [to_uuid(foreign)],
        )
    found, cursor = pages(customer)
    assert ids(found) == [own]
    assert customer.post("refill_list", cursor=cursor).status_code == 503
    assert "mendrefilllist" in caplog.text

    call_command("mendrefilllist")

    assert capsys.readouterr().out == "Moved 1 refills to the end of the list.\n"
    assert ids(pages(customer, cursor)[0]) == [foreign]


# ---- Transactions side by side


@contextmanager
def another_session(isolation=psycopg.IsolationLevel.READ_COMMITTED):
    with psycopg.connect(database_url()) as session:
        session.isolation_level = isolation
        yield session


def test_what_commits_late_is_listed_after_what_was_listed(customer):
    early, late = factories.Order.create_batch(2, account=customer.account)
    held, go_on = threading.Event(), threading.Event()

    def commit_late():
        with transaction.atomic():
            [made] = request_refills(customer.account.pk, [late.pk])
            held.set()
            assert go_on.wait(10)
        return made.id

    def read():
        assert held.wait(10)
        made = customer.refill(early)["refill"]
        before, cursor = pages(customer, wait=False)
        go_on.set()
        return made, before, cursor

    late_refill, (early_refill, before, cursor) = race([commit_late, read])

    # The transaction of the late one began first. A list with the other one would lead past it.
    assert before == []
    assert ids(pages(customer, cursor)[0]) == [late_refill, early_refill]


def test_a_transaction_that_only_reads_holds_nothing_up(customer):
    """One example is pg_dump's, which may take hours."""
    with another_session(psycopg.IsolationLevel.REPEATABLE_READ) as dump:
        dump.execute("SELECT count(*) FROM refills_refill")
        made = customer.refill(factories.Order(account=customer.account))["refill"]

        assert ids(pages(customer)[0]) == [made]


def test_a_transaction_that_writes_holds_the_list_up_and_the_log_says_so_after_a_while(customer, caplog):
    with another_session() as writer:
        writer.execute("SELECT pg_current_xact_id()")
        refill = factories.Refill(order__account=customer.account)
        assert pages(customer, wait=False)[0] == []
        assert "holds back" not in caplog.text

        Refill.objects.update(created_at=timezone.now() - HELD_UP * 2)
        assert pages(customer, wait=False)[0] == []
        assert f"holds back changes of account {customer.account.pk} since" in caplog.text
        writer.rollback()

    assert ids(pages(customer)[0]) == [refill.pk]


def test_a_reader_misses_nothing_while_writers_commit_out_of_order(customer, staff):
    """Eight writers request and settle, each in transactions of its own length; readers follow with cursors."""
    orders = factories.Order.create_batch(40, account=customer.account, service=factories.Service(refill_limit=10**6))
    ends_at = time.monotonic() + SECONDS
    stopped = threading.Event()
    running = threading.Semaphore(0)

    def write(number):
        chance = random.Random(number)
        own = orders[number * 5 : number * 5 + 5]
        while time.monotonic() < ends_at:
            with transaction.atomic():
                order = chance.choice(own)
                flying = Refill.objects.filter(order=order).in_flight().first()
                if flying is None:
                    request_refills(customer.account.pk, [order.pk])
                elif flying.status == "pending" and chance.random() < 0.3:
                    settle([flying.pk], "approved", staff)
                else:
                    settle([flying.pk], chance.choice(["completed", "rejected"]), staff)
                time.sleep(chance.choice([0, 0.002, 0.01, 0.05, 0.2]))
        running.release()

    def read(status):
        cursor, last = "", {}
        statuses = [status] if status else RefillStatus.values
        while True:
            if at_the_end := stopped.is_set():
                await_others()
            page = list_changed(customer.account.pk, statuses, cursor)
            cursor = str(page.next)
            for refill in page.refills:
                last[refill.id] = refill.status
            if at_the_end and not page.more:
                return last

    def stop():
        for _ in range(8):
            running.acquire()
        stopped.set()

    *_, everything, completed, _ = race(
        [
            *(lambda number=number: write(number) for number in range(8)),
            lambda: read(""),
            lambda: read("completed"),
            stop,
        ]
    )

    stored = dict(Refill.objects.values_list("pk", "status"))
    assert len(stored) > 10 * SECONDS
    assert everything == stored
    assert completed == {pk: status for pk, status in stored.items() if status == "completed"}


@pytest.mark.parametrize("status", ["", "rejected"])
def test_a_page_is_read_from_an_index(customer, status):
    """Neither the number of the account's refills nor the place of the page in the list changes the work."""
    service = factories.Service(refill_limit=10**6)
    order = factories.Order(account=customer.account, service=service)
    refill = factories.Refill(order=order, status="completed", staff=customer.account)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO refills_refill
                (id, order_id, service_id, account_id, status, created_at, settled_at, settled_by_id, note)
            SELECT gen_random_uuid(), order_id, service_id, account_id, status, created_at, settled_at, settled_by_id,
                ''
            FROM refills_refill, generate_series(1, 20000)
            """
        )
        cursor.execute("ANALYZE refills_refill")
        cursor.execute(
            f"EXPLAIN (ANALYZE, FORMAT JSON) {CHANGED_REFILLS}".replace(")b::", ")s::"),
            {
                "account": customer.account.pk,
                "statuses": [status] if status else RefillStatus.values,
                "transaction": str(Refill.objects.get(pk=refill.pk).changed_in),
                "refill": to_uuid(refill.pk),
                "most": PAGE + 1,
            },
        )
        [[[plan]]] = cursor.fetchall()

    scans = [node for node in nodes(plan["Plan"]) if node.get("Relation Name") == "refills_refill"]
    assert {node["Index Name"] for node in scans} == {"refill_by_change"}
    assert max(node["Actual Rows"] for node in scans) <= PAGE + 1


def nodes(node):
    yield node
    for child in node.get("Plans", []):
        yield from nodes(child)
