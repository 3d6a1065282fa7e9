"""Real clients, and programs that read as known ones do, in the dialect that they expect (docs/clients.md)."""

import lytics
import lytics.main
import pytest
import safesmm
import smm
import smmpy

from apikeys.keys import ApiKeyDetails, create_api_key
from refills.models import Refill
from tests import factories
from tests.clients import programs
from tests.conftest import new_customer
from tests.server import MARKS

pytestmark = MARKS

REFUSED = "A refill request is already pending for this order"
UNKNOWN = 999_999


@pytest.fixture
def customer(transactional_db):
    return new_customer(balance="47.32")


@pytest.fixture
def orders(customer):
    return [order.number for order in factories.Order.create_batch(3, account=customer.account)]


@pytest.fixture
def url(server):
    return f"{server}/api/v2"


@pytest.fixture
def key(customer):
    """Return a key that is answered as most panels answer."""
    return create_api_key(customer.account, ApiKeyDetails(answers="perfectpanel"))[1]


def number_of(order):
    return Refill.objects.get(order__number=order).number


class TestBabismm:
    @pytest.fixture
    def client(self, url, key):
        with smm.SMM(url, key) as client:
            yield client

    def test_every_action(self, client, orders):
        assert client.get_balance() == {"balance": "47.32", "currency": "USD"}
        assert [service["refill"] for service in client.get_services()] == [True] * 3
        assert client.get_status(orders[0])["status"] == "Completed"
        assert client.get_multi_status([orders[0], UNKNOWN])[str(UNKNOWN)] == {"error": "Incorrect order ID"}
        refill = client.create_refill(orders[0])["refill"]
        assert refill == str(number_of(orders[0]))
        assert client.get_refill_status(refill) == {"status": "Pending"}

    def test_batches_with_refusals(self, client, orders):
        client.create_refill(orders[0])

        rows = client.create_multi_refill([*orders[:2], UNKNOWN])

        assert rows == [
            {"order": orders[0], "refill": {"error": REFUSED}},
            {"order": orders[1], "refill": number_of(orders[1])},
            {"order": UNKNOWN, "refill": {"error": "Incorrect order ID"}},
        ]
        assert client.get_multi_refill_status([rows[1]["refill"], UNKNOWN]) == [
            {"refill": rows[1]["refill"], "status": "Pending"},
            {"refill": UNKNOWN, "status": {"error": "Refill not found"}},
        ]

    def test_a_refusal_is_the_clients_own_error(self, client, orders):
        client.create_refill(orders[0])

        with pytest.raises(smm.SMMAPIError, match=REFUSED):
            client.create_refill(orders[0])
        with pytest.raises(smm.SMMAPIError, match="Incorrect order ID"):
            client.create_refill(UNKNOWN)


class TestSmmpy:
    @pytest.fixture
    def client(self, url, key):
        return smmpy.smm(url, key)

    def test_every_action(self, client, orders):
        assert client.get_balance()["balance"] == "47.32"
        assert client.get_status(orders[0])["status"] == "Completed"
        refill = client.create_refill(orders[0])["refill"]
        assert client.get_refill_status(refill) == {"status": "Pending"}
        assert client.create_multi_refill(orders)[0] == {"order": orders[0], "refill": {"error": REFUSED}}

    def test_a_refusal_raises_with_its_text(self, client, orders):
        with pytest.raises(Exception, match=r"^Incorrect order ID$"):
            client.create_refill(UNKNOWN)


class TestSafesmm:
    @pytest.fixture
    def client(self, url, key):
        return safesmm.SafeSMM(key, url)

    def test_every_action(self, client, orders):
        assert client.balance()["balance"] == "47.32"
        assert client.status(orders[0])["status"] == "Completed"
        assert list(client.multi_status(orders)) == list(map(str, orders))
        assert client.refill(orders[0]) == {"refill": str(number_of(orders[0]))}

    def test_a_refusal_is_the_clients_own_error(self, client, orders):
        client.refill(orders[0])

        with pytest.raises(safesmm.SafeSMMError, match=REFUSED):
            client.refill(orders[0])


