"""The customer's pages of orders and refills."""

import csv
import io
import re
from datetime import timedelta
from urllib.parse import quote, urlencode

import pytest
import redis
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from gunicorn.config import Config

from apikeys.keys import create_api_key
from apikeys.models import ApiKey
from notpanel.kit.public_id import to_uuid
from notpanel.kit.refusals import ServiceUnavailable
from orders.models import Order
from refills.models import Refill
from refills.requesting import request_refills
from refills.statuses import RefillStatus
from tests import factories
from tests.conftest import settle
from tests.orders.test_status import IMPOSSIBLE


@pytest.fixture
def client(customer):
    client = Client()
    client.force_login(customer.account)
    return client


@pytest.fixture
def order(customer):
    return lambda **fields: factories.Order(account=customer.account, **fields)


@pytest.fixture
def refill(customer):
    return lambda **fields: factories.Refill(order__account=customer.account, **fields)


def text(response):
    return " ".join(re.sub(r"<[^>]*>", " ", response.content.decode()).split())


def messages(response):
    return [str(message) for message in response.context["messages"]]


@pytest.mark.parametrize("path", ["", "orders/", "orders/1/", "orders/list/", "refills/", "refills/csv/"])
def test_the_pages_need_a_sign_in(db, path):
    assert Client().get(f"/dashboard/{path}")["Location"] == f"/dashboard/sign-in/?next=/dashboard/{path}"
    assert Client().post("/dashboard/orders/refill/").status_code == 302


def test_a_get_of_the_refill_buttons_address_requests_nothing_and_redirects(client, order):
    """A customer who had to sign in first arrives at it by GET."""
    response = client.get("/dashboard/orders/refill/", {"order": order().pk}, follow=True)

    assert response.redirect_chain == [("/dashboard/orders/", 302)]
    assert messages(response) == []
    assert not Refill.objects.exists()


def test_text_that_is_not_an_id_is_shown_up_to_the_length_of_an_id(client):
    response = client.post("/dashboard/orders/refill/", {"order": "x" * 65}, follow=True)

    assert messages(response) == [f"{'x' * 64}: Order not found."]


class TestOverview:
    def test_the_overview_shows_keys_refills_in_flight_and_settled_refills(self, client, customer, refill, staff):
        approved, waiting, done = refill(status="approved"), refill(), refill()
        Refill.objects.filter(pk=waiting.pk).update(created_at=timezone.now() - timedelta(hours=1))
        settle(
            [done.pk], RefillStatus.REJECTED, staff, reason=factories.RejectionReason(text="The account is private.")
        )
        factories.Refill()

        response = client.get("/dashboard/")

        overview = response.context["overview"]
        assert overview.keys == [customer.api_key]
        assert overview.in_flight == [waiting, approved]
        assert overview.settled == [done]
        assert "The account is private." in text(response)

    def test_the_refills_settled_last_are_listed_first(self, client, customer):
        now = timezone.now()
        first, last = (
            factories.Refill(
                order__account=customer.account, status="completed", settled_at=now - timedelta(hours=hours)
            )
            for hours in (2, 1)
        )

        assert client.get("/dashboard/").context["overview"].settled == [last, first]

    def test_only_the_customers_own_active_keys_are_shown(self, client, customer, customers):
        customers()
        revoked, _ = create_api_key(customer.account)
        ApiKey.objects.filter(pk=revoked.pk).update(revoked_at=timezone.now())

        assert client.get("/dashboard/").context["overview"].keys == [customer.api_key]

    def test_the_statements_do_not_grow_with_the_rows(self, client, refill, django_assert_num_queries):
        for _ in range(15):
            refill()
            refill(status="completed")

        with django_assert_num_queries(5):  # the session, the account, and three lists
            client.get("/dashboard/")


