"""action=refill (docs/contract.md)."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction
from django.utils import timezone

from orders.models import LONGEST_REFILL_PERIOD, Order
from refills import requesting
from refills.models import ONE_IN_FLIGHT, Refill
from refills.requesting import request_refills
from refills.statuses import RefillStatus
from tests import factories
from tests.orders.test_status import IMPOSSIBLE

NOT_FINISHED = "Refill only available for completed or partial orders"
NOT_REFILLABLE = "Service does not support refills"
EXPIRED = "Refill period has expired (30 days)"
PENDING = "A refill request is already pending for this order"
CAPPED = "Refill limit reached (3 per order)"


@pytest.fixture
def order(customer):
    """A factory of orders of the customer."""
    return lambda **fields: factories.Order(account=customer.account, **fields)


def refused(customer, order):
    response = customer.post("refill", order=getattr(order, "pk", order))
    assert response.status_code == 400
    [(name, text)] = response.json().items()
    assert name == "error"
    return text


@pytest.mark.parametrize("status", ["completed", "partial"])
def test_a_completed_or_partial_order_is_refilled(customer, order, status):
    bought = order(status=status)

    response = customer.post("refill", order=bought.pk)

    refill = Refill.objects.get()
    assert (response.status_code, response.json()) == (200, {"refill": refill.pk})
    assert refill.pk.startswith("ref_")
    assert len(refill.pk) == 30
    assert (refill.order, refill.status, refill.api_key) == (bought, RefillStatus.PENDING, customer.api_key)
    assert timezone.now() - refill.created_at < timedelta(minutes=1)


def test_an_order_may_be_named_by_its_number(customer, order):
    assert "refill" in customer.refill(order().number)


def test_every_refill_has_a_number_of_its_own(customer, order):
    for _ in range(3):
        customer.refill(order())

    assert len({refill.number for refill in Refill.objects.all()}) == 3


@pytest.mark.parametrize("reference", ["999999", *IMPOSSIBLE])
def test_an_order_that_does_not_exist_is_not_found(customer, reference):
    assert refused(customer, reference) == "Order not found"


def test_another_accounts_order_is_not_found_and_not_touched(customer, customers):
    theirs = factories.Order(account=customers().account)

    assert refused(customer, theirs) == "Order not found"
    assert refused(customer, theirs.number) == "Order not found"
    assert not Refill.objects.exists()


@pytest.mark.parametrize("status", ["pending", "processing", "in_progress", "cancelled", "refunded"])
def test_an_order_that_is_not_finished_is_refused(customer, order, status):
    assert refused(customer, order(status=status)) == NOT_FINISHED


def test_a_service_that_does_not_refill_is_refused(customer, order):
    assert refused(customer, order(service__refill=False)) == NOT_REFILLABLE


def completed(ago):
    now = timezone.now()
    return {"created_at": now - timedelta(days=60), "completed_at": now - ago}


def test_a_period_that_has_expired_is_refused(customer, order):
    late = order(service__refill_days=30, **completed(timedelta(days=30, minutes=1)))

    assert refused(customer, late) == EXPIRED


def test_a_request_in_the_last_minute_of_the_period_is_accepted(customer, order):
    assert "refill" in customer.refill(
        order(service__refill_days=30, **completed(timedelta(days=30) - timedelta(minutes=1)))
    )


def test_the_period_includes_its_last_moment(customer, order, time_machine):
    completed_at = datetime(2026, 4, 1, tzinfo=UTC)
    time_machine.move_to(completed_at + timedelta(days=30), tick=False)

    bought = order(service__refill_days=30, created_at=completed_at, completed_at=completed_at)

    assert "refill" in customer.refill(bought)


def test_an_order_may_be_refilled_in_the_longest_period(customer, order):
    assert "refill" in customer.refill(order(service__refill_days=LONGEST_REFILL_PERIOD))


def test_a_service_without_a_period_never_expires(customer, order):
    assert "refill" in customer.refill(
        order(created_at=timezone.now() - timedelta(days=4000), completed_at=timezone.now() - timedelta(days=3999))
    )


@pytest.mark.parametrize("status", ["pending", "approved"])
def test_an_order_with_a_refill_in_flight_is_refused(customer, order, status):
    bought = order()
    factories.Refill(order=bought, status=status)

    assert refused(customer, bought) == PENDING


@pytest.mark.parametrize("status", ["completed", "rejected"])
def test_a_settled_refill_is_not_in_flight(customer, order, status):
    bought = order()
    factories.Refill(order=bought, status=status)

    assert "refill" in customer.refill(bought)


def test_an_order_at_the_cap_is_refused(customer, order):
    bought = order()
    factories.Refill.create_batch(3, order=bought, status="completed")

    assert refused(customer, bought) == CAPPED


def test_an_order_below_the_cap_is_accepted(customer, order):
    bought = order()
    factories.Refill.create_batch(2, order=bought, status="completed")

    assert "refill" in customer.refill(bought)


def test_rejected_refills_do_not_count(customer, order):
    bought = order()
    factories.Refill.create_batch(2, order=bought, status="completed")
    factories.Refill.create_batch(5, order=bought, status="rejected")

    assert "refill" in customer.refill(bought)


def test_a_service_may_have_a_cap_of_its_own(customer, order, settings):
    settings.REFILL_LIMIT = 7
    bought = order(service__refill_limit=1)
    factories.Refill(order=bought, status="completed")

    assert refused(customer, bought) == "Refill limit reached (1 per order)"


def test_the_setting_is_the_cap_of_services_without_one(customer, order, settings):
    settings.REFILL_LIMIT = 1
    bought = order()
    factories.Refill(order=bought, status="completed")

    assert refused(customer, bought) == "Refill limit reached (1 per order)"


def test_the_rules_are_judged_in_order(customer, customers, order):
    """Each order violates every later rule too; the first one refuses it."""
    service = factories.Service(refill=False, refill_days=30, refill_limit=1)
    everything = {"service": service, **completed(timedelta(days=31))}
    theirs = factories.Order(account=customers().account, status="cancelled", **everything)
    bought = order(status="cancelled", **everything)
    for bad in (theirs, bought):
        factories.Refill(order=bad, status="completed")
        factories.Refill(order=bad, status="pending")

    told = [refused(customer, theirs), refused(customer, bought)]
    type(bought).objects.filter(pk=bought.pk).update(status="completed")
    told.append(refused(customer, bought))
    type(service).objects.filter(pk=service.pk).update(refill=True)
    told.append(refused(customer, bought))
    type(service).objects.filter(pk=service.pk).update(refill_days=None)
    told.append(refused(customer, bought))
    Refill.objects.filter(order=bought, status="pending").delete()
    told.append(refused(customer, bought))

    assert told == [
        "Order not found",
        NOT_FINISHED,
        NOT_REFILLABLE,
        EXPIRED,
        PENDING,
        "Refill limit reached (1 per order)",
    ]


# ---- Batches


def test_a_batch_has_a_row_per_id_in_the_order_sent(customer, customers, order):
    fine, also_fine, unfinished = order(), order(), order(status="pending")
    theirs = factories.Order(account=customers().account)
    sent = [also_fine.pk.lower(), "nonsense", str(fine.number), unfinished.pk, theirs.pk]

    response = customer.post("refill", orders=",".join(sent))

    assert response.status_code == 200
    rows = response.json()
    assert [row["order"] for row in rows] == sent
    assert [row.get("error") for row in rows] == [None, "Order not found", None, NOT_FINISHED, "Order not found"]
    assert rows[0] == {"order": also_fine.pk.lower(), "refill": Refill.objects.get(order=also_fine).pk}
    assert rows[2] == {"order": str(fine.number), "refill": Refill.objects.get(order=fine).pk}


def test_an_id_that_is_repeated_is_judged_again(customer, order):
    bought = order()

    rows = customer.post("refill", orders=f"{bought.pk},{bought.number},{bought.pk.lower()}").json()

    assert rows[0]["refill"] == Refill.objects.get().pk
    assert [row.get("error") for row in rows[1:]] == [PENDING, PENDING]


def test_a_batch_of_one_is_an_array(customer, order):
    [row] = customer.post("refill", orders=order().pk).json()

    assert set(row) == {"order", "refill"}


def test_a_batch_in_which_nothing_is_refilled_is_still_answered(customer):
    response = customer.post("refill", orders="1,x")

    assert response.status_code == 200
    assert response.json() == [
        {"order": "1", "error": "Order not found"},
        {"order": "x", "error": "Order not found"},
    ]


# ---- What the database refuses, even if code forgets to


def test_the_database_refuses_a_second_refill_in_flight(db):
    refill = factories.Refill(status="approved")

    with pytest.raises(IntegrityError, match=ONE_IN_FLIGHT), transaction.atomic():
        factories.Refill(order=refill.order)


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [
        ({"status": "lost"}, "refill_settled_has_who_and_when"),
        ({"status": "completed", "settled_at": None}, "refill_settled_has_who_and_when"),
        ({"status": "rejected", "settled_by": None}, "refill_settled_has_who_and_when"),
        ({"status": "pending", "settled_at": timezone.now()}, "refill_settled_has_who_and_when"),
        ({"status": "approved", "approved_by": None}, "refill_approved_has_who_and_when"),
        ({"status": "pending", "approved_at": timezone.now()}, "refill_approved_has_who_and_when"),
    ],
)
def test_the_database_refuses_an_invalid_refill(db, fields, constraint):
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        factories.Refill(**fields)


@pytest.mark.parametrize("factory", [factories.Account, factories.Service])
def test_the_database_refuses_a_refill_of_another_account_or_service_than_its_orders(db, factory):
    refill = factories.Refill()
    theirs = factory()

    with pytest.raises(IntegrityError, match="refill_is_of_its_orders_account_and_service"), transaction.atomic():
        factories.Refill(**{factory.__name__.lower(): theirs})
    with pytest.raises(IntegrityError, match="refill_is_of_its_orders_account_and_service"), transaction.atomic():
        Order.objects.filter(pk=refill.order_id).update(**{factory.__name__.lower(): theirs})
    with pytest.raises(IntegrityError, match="refill_is_of_its_orders_account_and_service"), transaction.atomic():
        Order.objects.filter(pk=refill.order_id)._raw_delete(using="default")


@pytest.fixture
def blind(monkeypatch):
    """Hide the refills of other requests from the first counts, as if they were inserted after the count."""
    from refills import requesting

    seeing, calls = requesting.tally_refills, []

    def tally_refills(order_ids):
        calls.append(list(order_ids))
        return {} if len(calls) <= tally_refills.blind_for else seeing(calls[-1])

    tally_refills.blind_for = 1
    monkeypatch.setattr(requesting, "tally_refills", tally_refills)
    return tally_refills


def test_an_error_of_the_constraint_becomes_the_right_refusal(customer, order, blind):
    contested, fine = order(), order()
    factories.Refill(order=contested)

    rows = customer.post("refill", orders=f"{contested.pk},{fine.pk}").json()

    assert rows[0]["error"] == PENDING
    assert rows[1]["refill"] == Refill.objects.get(order=fine).pk


def test_a_request_gets_503_when_the_constraint_keeps_refusing(customer, order, blind):
    blind.blind_for = 99
    contested, fine = order(), order()
    factories.Refill(order=contested)

    response = customer.post("refill", orders=f"{contested.pk},{fine.pk}")

    assert (response.status_code, response.json()) == (503, {"error": "Service temporarily unavailable"})
    assert Refill.objects.count() == 1


def test_another_integrity_error_is_not_mistaken_for_a_refill_in_flight(customer, order):
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")

    with pytest.raises(IntegrityError, match="api_key"), transaction.atomic():
        request_refills(customer.account.pk, [order().pk], api_key_id=0)


def test_a_database_that_fails_half_way_leaves_nothing(customer, order, monkeypatch):
    def fail(statement, *args):
        if statement == requesting.INSERT_REFILLS:
            raise OperationalError("server closed the connection unexpectedly")
        return fetch(statement, *args)

    fetch = requesting.fetch
    monkeypatch.setattr(requesting, "fetch", fail)

    response = customer.post("refill", order=order().pk)

    assert (response.status_code, response.json()) == (503, {"error": "Service temporarily unavailable"})
    assert not Refill.objects.exists()
