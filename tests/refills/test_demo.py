import shlex

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from apikeys.models import Account, ApiKey
from orders.models import Order, OrderStatus, Service
from refills.management.commands import demo
from refills.models import Refill
from refills.statuses import RefillStatus
from tests import factories
from tests.conftest import post


@pytest.fixture
def load(db, tmp_path, monkeypatch, capsys):
    """Run the command; returns the variables that it writes, and what it prints."""
    monkeypatch.setattr(demo, "FILE", tmp_path / "var" / "demo.env")
    monkeypatch.setattr(demo.settings, "BASE_DIR", tmp_path)

    def call(*arguments):
        call_command("demo", "--force", *arguments)
        pairs = (line.partition("=") for line in demo.FILE.read_text().splitlines())
        return {name: "".join(shlex.split(value)) for name, _, value in pairs}, capsys.readouterr().out

    return call


def test_each_variable_gets_the_answer_that_its_name_promises(load):
    variables, _ = load("--base-url", "http://127.0.0.1:8123")

    def refill(order, key="API_KEY"):
        return post(key=variables[key], action="refill", order=variables[order]).json()

    assert variables["BASE_URL"] == "http://127.0.0.1:8123"
    assert refill("ORDER_COMPLETED", "OTHER_API_KEY") == {"error": "Order not found"}
    assert refill("ORDER_COMPLETED", "SUSPENDED_API_KEY") == {"error": "Account suspended"}
    assert "refill" in refill("ORDER_COMPLETED")
    assert "refill" in refill("ORDER_PARTIAL")
    assert refill("ORDER_PROCESSING") == {"error": "Refill only available for completed or partial orders"}
    assert refill("ORDER_NO_REFILL") == {"error": "Service does not support refills"}
    assert refill("ORDER_PENDING_REFILL") == {"error": "A refill request is already pending for this order"}
    assert refill("ORDER_CAPPED") == {"error": "Refill limit reached (3 per order)"}
    assert refill("ORDER_EXPIRED") == {"error": "Refill period has expired (30 days)"}
    rows = post(key=variables["API_KEY"], action="refill", orders=variables["ORDERS_FRESH"]).json()
    assert len([row for row in rows if "refill" in row]) == 100
    staff = Account.objects.get(username=variables["STAFF_USER"])
    assert staff.is_staff
    assert staff.check_password(variables["STAFF_PASSWORD"])


def test_the_demo_has_every_status_for_three_tiers(load):
    load()

    assert Service.objects.count() >= 200
    assert Order.objects.count() >= 400
    assert Refill.objects.count() >= 100
    assert set(Order.objects.values_list("status", flat=True)) == set(OrderStatus.values)
    assert set(Refill.objects.values_list("status", flat=True)) == set(RefillStatus.values)
    assert set(Order.objects.values_list("account__tier", flat=True)) == set(Account.Tier.values)


def test_the_printed_curl_line_works(load):
    variables, output = load()

    [line] = [line for line in output.splitlines() if line.startswith("curl")]
    _, *arguments, body = shlex.split(line)
    assert arguments == ["-X", "POST", f"{variables['BASE_URL']}/api/v2", "-d"]
    assert "refill" in post(**dict(pair.split("=") for pair in body.split("&"))).json()


def counts():
    return [model.objects.count() for model in (Account, ApiKey, Service, Order, Refill)]


def test_running_the_command_again_changes_nothing(load):
    before, counted = load()[0], counts()

    after, _ = load()

    assert after == before
    assert counts() == counted


def test_an_order_that_is_no_longer_in_its_state_is_replaced_by_a_new_one(load):
    before, _ = load()
    post(key=before["API_KEY"], action="refill", order=before["ORDER_COMPLETED"])
    post(key=before["API_KEY"], action="refill", orders=",".join(before["ORDERS_FRESH"].split(",")[:7]))
    counted = Order.objects.count()

    after, _ = load()

    assert Order.objects.count() == counted + 8
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"ORDER_COMPLETED", "ORDERS_FRESH"}
    assert len(set(after["ORDERS_FRESH"].split(",")) & set(before["ORDERS_FRESH"].split(","))) == 93
    assert "refill" in post(key=after["API_KEY"], action="refill", order=after["ORDER_COMPLETED"]).json()


def test_on_a_new_database_an_earlier_file_is_replaced(load):
    demo.FILE.parent.mkdir()
    demo.FILE.write_text("API_KEY=np_" + "x" * 43 + "\nSTAFF_PASSWORD=old\n")

    variables, _ = load()

    assert post(key=variables["API_KEY"], action="services").status_code == 200
    assert Account.objects.get(username="demo-staff").check_password(variables["STAFF_PASSWORD"])


def test_other_accounts_are_left_alone(load):
    refill = factories.Refill()

    load()
    load()

    assert Refill.objects.filter(pk=refill.pk).exists()


def test_the_demo_is_not_loaded_among_real_orders(db, monkeypatch):
    monkeypatch.setattr(demo, "is_embedded", lambda host: False)

    with pytest.raises(CommandError, match=f"leads to the database “{connection.settings_dict['NAME']}”.*--force"):
        call_command("demo")

    assert not Account.objects.exists()


def test_the_demo_is_loaded_into_the_embedded_database(load, monkeypatch):
    monkeypatch.setattr(demo, "is_embedded", lambda host: True)

    call_command("demo")

    assert Account.objects.exists()


def test_only_its_owner_can_read_the_file(load):
    load()

    assert demo.FILE.stat().st_mode & 0o077 == 0