class TestOrders:
    def rows(self, client, **query):
        return client.get("/dashboard/orders/", query).context["rows"]

    def test_the_customers_own_orders_are_listed_latest_first(self, client, order):
        now = timezone.now()
        old, new = order(created_at=now - timedelta(days=20)), order(created_at=now - timedelta(days=10))
        factories.Order()

        assert [row.order for row in self.rows(client)] == [new, old]

    def test_each_row_shows_how_long_a_refill_may_be_requested(self, client, order):
        at = timezone.now() - timedelta(days=10)
        order(created_at=at, completed_at=at, service__refill_days=30)
        order(created_at=at, completed_at=at, service__refill_days=3)
        order(created_at=at, completed_at=at)
        order(status="processing")

        page = text(client.get("/dashboard/orders/"))

        assert f"until {at + timedelta(days=30):%Y-%m-%d %H:%M}" in page
        assert f"ended {at + timedelta(days=3):%Y-%m-%d %H:%M}" in page
        assert "no time limit" in page

    @pytest.mark.parametrize(
        ("cap", "history", "left"),
        # In the last case, the cap was lowered below the number already used.
        [(None, [], 3), (5, ["completed"], 4), (None, ["rejected"], 3), (1, ["completed", "completed"], 0)],
    )
    def test_each_row_shows_how_many_refills_are_left(self, client, order, cap, history, left):
        bought = order(service__refill_limit=cap)
        for status in history:
            factories.Refill(order=bought, status=status)

        assert [row.verdict.left for row in self.rows(client)] == [left]

    def test_a_service_that_does_not_refill_has_no_refills_left(self, client, order):
        order(service__refill=False)

        assert [row.verdict.left for row in self.rows(client)] == [0]

    @pytest.mark.parametrize("status", ["cancelled", "refunded", "processing"])
    def test_an_order_that_was_not_delivered_has_no_refills_left(self, client, order, status):
        order(status=status)

        assert 'data-label="Refills left" class="nothing">–<' in client.get("/dashboard/orders/").content.decode()

    def test_an_order_that_would_be_refused_shows_the_reason_instead_of_the_button(self, client, order):
        order(status="processing")

        page = client.get("/dashboard/orders/")

        assert "Refill only available for completed or partial orders" in text(page)
        assert 'name="order"' not in page.content.decode()

    def test_the_list_can_be_filtered_and_searched(self, client, order):
        one, other = order(status="partial", link="https://example.com/a?b=1"), order()
        factories.Order(link=one.link)

        for query in (
            {"status": "partial"},
            {"q": one.pk},
            {"q": one.pk.lower()},
            {"q": f" {one.number} "},
            {"q": one.link},
        ):
            assert [row.order for row in self.rows(client, **query)] == [one], query
        assert [row.order for row in self.rows(client, status="nonsense")] == [other, one]
        assert self.rows(client, q=one.pk, status="completed") == []

    @pytest.mark.parametrize(
        "part",
        [
            "https://www.example.com/Some.One/p/1",
            "example.com/some.one",
            "http://example.com/some",
            "www.example.com/some",
            "some.one",
            "ONE/p",
            " me.o ",
            "x",
        ],
    )
    def test_an_order_is_found_by_a_part_of_its_link_without_scheme_in_either_case(self, client, order, part):
        one = order(link="https://www.example.com/Some.One/p/1")
        order(link="https://other.invalid/2%")
        factories.Order(link=one.link)

        assert [row.order for row in self.rows(client, q=part)] == [one]

    def test_a_whole_link_is_found_by_its_index(self, client, order):
        """The number of the account's orders does not change the work, and no part of a link is looked for."""
        one = order(link="https://example.com/some.one")
        order(link="https://example.com/some.one.else")
        with connection.cursor() as cursor:
            cursor.execute(
                """
                INSERT INTO orders_order
                    (id, number, account_id, service_id, link, quantity, charge, currency, status, created_at,
                    completed_at)
                SELECT gen_random_uuid(), %s + n, account_id, service_id, 'https://example.com/' || n, quantity, charge,
                    currency, status, created_at, completed_at
                FROM orders_order, generate_series(1, 5000) AS n WHERE id = %s
                """,
                [10**9, to_uuid(one.pk)],
            )
            cursor.execute("ANALYZE orders_order")

        with CaptureQueriesContext(connection) as queries:
            found = [row.order for row in self.rows(client, q="www.example.com/Some.One/")]

        assert found == [one]
        asked = [query["sql"] for query in queries if "orders_link_key" in query["sql"]]
        assert len(asked) == 2  # whether there is one, and the page
        assert not any("UPPER" in query["sql"] for query in queries)
        for statement in asked:
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN {statement}")
                assert "order_by_link_key" in str(cursor.fetchall())

    @pytest.mark.parametrize("part", ["%", "_", "100%", "some_one"])
    def test_a_part_of_a_link_is_not_a_pattern(self, client, order, part):
        order(link="https://example.com/some.one")

        assert self.rows(client, q=part) == []

    def test_several_links_are_found_at_once(self, client, order):
        one, other = order(link="https://example.com/1"), order(link="https://example.com/2")
        order(link="https://example.com/3")

        found = self.rows(client, q="https://example.com/1 example.com/2/")

        assert {row.order for row in found} == {one, other}

    def test_the_orders_that_can_be_refilled_now_are_filtered(self, client, order):
        one = order()
        factories.Refill(order=order())
        order(status="processing")
        factories.Order()

        assert [row.order for row in self.rows(client, status="refillable")] == [one]
        assert self.rows(client, status="refillable", q="nothing") == []

    def test_a_page_stays_where_it_is_when_the_order_before_it_leaves_the_filter(self, client, order):
        now = timezone.now()
        newer, before, after = (order(created_at=now - timedelta(days=days)) for days in (3, 4, 5))
        factories.Refill(order=before)

        assert [row.order for row in self.rows(client, status="refillable", before=before.pk)] == [after]
        assert [row.order for row in self.rows(client, status="refillable", after=before.pk)] == [newer]

    @pytest.mark.parametrize("query", [{"status": "refillable"}, {"q": "someone"}])
    def test_the_statements_of_filter_and_search_do_not_grow(self, client, order, query, django_assert_num_queries):
        for _ in range(3):
            order()

        with django_assert_num_queries(4):  # the session, the account, the orders, their verdicts
            assert len(self.rows(client, **query)) == 3

    @pytest.mark.parametrize("reference", IMPOSSIBLE)
    def test_impossible_ids_are_not_an_error(self, client, order, reference):
        order()

        assert client.get("/dashboard/orders/", {"q": reference, "before": reference}).status_code == 200

    def test_a_link_that_fits_the_field_fits_the_line_of_a_request(self, client):
        longest = int(re.search(r'name="q".* maxlength="(\d+)"', client.get("/dashboard/orders/").content.decode())[1])
        query = {"status": "in_progress", "q": "/" * longest, "before": "ord_01HG9X7KJP4NV8QZ2M6T3W5YBC"}

        assert len(f"GET /dashboard/orders/?{urlencode(query)} HTTP/1.1") <= Config().limit_request_line

    def test_another_accounts_order_is_not_found(self, client):
        assert self.rows(client, q=factories.Order().pk) == []

    def test_links_lead_through_all_of_a_long_list(self, client, order):
        factories.Order.create_batch(120, account=order().account)
        seen, path = [], "/dashboard/orders/?status=completed"
        while path:
            response = client.get(path)
            seen += [row.order.pk for row in response.context["rows"]]
            older = re.search(r'href="(\?[^"]*)" rel="next"', response.content.decode())
            path = older and "/dashboard/orders/" + older[1].replace("&amp;", "&")

        assert len(seen) == len(set(seen)) == 121
        assert sorted(seen) == sorted(Order.objects.values_list("pk", flat=True))

    def test_the_statements_do_not_grow_with_the_rows(self, client, order, django_assert_num_queries):
        for bought in [order() for _ in range(55)]:
            factories.Refill(order=bought)

        with django_assert_num_queries(4):  # the session, the account, the orders, the counts of their refills
            client.get("/dashboard/orders/")


