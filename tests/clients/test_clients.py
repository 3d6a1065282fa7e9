"""Third-party clients of the v2 API work with the running server."""

import json
import re
import subprocess
import sys

import pytest
import safesmm
import smm
import smmpy

from refills.models import Refill
from tests import factories
from tests.conftest import new_customer
from tests.server import BASE_DIR, MARKS

pytestmark = MARKS


@pytest.fixture
def customer(transactional_db):
    return new_customer()


@pytest.fixture
def orders(customer):
    return factories.Order.create_batch(2, account=customer.account)


class TestBabismm:
    @pytest.fixture
    def client(self, server, customer):
        with smm.SMM(f"{server}/api/v2", customer.raw_key) as client:
            yield client

    def test_services(self, client, orders):
        assert [service["service"] for service in client.get_services()] == [order.service_id for order in orders]

    @pytest.mark.parametrize("reference", ["pk", "number"])
    def test_status(self, client, orders, reference):
        ids = [getattr(order, reference) for order in orders]

        assert client.get_status(ids[0])["status"] == "completed"
        assert {key: row["remains"] for key, row in client.get_multi_status(ids).items()} == {str(i): "0" for i in ids}

    @pytest.mark.parametrize("reference", ["pk", "number"])
    def test_refill_and_its_status(self, client, orders, reference):
        order = orders[0]

        refill = client.create_refill(getattr(order, reference))["refill"]

        assert refill == Refill.objects.get(order=order).pk
        assert client.get_refill_status(refill) == {"status": "pending"}
        assert client.get_refill_status(Refill.objects.get().number) == {"status": "pending"}

    def test_batch(self, client, orders):
        rows = client.create_multi_refill([orders[0].pk, 999_999, orders[1].number])

        assert [row["order"] for row in rows] == [orders[0].pk, "999999", str(orders[1].number)]
        assert rows[1]["error"] == "Order not found"
        refills = [rows[0]["refill"], rows[2]["refill"]]
        assert client.get_multi_refill_status([*refills, "ref_x"]) == [
            {"refill": refills[0], "status": "pending"},
            {"refill": refills[1], "status": "pending"},
            {"refill": "ref_x", "error": "Refill not found"},
        ]

    def test_a_refusal_raises_the_clients_error(self, client):
        with pytest.raises(smm.SMMNetworkError, match="400") as error:
            client.create_refill("nonsense")

        assert error.value.response.json() == {"error": "Order not found"}


class TestSmmpy:
    @pytest.fixture
    def client(self, server, customer):
        return smmpy.smm(f"{server}/api/v2", customer.raw_key)

    def test_every_action_that_the_client_has(self, client, orders):
        ids = [order.pk for order in orders]

        assert len(client.get_services()) == 2
        assert client.get_status(ids[0])["currency"] == "USD"
        assert list(client.get_multi_status(ids)) == ids
        refill = client.create_refill(ids[0])["refill"]
        assert client.get_refill_status(refill) == {"status": "pending"}
        rows = client.create_multi_refill(ids)
        assert rows[0]["error"] == "A refill request is already pending for this order"
        assert [row["status"] for row in client.get_multi_refill_status([refill, rows[1]["refill"]])] == ["pending"] * 2

    def test_a_refusal_raises_the_clients_error(self, client):
        with pytest.raises(Exception, match="400 Client Error"):
            client.create_refill("nonsense")


class TestSafesmm:
    """This client has neither refill_status nor batches of refills."""

    @pytest.fixture
    def client(self, server, customer):
        return safesmm.SafeSMM(customer.raw_key, f"{server}/api/v2")

    def test_every_action_that_the_client_has(self, client, orders):
        ids = [order.number for order in orders]

        assert client.balance() == {"balance": None, "currency": "USD"}
        assert len(client.services()) == 2
        assert client.status(ids[0])["charge"] == "0.90"
        assert list(client.multi_status(ids)) == [str(number) for number in ids]
        assert client.refill(ids[0])["refill"].startswith("ref_")

    def test_the_client_reads_our_errors(self, client, orders):
        client.refill(orders[0].pk)

        with pytest.raises(safesmm.SafeSMMError, match=r"^A refill request is already pending for this order$"):
            client.refill(orders[0].pk)
        with pytest.raises(safesmm.SafeSMMError, match=r"^Unknown action$"):
            client.add_order(1, "https://example.com")


@pytest.mark.parametrize(
    ("status", "answer"),
    [("completed", "{'refill': "), ("pending", "{'error': 'Refill only available for completed or partial orders'}")],
)
def test_the_readmes_python_needs_the_standard_library_only(server, customer, status, answer):
    [code] = re.findall(r"^```python\n(.*?)^```", (BASE_DIR / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    order = factories.Order(account=customer.account, status=status)
    environment = {"BASE_URL": server, "API_KEY": customer.raw_key, "ORDER_COMPLETED": order.pk}

    run = subprocess.run([sys.executable, "-I", "-S", "-c", code], env=environment, capture_output=True, text=True)

    assert run.stderr == ""
    assert str(json.loads(run.stdout)).startswith(answer)
