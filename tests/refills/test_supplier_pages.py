"""What staff see and decide of refills at suppliers: a refill's page, the list, the scorecard and the start page."""

from datetime import timedelta

import pytest
from django.core.cache import cache
from django.urls import reverse
from django.utils import timezone

from refills.models import Dispatch, DispatchStep, SupplierState
from refills.refusals import DispatchDecided
from refills.statuses import DispatchState
from tests import factories
from tests.conftest import messages_of, settle

LIST = "/admin/refills/dispatch/"


@pytest.fixture
def admin(client, staff):
    client.force_login(staff)
    return client


@pytest.fixture
def supplier(db):
    return factories.Supplier(name="Acme")


@pytest.fixture
def make_dispatch(supplier):
    """Return a function that makes a refill and its dispatch, which waits for an agent unless told otherwise."""

    def make(state=DispatchState.UNCLEAR, *, status="pending", **fields):
        refill = factories.Refill(
            status=status, order__supplier_order="815", order__service__supplier=supplier, order__service__name="Likes"
        )
        now = timezone.now()
        fields = {"attempts": 1, "sent_at": now, "asked_at": now, **fields}
        if state in (DispatchState.REFUSED, DispatchState.SETTLED, DispatchState.GIVEN_UP):
            fields.setdefault("ended_at", now)
        return Dispatch.objects.create(refill=refill, supplier=supplier, state=state, on_approval=False, **fields)

    return make


def page(client, dispatch):
    return client.get(reverse("admin:refills_refill_change", args=[dispatch.refill_id])).content.decode()


def decide(client, dispatch, **fields):
    response = client.post(reverse("admin:refills_refill_dispatch", args=[dispatch.refill_id]), fields)
    dispatch.refresh_from_db()
    return response, messages_of(response)


class TestRefillPage:
    def test_it_shows_the_supplier_the_state_and_the_suppliers_words(self, admin, make_dispatch):
        dispatch = make_dispatch(words="HTTP 500")
        DispatchStep.objects.create(
            dispatch=dispatch,
            at=timezone.now(),
            kind="send",
            attempt=1,
            state="unclear",
            words="cut off",
            milliseconds=7,
        )

        text = page(admin, dispatch)

        for shown in ("At the supplier", "Acme", "Unclear", "815", "HTTP 500", "cut off", "7 ms"):
            assert shown in text

    def test_a_refill_without_a_supplier_shows_nothing_of_one(self, admin):
        refill = factories.Refill()

        text = admin.get(reverse("admin:refills_refill_change", args=[refill.pk])).content.decode()

        assert "At the supplier" not in text

    @pytest.mark.parametrize(
        ("state", "status", "buttons"),
        [
            ("unclear", "pending", {"is_there", "send_again"}),
            ("given_up", "approved", {"is_there", "send_again"}),
            ("refused", "pending", {"send_again"}),
            ("settled", "completed", set()),
            ("unclear", "rejected", set()),
        ],
    )
    def test_the_buttons_are_those_of_its_state(self, admin, make_dispatch, state, status, buttons):
        text = page(admin, make_dispatch(state, status=status))

        assert {name for name in ("is_there", "send_again") if f'value="{name}"' in text} == buttons

    def test_what_goes_on_by_itself_has_no_button(self, admin, make_dispatch):
        text = page(admin, make_dispatch(next_at=timezone.now() + timedelta(minutes=1)))

        assert 'name="decision"' not in text

    def test_the_agent_says_that_it_is_there(self, admin, staff, make_dispatch):
        dispatch = make_dispatch()

        response, [message] = decide(admin, dispatch, decision="is_there", supplier_refill=" 42 ")

        assert response.status_code == 302
        assert message == f"Refill #{dispatch.refill.number} is now followed at its supplier."
        assert (dispatch.state, dispatch.supplier_refill) == ("sent", "42")
        assert dispatch.steps.get().by == staff

    def test_the_agent_says_that_it_is_not_there(self, admin, make_dispatch):
        dispatch = make_dispatch()

        _, [message] = decide(admin, dispatch, decision="send_again")

        assert message == f"Refill #{dispatch.refill.number} will be sent to its supplier again."
        assert (dispatch.state, dispatch.attempts) == ("waiting", 1)

    def test_an_id_that_cannot_be_one_is_refused(self, admin, make_dispatch):
        dispatch = make_dispatch()

        _, [message] = decide(admin, dispatch, decision="is_there", supplier_refill="1,2")

        assert dispatch.state == "unclear"
        assert "id" in message

    def test_the_second_of_two_agents_is_told(self, admin, make_dispatch):
        dispatch = make_dispatch()
        decide(admin, dispatch, decision="send_again")

        _, [*_, message] = decide(admin, dispatch, decision="is_there", supplier_refill="42")

        assert (dispatch.state, dispatch.steps.count()) == ("waiting", 1)
        assert message == DispatchDecided().text

    def test_staff_who_may_not_settle_decide_nothing(self, client, make_dispatch):
        dispatch = make_dispatch()
        client.force_login(factories.Account(is_staff=True))

        response = client.post(
            reverse("admin:refills_refill_dispatch", args=[dispatch.refill_id]), {"decision": "send_again"}
        )

        dispatch.refresh_from_db()
        assert (response.status_code, dispatch.state) == (403, "unclear")