class TestWords:
    def test_a_status_is_written_in_words(self, client, order):
        order(status="in_progress")

        page = text(client.get("/dashboard/orders/"))

        assert page.count("in progress") == 2  # the filter's choice, and the order
        assert "in_progress" not in page


class TestOrder:
    def see(self, client, reference):
        return client.get(f"/dashboard/orders/{reference}/")

    def test_an_orders_own_page_shows_it_with_its_refills(self, client, order, staff):
        bought = order(link="https://example.com/own", service__refill_days=30)
        done = factories.Refill(order=bought, status="completed")
        waiting = factories.Refill(order=bought)
        factories.Refill(order__account=bought.account)

        for reference in (bought.pk, bought.pk.lower(), bought.number):
            response = self.see(client, reference)
            assert response.context["row"].order == bought
            assert response.context["refills"] == [waiting, done]
        page = text(response)
        assert "https://example.com/own" in page
        assert f"until {bought.completed_at + timedelta(days=30):%Y-%m-%d %H:%M}" in page

    def test_an_order_that_may_be_refilled_has_the_button_and_returns_to_its_page(self, client, order):
        path = f"/dashboard/orders/{order().pk}/"

        page = client.get(path).content.decode()

        assert 'name="order"' in page
        assert f'name="next" value="{path}"' in page

    @pytest.mark.parametrize("reference", [*IMPOSSIBLE, "999999"])
    def test_what_names_no_order_is_not_found(self, client, order, reference):
        order()

        assert client.get(f"/dashboard/orders/{quote(reference, safe='')}/").status_code == 404

    def test_another_accounts_order_is_not_found(self, client):
        assert self.see(client, factories.Order().pk).status_code == 404

    def test_the_statements_do_not_grow_with_the_refills(self, client, order, django_assert_num_queries):
        bought = order()
        for _ in range(5):
            factories.Refill(order=bought, status="rejected")

        with django_assert_num_queries(5):  # the session, the account, the order, its verdict, its refills
            self.see(client, bought.pk)


