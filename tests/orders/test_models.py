from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from apikeys.models import Account, ApiKey, SuspensionEvent
from notpanel.kit.money import money
from orders.models import LONGEST_REFILL_PERIOD, Order, Service
from tests import factories


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [
        ({"number": 0}, "order_number_is_positive"),
        ({"quantity": 0}, "order_quantity_is_positive"),
        ({"charge": Decimal("-0.01")}, "order_charge_is_not_negative"),
        ({"start_count": -1}, "orders_order_start_count_check"),
        ({"remains": -1}, "orders_order_remains_check"),
        ({"currency": "usd"}, "order_currency_is_a_code"),
        ({"status": "lost"}, "order_status_is_known"),
        ({"status": "completed", "completed_at": None}, "order_delivered_has_its_time"),
        ({"status": "partial", "completed_at": None}, "order_delivered_has_its_time"),
        ({"status": "pending", "completed_at": timezone.now()}, "order_under_way_has_no_end"),
        ({"completed_at": timezone.now() - timedelta(days=400)}, "order_ends_after_it_began"),
    ],
)
def test_the_database_refuses_an_invalid_order(db, fields, constraint):
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        factories.Order(**fields)


def test_the_number_of_an_order_is_unique(db):
    order = factories.Order()

    with pytest.raises(IntegrityError, match="number"), transaction.atomic():
        factories.Order(number=order.number)


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [
        ({"rate": Decimal("-1")}, "service_rate_is_not_negative"),
        ({"min": 100, "max": 99}, "service_max_is_not_below_min"),
        ({"min": -1}, "orders_service_min_check"),
        ({"refill_days": 0}, "service_refill_days_is_positive"),
        ({"refill_days": LONGEST_REFILL_PERIOD + 1}, "service_refill_days_is_a_century_at_most"),
        ({"refill_limit": 0}, "service_refill_limit_is_positive"),
    ],
)
def test_the_database_refuses_an_invalid_service(db, fields, constraint):
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        factories.Service(**fields)


@pytest.mark.parametrize(
    ("amount", "text"),
    [("0.9", "0.90"), ("0", "0.00"), ("12", "12.00"), ("0.27819", "0.27819"), ("1.10000", "1.10"), ("100", "100.00")],
)
def test_money_has_two_decimals_or_as_many_as_it_needs(amount, text):
    assert money(Decimal(amount)) == text


def catalogued(statement):
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return {row[0] for row in cursor.fetchall()}


@pytest.mark.parametrize(
    "index",
    [
        "USING btree (number)",
        "USING hash (link)",
        "USING btree (completed_at)",
        "USING btree (account_id, created_at, id)",
        "USING btree (service_id)",
        "USING btree (id, account_id, service_id)",
    ],
)
def test_the_database_has_the_index_of_orders(db, index):
    indexes = catalogued("SELECT indexdef FROM pg_indexes WHERE tablename = 'orders_order'")

    assert sum(each.endswith(index) for each in indexes) == 1
    if index in ("USING btree (number)", "USING btree (id, account_id, service_id)"):
        assert any(each.startswith("CREATE UNIQUE") and each.endswith(index) for each in indexes)


@pytest.mark.parametrize("model", [Order, Service, Account, ApiKey, SuspensionEvent])
def test_the_database_has_every_constraint_and_index_of_the_model(db, model):
    named = {each.name for each in (*model._meta.constraints, *model._meta.indexes)}
    table = model._meta.db_table

    assert named
    assert named <= catalogued(
        f"SELECT conname FROM pg_constraint WHERE conrelid = '{table}'::regclass"
        f" UNION SELECT indexname FROM pg_indexes WHERE tablename = '{table}'"
    )


def test_models_and_migrations_agree(db):
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


def test_orders_are_found_by_id_number_and_whole_link(db):
    one, other = factories.Order(link="https://example.com/one"), factories.Order(link="https://example.com/other")

    for text in (one.pk, one.pk.lower(), str(one.number), one.link):
        assert list(Order.objects.matching(text)) == [one]
    for text in ("https://example.com/", "ord_", str(other.number + 9)):
        assert not Order.objects.matching(text).exists()


def test_the_admin_finds_orders_by_id_number_and_whole_link(client, staff):
    orders = factories.Order.create_batch(2)
    orders[0].link = "https://example.com/one"
    orders[0].save()
    client.force_login(staff)

    def found(text):
        return set(client.get("/admin/orders/order/", {"q": text}).context["cl"].queryset)

    for text in (orders[0].pk, f" {orders[0].number} ", orders[0].link):
        assert found(text) == {orders[0]}
    assert found("") == found(" ") == set(orders)
    assert found("nothing") == set()