class TestList:
    def test_it_leads_to_the_pages_of_the_refills(self, admin, make_dispatch):
        dispatch = make_dispatch()

        text = admin.get(LIST).content.decode()

        assert reverse("admin:refills_refill_change", args=[dispatch.refill_id]) in text

    def test_what_waits_for_an_agent(self, admin, make_dispatch):
        waiting = make_dispatch()
        make_dispatch(next_at=timezone.now())
        make_dispatch("settled", status="completed")

        listed = admin.get(LIST, {"waits": "person"}).context["cl"].result_list

        assert [dispatch.pk for dispatch in listed] == [waiting.pk]

    def test_it_lists_exactly_those_whose_page_has_buttons(self, admin, make_dispatch):
        now = timezone.now()
        for status in ("pending", "approved", "completed"):
            for state in DispatchState:
                sent = {"supplier_refill": "7"} if state == DispatchState.SENT else {}
                if state in (DispatchState.WAITING, DispatchState.SENT, DispatchState.UNCLEAR):
                    make_dispatch(state, status=status, next_at=now, **sent)
                if state not in (DispatchState.WAITING, DispatchState.SENT):
                    make_dispatch(state, status=status)

        listed = set(Dispatch.objects.waiting_for_decision())

        assert listed == {each for each in Dispatch.objects.all() if 'name="decision"' in page(admin, each)}
        assert len(listed) == 6

    def test_the_statements_do_not_grow(self, admin, make_dispatch, django_assert_max_num_queries):
        make_dispatch()
        with django_assert_max_num_queries(100) as few:
            admin.get(LIST)
        for _ in range(5):
            make_dispatch()

        with django_assert_max_num_queries(len(few)):
            admin.get(LIST)


def test_the_scorecard_of_a_supplier(admin, supplier, make_dispatch):
    now = timezone.now()
    make_dispatch("refused")
    make_dispatch("given_up", supplier_refill="7")
    for hours in (1, 3):
        dispatch = make_dispatch("settled", supplier_refill="8", sent_at=now - timedelta(hours=hours), ended_at=now)
        settle([dispatch.refill_id], "completed", supplier.account)

    text = admin.get(reverse("admin:orders_supplier_change", args=[supplier.pk])).content.decode()

    facts = dict(zip(FACTS, _figures(text), strict=True))
    assert facts == {
        "Accepted": "3",
        "Refused": "1",
        "Settled by it": "2",
        "Hours to settle, median": "2.0",
        "Hours to settle, p90": "2.8",
        "Unclear at some point": "0",
        "Given up": "1",
    }


FACTS = (
    "Accepted",
    "Refused",
    "Settled by it",
    "Hours to settle, median",
    "Hours to settle, p90",
    "Unclear at some point",
    "Given up",
)


def _figures(text):
    return [
        text.partition(f">{fact}</dt>")[2].partition("<dd")[2].partition(">")[2].partition("</dd>")[0].strip()
        for fact in FACTS
    ]


class TestStartPage:
    @pytest.fixture(autouse=True)
    def _fresh(self):
        cache.clear()

    def test_it_leads_to_what_an_agent_decides_and_says_why(self, admin, make_dispatch):
        waiting = {state: [make_dispatch(state).pk] for state in ("unclear", "refused", "given_up")}
        waiting["given_up"].append(make_dispatch("given_up", status="approved").pk)
        make_dispatch("given_up", status="completed")
        make_dispatch(next_at=timezone.now())

        shown = admin.get("/admin/").context["to_decide"]

        assert [(title, figure) for title, figure, _ in shown] == [("Unclear", 1), ("Refused", 1), ("Given up", 2)]
        for (_, _, href), listed in zip(shown, waiting.values(), strict=True):
            assert {dispatch.pk for dispatch in admin.get(href).context["cl"].result_list} == set(listed)

    def test_it_names_a_supplier_that_fails(self, admin, supplier):
        SupplierState.objects.create(
            supplier=supplier, failures=3, failing_since=timezone.now(), words="Connection refused"
        )

        text = admin.get("/admin/").content.decode()

        assert "Acme has not answered since" in text
        assert "Connection refused" in text

    def test_it_names_what_the_catalogue_promises_and_the_supplier_refuses(self, admin, make_dispatch):
        make_dispatch("refused", breaks_promise=True)

        [broken] = admin.get("/admin/").context["suppliers"].broken_promises

        assert (broken.supplier, broken.service, broken.count) == ("Acme", "Likes", 1)