@pytest.mark.parametrize("path", ["/dashboard/orders/", "/dashboard/orders/{}/"])
def test_already_pending_links_to_the_refill(client, order, path):
    bought = order()
    waiting = factories.Refill(order=bought)

    page = client.get(path.format(bought.pk)).content.decode()

    link = f'<a href="/dashboard/refills/?q={waiting.pk}">A refill request is already pending for this order</a>'
    assert link in page


class TestRefillButton:
    def press(self, client, order, **fields):
        return client.post("/dashboard/orders/refill/", {"order": order, **fields}, follow=True)

    def test_the_button_requests_a_refill(self, client, order, customer):
        bought = order()

        response = self.press(client, bought.pk)

        made = Refill.objects.get()
        assert (made.order, made.account, made.status, made.api_key) == (bought, customer.account, "pending", None)
        assert messages(response) == [f"Requested {made.pk} for {bought.pk}."]

    def test_a_button_pressed_twice_requests_one_refill(self, client, order):
        bought = order()
        self.press(client, bought.pk)

        response = self.press(client, bought.pk)

        assert messages(response) == [f"{bought.pk}: A refill request is already pending for this order."]
        assert Refill.objects.count() == 1

    def test_another_accounts_order_is_not_found(self, client):
        others = factories.Order()

        assert messages(self.press(client, others.pk)) == [f"{others.pk}: Order not found."]
        assert not Refill.objects.exists()

    @pytest.mark.parametrize("reference", IMPOSSIBLE)
    def test_text_that_names_no_order_is_not_found(self, client, reference):
        [message] = messages(self.press(client, reference))

        assert message.endswith(": Order not found.")

    @pytest.mark.parametrize(
        ("back", "to"),
        [
            ("/dashboard/orders/?status=partial", "/dashboard/orders/?status=partial"),
            ("https://evil.example/", "/dashboard/orders/"),
            ("//evil.example/", "/dashboard/orders/"),
            ("", "/dashboard/orders/"),
        ],
    )
    def test_the_button_returns_to_the_list_as_it_was(self, client, order, back, to):
        response = client.post("/dashboard/orders/refill/", {"order": order().pk, "next": back})

        assert response["Location"] == to

    def test_a_get_requests_nothing_and_redirects_to_the_list(self, client, order):
        response = client.get("/dashboard/orders/refill/", {"order": order().pk})

        assert response["Location"] == "/dashboard/orders/"
        assert not Refill.objects.exists()

    def test_nothing_is_written_when_the_database_fails(self, client, order, monkeypatch):
        def fail(*args):
            raise OperationalError("lock timeout")

        monkeypatch.setattr("refills.requesting.tally_refills", fail)
        client.raise_request_exception = False

        assert client.post("/dashboard/orders/refill/", {"order": order().pk}).status_code == 503
        assert not Refill.objects.exists()


