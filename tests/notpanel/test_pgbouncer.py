"""NotPanel behind PgBouncer in transaction mode, where no session outlives its transaction."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from django.db import connection, transaction

from notpanel.apps import check_time_limits
from orders.models import Order
from refills.models import Refill
from tests import factories
from tests.conftest import new_customer
from tests.server import BASE_DIR, MARKS, Server

pytestmark = MARKS


def manage(environment, *command):
    """Run a command of manage.py. Returns what it prints."""
    process = subprocess.run(
        [sys.executable, "manage.py", *command],
        cwd=BASE_DIR,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_requests_settlements_and_imports_work_through_pgbouncer(behind_pgbouncer, tmp_path):
    customer, service = new_customer(), factories.Service()
    staff = factories.Account(is_staff=True, is_superuser=True)
    orders = factories.Order.create_batch(20, account=customer.account, service=service)
    server = Server(tmp_path, **behind_pgbouncer)

    def post(action, **parameters):
        body = {"key": customer.raw_key, "action": action} | parameters
        return requests.post(f"{server.url}/api/v2", data=body, timeout=30).json()

    with ThreadPoolExecutor(16) as executor:
        answers = list(executor.map(lambda number: post("refill", order=orders[number % 4].pk), range(64)))
    batch = post("refill", orders=",".join(order.pk for order in orders))

    assert sum("refill" in answer for answer in answers) == 4
    assert sum("refill" in row for row in batch) == 16
    assert Refill.objects.count() == 20

    settled = tmp_path / "settled.csv"
    settled.write_text("refill,status\n" + "".join(f"{refill.pk},completed\n" for refill in Refill.objects.all()))
    assert "Settled: 20" in manage(behind_pgbouncer, "settlerefills", str(settled), "--by", staff.username)
    assert {row["status"] for row in post("refill_status", refills=",".join(row["refill"] for row in batch[4:]))} == {
        "completed"
    }

    imported = tmp_path / "orders.csv"
    imported.write_text(
        "number,account,service,link,quantity,charge,status,created\n"
        f"990001,{customer.account.username},{service.pk},https://example.com,5,0.10,pending,2026-05-31T12:00:00Z\n"
    )
    assert "1 created" in manage(behind_pgbouncer, "importorders", str(imported))
    assert post("status", order="990001")["status"] == "pending"
    assert "no issues" in manage(behind_pgbouncer, "check", "--database", "default")
    server.stop()


def test_a_request_that_cannot_get_its_lock_gets_503(behind_pgbouncer, tmp_path):
    customer = new_customer()
    order = factories.Order(account=customer.account)
    server = Server(tmp_path, **behind_pgbouncer)

    with transaction.atomic():
        Order.objects.select_for_update().get(pk=order.pk)
        response = requests.post(
            f"{server.url}/api/v2",
            data={"key": customer.raw_key, "action": "refill", "order": order.pk},
            timeout=30,
        )

    assert (response.status_code, response.json()) == (503, {"error": "Service temporarily unavailable"})
    server.stop()


@pytest.mark.parametrize("name", ["lock_timeout", "statement_timeout"])
def test_check_warns_of_a_database_without_a_time_limit(name):
    assert check_time_limits(["default"]) == []

    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL {name} = 0")
        [warning] = check_time_limits(["default"])

    assert name in warning.msg
