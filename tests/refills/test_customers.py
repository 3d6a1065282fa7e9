"""What the desk shows of a customer, and how staff request refills for one."""

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from notpanel.kit.refusals import AccountSuspended
from orders.models import OrderStatus
from refills import customers, desk
from refills.models import Refill
from refills.requesting import request_for_customer
from tests import factories, races
from tests.work import counted


@pytest.fixture
def agent(client, db):
    """Sign in a support agent. Returns the account."""
    agent = factories.Account(username="agent", is_staff=True)
    codenames = ["view_account", "view_order", "view_refill", "request_refill"]
    agent.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client.force_login(agent)
    return agent


@pytest.fixture
def account(db):
    return factories.Account(username="shop & co")


def page_of(account):
    return reverse("admin:apikeys_account_change", args=[account.pk])


def request_url(account):
    return reverse("admin:refills_refill_request", args=[account.pk])


class TestAtAGlance:
    def test_the_figures_are_of_the_customers_own_orders_and_refills(self, account):
        refilled, plain, *_ = [factories.Order(account=account) for _ in range(4)]
        factories.Order(account=account, status=OrderStatus.PENDING)
        refunded = factories.Order(account=account, status=OrderStatus.REFUNDED)
        for order, status in (
            (refilled, "rejected"),
            (refilled, "completed"),
            (refilled, "pending"),
            (refunded, "completed"),
        ):
            factories.Refill(order=order, status=status)
        factories.Refill(order=plain, status="rejected")
        factories.Refill(status="rejected")  # another customer's

        look = customers.look_at(account)

        assert (look.orders, look.delivered, look.refilled) == (6, 4, 2)
        assert (look.refills, look.in_flight, look.settled, look.rejected) == (5, 1, 4, 2)
        assert (look.refill_rate, look.rejection_rate) == (0.5, 0.5)

    def test_a_customer_without_orders_has_no_rates(self, account):
        look = customers.look_at(account)

        assert (look.refill_rate, look.rejection_rate, look.last_requests) == (None, None, [])

    def test_the_latest_requests_come_first(self, account):
        now = timezone.now()
        refills = [
            factories.Refill(order__account=account, created_at=now - timedelta(hours=age))
            for age in (3, 1, 2, 6, 5, 4)
        ]

        found = customers.look_at(account).last_requests

        assert found == [refills[index] for index in (1, 2, 0, 5, 4)]

    def test_three_statements_find_them_however_many_there_are(self, account):
        with counted() as work:
            customers.look_at(account)
        assert work.statements == 3

        factories.Refill.create_batch(20, order__account=account)
        with counted() as work:
            customers.look_at(account)
        assert work.statements == 3

    def test_the_page_links_to_the_lists_of_this_customer(self, client, agent, account):
        ours = [
            factories.Refill(order__account=account, status=status) for status in ("pending", "completed", "rejected")
        ]
        other = factories.Refill(status="rejected")
        for refill in [*ours, other]:
            refill.refresh_from_db()
        text = client.get(page_of(account)).content.decode()
        links = [link.replace("&amp;", "&") for link in re.findall(r'href="([^"]+account=[^"]+)"', text)]

        shown = [client.get(link).context["cl"].result_list for link in links]

        assert [{row.pk for row in rows} for rows in shown] == [
            {ours[2].pk},
            {refill.order_id for refill in ours},
            {refill.pk for refill in ours},
            {ours[0].pk},
        ]

    def test_the_latest_order_of_a_customer_comes_first(self, client, agent, account):
        now = timezone.now()
        orders = [factories.Order(account=account, created_at=now - timedelta(days=days)) for days in (12, 11, 13)]

        rows = (
            client.get(reverse("admin:orders_order_changelist"), {"account": account.username})
            .context["cl"]
            .result_list
        )

        assert [row.pk for row in rows] == [orders[1].pk, orders[0].pk, orders[2].pk]

    def test_suspending_and_the_figures_stand_above_the_form(self, client, staff, account):
        client.force_login(staff)
        text = client.get(page_of(account)).content.decode()

        assert text.index("Suspension") < text.index("Refill rate") < text.index('id="account_form"')

    def test_staff_who_may_not_see_refills_see_no_figures(self, client, account):
        viewer = factories.Account(is_staff=True)
        viewer.user_permissions.set(Permission.objects.filter(codename__in=["view_account", "request_refill"]))
        client.force_login(viewer)

        assert "Refill rate" not in client.get(page_of(account)).content.decode()

    def test_a_name_that_no_customer_has_finds_no_orders(self, client, agent):
        factories.Order()
        assert not client.get(reverse("admin:orders_order_changelist"), {"account": "nobody"}).context["cl"].result_list