class TestList:
    def paste(self, client, text):
        return client.post("/dashboard/orders/list/", {"orders": text})

    def test_each_order_has_a_result_in_the_order_sent(self, client, order):
        one, other, open_order = order(), order(), order(status="pending")

        response = self.paste(client, f"{other.number}, {one.pk}\r\n{open_order.pk};ord_x {one.pk}\n")

        made = {refill.order_id: refill.pk for refill in Refill.objects.all()}
        results = response.context["results"]
        assert [(each.order, each.refill, each.refusal and each.refusal.text) for each in results.first] == [
            (str(other.number), made[other.pk], None),
            (one.pk, made[one.pk], None),
            (open_order.pk, None, "Refill only available for completed or partial orders"),
            ("ord_x", None, "Order not found"),
            (one.pk, None, "A refill request is already pending for this order"),
        ]
        assert "Requested refills for 2 of 5 orders." in text(response)

    def test_the_results_link_to_the_orders_and_refills_that_exist(self, client, order):
        one = order()

        page = self.paste(client, f"{one.number} ord_x").content.decode()

        assert f'href="/dashboard/orders/{one.number}/"' in page
        assert f'href="/dashboard/refills/?q={Refill.objects.get().pk}"' in page
        assert "orders/ord_x" not in page

    def test_already_pending_links_to_the_refill(self, client, order):
        waiting = factories.Refill(order=order())

        page = self.paste(client, str(waiting.order.number)).content.decode()

        assert f'<a href="/dashboard/refills/?q={waiting.pk}">A refill request is already pending' in page

    def test_the_refused_are_counted_by_reason_to_be_copied(self, client, order):
        open_orders = [order(status="pending").pk for _ in range(2)]

        response = self.paste(client, "\n".join(["ord_x", *open_orders, order().pk]))

        assert [(each.reason, each.orders) for each in response.context["results"].refused] == [
            ("All that were refused", ["ord_x", *open_orders]),
            ("Refill only available for completed or partial orders", open_orders),
            ("Order not found", ["ord_x"]),
        ]
        assert "2: Refill only available" in text(response)
        assert f"<code>{open_orders[0]}\n{open_orders[1]}</code>" in response.content.decode()

    @pytest.mark.parametrize("pasted", ["", " \n , ;"])
    def test_an_empty_list_is_refused(self, client, pasted):
        response = self.paste(client, pasted)

        assert response.status_code == 400
        assert "Paste at least one order ID or number." in text(response)

    def test_a_list_of_any_length_is_sent_in_hundreds(self, client, order, django_assert_num_queries):
        numbers = [str(each.number) for each in factories.Order.create_batch(201, account=order().account)]

        with django_assert_num_queries(2 + 3 * 5):  # the session, the account; each batch as one of the API
            response = self.paste(client, "\n".join(numbers))

        results = response.context["results"]
        assert (results.count, results.requested, results.refused) == (201, 201, [])
        assert len(results.first) == 100
        assert "of the first 100 orders" in text(response)
        assert Refill.objects.count() == 201

    def test_each_hundred_counts_as_one_request_and_the_rest_is_offered_again(self, client, order, settings):
        settings.RATE_LIMIT_TIERS = {**settings.RATE_LIMIT_TIERS, "standard": 2}
        numbers = [str(each.number) for each in factories.Order.create_batch(250, account=order().account)]

        response = self.paste(client, "\n".join(numbers))

        assert response.status_code == 200
        assert response.context["results"].requested == 200
        assert response.context["text"].split() == numbers[200:]
        assert "50 orders of the list are still to be sent." in text(response)
        assert "Try again in" in text(response)
        assert int(response["Retry-After"]) > 0
        refused = self.paste(client, "\n".join(numbers[200:]))
        assert refused.status_code == 429
        assert refused.context["text"].split() == numbers[200:]
        assert Refill.objects.count() == 200

    @pytest.mark.parametrize("error", [OperationalError("gone"), ServiceUnavailable(), redis.ConnectionError("gone")])
    @pytest.mark.parametrize(("begun", "status"), [(2, 200), (0, 503)])
    def test_what_was_requested_before_a_failure_is_shown(self, client, order, monkeypatch, error, begun, status):
        """The rest is offered again, even if nothing was requested."""
        numbers = [str(each.number) for each in factories.Order.create_batch(250, account=order().account)]
        left = iter([request_refills] * begun)

        def request(*arguments):
            call = next(left, None)
            if call is None:
                raise error
            return call(*arguments)

        monkeypatch.setattr("refills.views.request_refills", request)
        response = self.paste(client, "\n".join(numbers))

        assert response.status_code == status
        assert response.context["text"].split() == numbers[100 * begun :]
        assert "Service temporarily unavailable. Try again in a moment." in text(response)
        assert Refill.objects.count() == 100 * begun
        assert ("results" in response.context) == bool(begun)

    def test_a_list_that_takes_too_long_is_offered_again(self, client, order, monkeypatch):
        monkeypatch.setattr("refills.views.SECONDS_OF_A_LIST", -1)
        numbers = [str(each.number) for each in factories.Order.create_batch(101, account=order().account)]

        response = self.paste(client, "\n".join(numbers))

        assert response.context["text"] == numbers[100]
        assert "1 order of the list is still to be sent." in text(response)
        assert "Retry-After" not in response

    def test_the_pasted_text_is_escaped(self, client):
        page = self.paste(client, "<script>alert(1)</script>").content.decode()

        assert "<script>alert" not in page

    def test_a_list_takes_as_many_statements_as_a_batch_of_the_api(self, client, order, django_assert_num_queries):
        numbers = [str(order().number) for _ in range(20)]

        with django_assert_num_queries(7):  # the session, the account; BEGIN, orders, counts, INSERT, COMMIT
            self.paste(client, "\n".join(numbers))


