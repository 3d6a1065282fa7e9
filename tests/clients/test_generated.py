"""Programs that openapi-python-client and openapi-typescript make from the OpenAPI document work with the server."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from notpanel.api.openapi import request_name
from notpanel.urls import ACTIONS
from refills.models import Refill
from tests import factories
from tests.conftest import new_customer
from tests.races import await_others
from tests.server import MARKS

pytestmark = MARKS

TYPESCRIPT = Path(__file__).parent / "typescript"
UNKNOWN = "ord_01HG9X7KJP4NV8QZ2M6T3W5YBD"


@pytest.fixture
def customer(transactional_db):
    return new_customer(balance="47.32", currency="USD")


@pytest.fixture
def orders(customer):
    return [order.pk for order in factories.Order.create_batch(2, account=customer.account)]


@pytest.fixture(scope="module")
def made(server, tmp_path_factory):
    """Return the package that openapi-python-client makes. It must not give any warnings."""
    package = tmp_path_factory.mktemp("python") / "made_client"
    config = package.with_name("config.yml")
    config.write_text("post_hooks: []\n")  # they would format it
    command = [Path(sys.executable).with_name("openapi-python-client"), "generate", "--meta", "none"]
    command += ["--url", f"{server}/api/openapi.json", "--output-path", package]
    run = subprocess.run(
        [*command, "--config", config, "--fail-on-warning"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(package.parent)
        yield importlib.import_module("made_client")


class Python:
    """The client that was made. ``ask`` sends the action's own type, and returns the types that the answer got."""

    def __init__(self, made, server, key):
        self.models = importlib.import_module(f"{made.__name__}.models")
        self.operation = importlib.import_module(f"{made.__name__}.api.default.request")
        self.client, self.key = made.Client(base_url=server), key

    def ask(self, action, **parameters):
        [name] = [request_name(each) for each in ACTIONS if each.name == action]
        body = getattr(self.models, name)(key=self.key, action=action, **parameters)
        return self.operation.sync(client=self.client, body=body)


@pytest.fixture
def python(made, server, customer):
    return Python(made, server, customer.raw_key)


def types_of(answer):
    return [type(each).__name__ for each in answer] if isinstance(answer, list) else type(answer).__name__


def test_the_package_has_a_type_for_each_request(python):
    for action in ACTIONS:
        assert hasattr(python.models, request_name(action))


@pytest.mark.parametrize("as_list", [list, ",".join], ids=["list", "CSV"])
def test_python_asks_about_refills(python, orders, as_list):
    made = python.ask("refill", order=orders[0])
    assert (types_of(made), made.refill) == ("RequestedRefill", Refill.objects.get().pk)
    batch = python.ask("refill", orders=as_list([orders[1], UNKNOWN]), codes="1")
    assert types_of(batch) == ["RequestedRefillRow", "RefusedOrderRow"]
    assert batch[1].code == "order_not_found"

    assert types_of(python.ask("refill_status", refill=made.refill)) == "RefillState"
    assert types_of(python.ask("refill_status", order=orders[0])) == "LatestRefill"
    rows = python.ask("refill_status", refills=as_list([made.refill, "ref_1"]))
    assert types_of(rows) == ["RefillStateRow", "RefusedRefillRow"]
    assert rows[0].status == python.models.RefillStatus.PENDING
    latest = python.ask("refill_status", orders=as_list([orders[1], UNKNOWN]))
    assert types_of(latest) == ["LatestRefillRow", "RefusedOrderRow"]

    check = python.ask("refill_check", order=orders[0])
    assert (types_of(check), check.refillable, check.refill) == ("RefillCheck", False, made.refill)
    checks = python.ask("refill_check", orders=as_list([orders[1], UNKNOWN]))
    assert types_of(checks) == ["RefillCheckRow", "RefusedOrderRow"]
    await_others()  # transactions of other tests: a page ends before their changes
    page = python.ask("refill_list", status="pending")
    assert (types_of(page), len(page.refills), page.more) == ("RefillListAnswer", 2, False)


def test_python_asks_about_orders_and_the_account(python, customer, orders):
    status = python.ask("status", order=orders[0])
    assert (types_of(status), status.charge) == ("OrderState", "0.90")
    states = python.ask("status", orders=[orders[0], UNKNOWN])
    assert types_of(states) == "OrderStates"
    assert [types_of(states[order]) for order in (orders[0], UNKNOWN)] == ["OrderState", "Refused"]
    assert types_of(python.ask("services")) == ["Service", "Service"]
    balance = python.ask("balance")
    assert (types_of(balance), balance.balance) == ("BalanceAnswer", "47.32")

    added = python.ask("webhook.add", url="https://hooks.example/", events=["refill.completed"])
    assert (types_of(added), added.secret[:6]) == ("WebhookAddAnswer", "whsec_")
    assert types_of(python.ask("webhook.list")) == ["Webhook"]
    assert types_of(python.ask("webhook.remove", webhook=added.webhook)) == "WebhookRemoveAnswer"


def test_python_is_refused(python, orders):
    assert python.ask("refill", order=UNKNOWN).error == "Order not found"
    python.key = "unknown"
    refused = python.ask("balance")
    assert (types_of(refused), refused.error) == ("Error", "Invalid API key")


@pytest.fixture(scope="module")
def typescript(server, tmp_path_factory):
    """Return the directory where openapi-typescript has made types, and tsc has compiled client.ts with them."""
    if not (TYPESCRIPT / "node_modules").exists():
        pytest.skip("npm ci --prefix tests/clients/typescript")
    directory = tmp_path_factory.mktemp("typescript")
    (directory / "node_modules").symlink_to(TYPESCRIPT / "node_modules")
    for name in ("client.ts", "wrong.ts", "package.json"):
        shutil.copy(TYPESCRIPT / name, directory)
    _node(directory, "openapi-typescript", f"{server}/api/openapi.json", "--output", "api.d.ts")
    return directory


def _node(directory, tool, *arguments):
    command = [directory / "node_modules" / ".bin" / tool, *arguments]
    run = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return run


def test_typescript_compiles_and_asks(typescript, server, customer, orders):
    options = ["--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom,dom.iterable"]
    _node(typescript, "tsc", *options, "client.ts", "wrong.ts")
    environment = os.environ | {"SERVER": server, "API_KEY": customer.raw_key, "ORDERS": ",".join(orders)}
    run = subprocess.run(
        ["node", "client.js"], cwd=typescript, env=environment, capture_output=True, text=True, check=False
    )

    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {
        "balance": "47.32",
        "refill": Refill.objects.get(order=orders[0]).pk,
        "rows": [Refill.objects.get(order=orders[1]).pk, "Order not found"],
        "status": "pending",
        "states": ["0.90", "Order not found"],
        "refused": [400, "order_not_found", "Order not found"],
    }