@pytest.mark.parametrize("answers", ["notpanel", "perfectpanel"])
class TestLytics:
    """It sends JSON, has the address of one panel built in, and never looks at statuses."""

    @pytest.fixture
    def client(self, url, customer, answers, monkeypatch):
        monkeypatch.setattr(lytics.main, "api_url", url)
        return lytics.Lytics(create_api_key(customer.account, ApiKeyDetails(answers=answers))[1])

    def test_every_action(self, client, orders, answers):
        refill = Refill.objects.filter(order__number=orders[0])
        words = {"notpanel": ["completed", "Order not found"], "perfectpanel": ["Completed", "Incorrect order ID"]}[
            answers
        ]

        assert client.balance() == {"balance": "47.32", "currency": "USD"}
        assert '"dripfeed": false' in client.services()
        assert client.status(orders[0])["status"] == words[0]
        assert client.multi_status([UNKNOWN]) == {str(UNKNOWN): {"error": words[1]}}
        made = client.refill(orders[0])["refill"]
        assert made == (refill.get().pk if answers == "notpanel" else str(refill.get().number))
        assert client.refill(orders[0]) == {"error": REFUSED}
        assert len(client.multi_refill(orders)) == 3

    def test_it_sends_a_refill_as_an_order_when_it_asks_for_its_status(self, client, orders, answers):
        """It therefore gets the latest refill of the order that has the number of its refill, or an error."""
        client.refill(orders[0])

        found = client.refill_status(orders[0])

        assert found["refill"] in (Refill.objects.get().pk, str(Refill.objects.get().number))
        assert "error" in client.refill_status(UNKNOWN)
        assert "error" in client.multi_refill_status([1, 2])


class TestPrograms:
    def test_typed(self, url, key, orders):
        program = programs.Typed(url, key)
        refill = program.refill(orders[0])

        assert refill == number_of(orders[0])
        assert program.refills([*orders[:2], UNKNOWN]) == {
            orders[0]: REFUSED,
            orders[1]: number_of(orders[1]),
            UNKNOWN: "Incorrect order ID",
        }
        assert program.statuses([refill, UNKNOWN]) == {refill: "Pending", UNKNOWN: "Refill not found"}
        with pytest.raises(LookupError, match=REFUSED):
            program.refill(orders[0])

    def test_intval(self, url, key, orders):
        program = programs.Intval(url, key)
        refill = program.refill(orders[0])

        assert refill == number_of(orders[0])
        assert program.status(refill) == "Pending"

    def test_intval_makes_zero_of_our_own_ids(self, url, customer, orders):
        program = programs.Intval(url, customer.raw_key)

        assert program.refill(orders[0]) == 0

    def test_comparing(self, url, key, orders, staff):
        program = programs.Comparing(url, key)

        assert program.is_completed(orders[0])
        assert program.find(orders, orders[1]) == {"order": orders[1], "refill": number_of(orders[1])}

    @pytest.mark.parametrize("answers", ["notpanel", "perfectpanel"])
    def test_json_with_integers_finds_its_row_in_either_dialect(self, url, customer, orders, answers):
        raw_key = create_api_key(customer.account, ApiKeyDetails(answers=answers))[1]

        assert programs.SendingJson(url, raw_key).find(orders, orders[1])["order"] == orders[1]

    def test_several_refills_in_the_parameter_for_one_name_nothing(self, url, key, orders):
        refill = programs.Typed(url, key).refill(orders[0])
        program = programs.CsvInRefill(url, key)

        assert program.statuses([refill]) == {"status": "Pending"}
        with pytest.raises(LookupError, match="Refill not found"):
            program.statuses([refill, refill + 1])

    def test_the_limits_and_the_key_are_failures_to_those_that_look_at_statuses(self, url, orders):
        with pytest.raises(ConnectionError, match="401"):
            programs.Intval(url, "np_" + "x" * 43).refill(orders[0])


class TestProgramsWithoutTheirDialect:
    """How the same programs handle our own answers (docs/clients.md)."""

    def test_typed_ids_fail(self, url, customer, orders):
        program = programs.Typed(url, customer.raw_key)

        with pytest.raises(ValueError, match="ref_"):
            program.refill(orders[0])
        with pytest.raises(TypeError):
            program.refills(orders)

    def test_a_refused_row_has_no_refill(self, url, customer):
        rows = programs.Program(url, customer.raw_key).ask("refill", orders=UNKNOWN)

        assert rows == [{"order": str(UNKNOWN), "error": "Order not found"}]

    def test_words_and_integers_are_not_found(self, url, customer, orders):
        program = programs.Comparing(url, customer.raw_key)

        assert not program.is_completed(orders[0])
        assert program.find(orders, orders[1]) is None

    def test_a_refusal_is_thrown_without_its_words(self, url, customer):
        with pytest.raises(ConnectionError, match=r"^400$"):
            programs.Intval(url, customer.raw_key).refill(UNKNOWN)

    def test_the_packages_read_the_balance(self, url, customer):
        with smm.SMM(url, customer.raw_key) as babismm:
            assert babismm.get_balance()["balance"] == "47.32"
        assert smmpy.smm(url, customer.raw_key).get_balance()["balance"] == "47.32"