class TestRefills:
    def rows(self, client, **query):
        return client.get("/dashboard/refills/", query).context["page"].rows

    def test_the_customers_own_refills_are_listed_with_status_reason_and_dates(self, client, refill, staff):
        old, new = refill(), refill()
        Refill.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=2))
        factories.Refill()
        settle(
            [new.pk],
            RefillStatus.REJECTED,
            staff,
            "not for the customer",
            reason=factories.RejectionReason(text="Nothing dropped."),
        )

        assert self.rows(client) == [new, old]
        page = text(client.get("/dashboard/refills/"))
        assert "rejected Nothing dropped." in page
        assert "not for the customer" not in page
        assert f"{timezone.now():%Y-%m-%d}" in page

    def test_the_list_can_be_filtered_and_searched(self, client, refill):
        one, other = refill(status="completed"), refill()
        one.refresh_from_db()

        for query in (
            {"status": "completed"},
            {"q": one.pk},
            {"q": one.pk.lower()},
            {"q": str(one.order.number)},
            {"q": one.order_id},
        ):
            assert self.rows(client, **query) == [one], query
        assert one in self.rows(client, q=str(one.number))
        assert set(self.rows(client, status="nonsense")) == {one, other}
        assert self.rows(client, q=one.pk, status="pending") == []

    @pytest.mark.parametrize("reference", IMPOSSIBLE)
    def test_impossible_ids_are_not_an_error(self, client, refill, reference):
        refill()

        assert client.get("/dashboard/refills/", {"q": reference, "after": reference}).status_code == 200

    def test_another_accounts_refill_is_not_found(self, client):
        others = factories.Refill()

        assert self.rows(client, q=others.pk) == []
        assert self.rows(client, q=others.order_id) == []

    def test_the_statements_do_not_grow_with_the_rows(self, client, refill, django_assert_num_queries):
        for _ in range(55):
            refill()

        with django_assert_num_queries(3):  # the session, the account, the refills with what they need
            client.get("/dashboard/refills/")


class TestHistory:
    def download(self, client, query=""):
        response = client.get(f"/dashboard/refills/csv/{query}")
        assert response["Content-Type"] == "text/csv; charset=utf-8"
        return list(csv.DictReader(io.StringIO(b"".join(response.streaming_content).decode("utf-8-sig"))))

    def test_the_history_is_a_file_in_the_customers_terms(self, client, refill, staff):
        made = refill(order__link="https://example.com/own")
        reason = factories.RejectionReason(text="Nothing dropped.")
        settle([made.pk], RefillStatus.REJECTED, staff, "not for the customer", reason=reason)
        made.refresh_from_db()
        factories.Refill()

        [row] = self.download(client)

        assert row == {
            "refill": made.pk,
            "number": str(made.number),
            "status": "rejected",
            "order": made.order_id,
            "order_number": str(made.order.number),
            "link": "https://example.com/own",
            "service": str(made.service_id),
            "service_name": made.service.name,
            "requested (UTC)": f"{made.created_at:%Y-%m-%d %H:%M:%S}",
            "settled (UTC)": f"{made.settled_at:%Y-%m-%d %H:%M:%S}",
            "delivered": "",
            "reason": "Nothing dropped.",
        }

    def test_the_file_has_all_pages_of_the_list_as_it_is_filtered(self, client, refill):
        for _ in range(60):
            refill()
        refill(status="completed")

        assert len(self.download(client)) == 61
        assert [row["status"] for row in self.download(client, "?status=completed")] == ["completed"]
        page = client.get("/dashboard/refills/?status=pending").content.decode()
        assert 'href="/dashboard/refills/csv/?status=pending"' in page

    def test_what_looks_like_a_formula_is_made_harmless(self, client, refill):
        refill(order__link="=1+1")

        assert [row["link"] for row in self.download(client)] == ["'=1+1"]