class TestRequesting:
    def test_each_outcome_is_shown_and_the_refused_orders_stay_in_the_form(self, client, agent, account):
        good, in_flight = factories.Order(account=account), factories.Order(account=account)
        factories.Refill(order=in_flight)
        foreign = factories.Order()

        sent = f"#{good.number}, {in_flight.pk}\n{foreign.number} nonsense"
        text = client.post(request_url(account), {"orders": sent}).content.decode()

        refill = Refill.objects.get(order=good)
        assert (refill.account, refill.requested_by, refill.api_key) == (account, agent, None)
        assert "Requested 1 of 4 refills for shop &amp; co." in text
        assert f"#{refill.number}" in text
        assert text.count("Refused: A refill request is already pending for this order") == 1
        assert text.count("Refused: Order not found") == 2
        [kept] = re.findall(r"<textarea[^>]*>([^<]*)</textarea>", text)
        assert kept.split() == [in_flight.pk, str(foreign.number), "nonsense"]

    def test_the_history_says_who_requested_it(self, client, agent, account):
        order = factories.Order(account=account)
        client.post(request_url(account), {"orders": order.pk})

        refill = Refill.objects.get()
        [step] = desk.history(refill)
        assert (step.what, step.by) == ("Requested by agent for shop & co", "agent")
        assert "requested by agent" in client.get(page_of(account)).content.decode()

    def test_the_same_form_sent_twice_requests_once(self, client, agent, account):
        order = factories.Order(account=account)
        for _ in range(2):
            client.post(request_url(account), {"orders": order.number})

        assert Refill.objects.count() == 1

    @pytest.mark.parametrize(
        ("sent", "error"),
        [
            ("", "Enter at least one id or number of an order."),
            (" , ;\n", "Enter at least one id or number of an order."),
            (" ".join(map(str, range(1, 102))), "Enter 100 orders at most: these are 101."),
        ],
    )
    def test_a_list_that_is_empty_or_too_long_requests_nothing(self, client, agent, account, sent, error):
        factories.Order(account=account, number=1)

        text = client.post(request_url(account), {"orders": sent}).content.decode()

        assert error in text
        assert sent.strip() in text
        assert not Refill.objects.exists()

    @pytest.mark.parametrize("sent", ["x" * 70_000, "9" * 5000, "ord_", "<script>alert(1)</script>"])
    def test_a_hostile_list_is_refused_in_words(self, client, agent, account, sent):
        answer = client.post(request_url(account), {"orders": sent})

        assert answer.status_code == 200
        assert "<script>alert" not in answer.content.decode()

    def test_a_suspended_customer_gets_no_refills(self, client, agent, account):
        order = factories.Order(account=account)
        account.is_active = False
        account.save()

        text = client.post(request_url(account), {"orders": order.pk}).content.decode()

        assert "No refill was requested: Account suspended." in text
        assert order.pk in text
        assert not Refill.objects.exists()
        with pytest.raises(AccountSuspended):
            request_for_customer(account, [order.pk], agent)

    def test_the_page_of_an_order_requests_its_refill(self, client, agent, account):
        order = factories.Order(account=account)
        text = client.get(reverse("admin:orders_order_change", args=[order.pk])).content.decode()
        assert f'action="{request_url(account)}"' in text
        [value] = re.findall(r'name="orders" value="(\d+)"', text)

        client.post(request_url(account), {"orders": value})

        assert Refill.objects.get().order == order

    def test_requesting_needs_its_own_permission(self, client, account):
        viewer = factories.Account(is_staff=True)
        viewer.user_permissions.set(Permission.objects.exclude(codename="request_refill"))
        client.force_login(viewer)
        order = factories.Order(account=account)

        assert client.get(request_url(account)).status_code == 403
        assert client.post(request_url(account), {"orders": order.pk}).status_code == 403
        assert not Refill.objects.exists()
        for page in (page_of(account), reverse("admin:orders_order_change", args=[order.pk])):
            assert 'name="orders"' not in client.get(page).content.decode()

    def test_another_site_cannot_post_to_the_page(self, agent, account):
        client = Client(enforce_csrf_checks=True)
        client.force_login(agent)
        order = factories.Order(account=account)

        assert client.post(request_url(account), {"orders": order.pk}).status_code == 403

    def test_a_customer_who_does_not_exist_is_not_found(self, client, agent):
        assert client.get(reverse("admin:refills_refill_request", args=[0])).status_code == 404

    def test_many_orders_take_as_many_statements_as_one(self, agent, account):
        def work(count):
            orders = factories.Order.create_batch(count, account=account)
            with counted() as done:
                request_for_customer(account, [order.pk for order in orders], agent)
            return done.statements

        assert work(1) == work(100)


class TestRaces:
    pytestmark = races.MARKS

    def test_an_agent_and_the_customer_who_request_at_once_make_one_refill(self):
        agent, order = factories.Account(is_staff=True), factories.Order()

        races.race([lambda: request_for_customer(order.account, [order.pk], agent)] * 4)

        assert Refill.objects.count() == 1
