"""The page of a refill, and the buttons that settle and claim it."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from notpanel.kit.durations import duration
from refills.desk import overlapping, timeliness
from refills.models import Refill
from refills.settlement import claim
from refills.statuses import RefillStatus
from tests import factories
from tests.conftest import messages_of, settle


@pytest.fixture
def admin(client, staff):
    client.force_login(staff)
    return client


EMPTY_QUEUE = "/admin/refills/refill/queue/?queue="


def page_in_queue(refill, query=""):
    return reverse("admin:refills_refill_change", args=[refill.pk]) + (f"?queue={query}" if query else "")


def page(client, refill):
    return client.get(reverse("admin:refills_refill_change", args=[refill.pk]))


def send(client, refill, what="settle", query="", **fields):
    response = client.post(reverse(f"admin:refills_refill_{what}", args=[refill.pk]) + query, fields)
    return response, messages_of(response)


class TestView:
    def test_the_page_shows_the_order_and_the_customer(self, admin):
        refill = factories.Refill(order__account__username="shop", order__account__tier="agency", order__start_count=77)

        text = page(admin, refill).content.decode()

        for shown in (refill.pk, refill.order.link, "77", "1000", "0.90000 USD", "shop", "Agency", "not yet"):
            assert (shown in text) == (shown != "not yet")

    def test_the_page_shows_each_rule_with_its_current_figures(self, admin):
        order = factories.Order(service__refill_days=5, service__refill_limit=2)
        factories.Refill(order=order, status="completed")
        refill = factories.Refill(order=order)

        look = page(admin, refill).context["look"]

        assert [(verdict.figures, verdict.refusal) for verdict in look.verdicts] == [
            ("the order is completed", None),
            ("refill=true", None),
            ("completed 10 d 0 h ago, the period is 5 days", "Refill period has expired (5 days)"),
            ("0 in flight", None),
            ("1 of 2 used", None),
        ]

    def test_the_page_shows_every_earlier_refill_of_the_order(self, admin):
        order, now = factories.Order(), timezone.now()
        rejected = factories.Refill(order=order, status="rejected", created_at=now - timedelta(days=3))
        completed = factories.Refill(order=order, status="completed", created_at=now - timedelta(days=2))
        factories.Refill()

        look = page(admin, factories.Refill(order=order)).context["look"]

        assert look.earlier == [completed, rejected]

    def test_the_page_shows_the_customers_overlapping_orders_on_the_link(self, admin):
        now = timezone.now()
        order = factories.Order(created_at=now - timedelta(days=9), completed_at=now - timedelta(days=7))

        def other(begin, end, **fields):
            same = {"account": order.account, "link": order.link, "created_at": now - timedelta(days=begin)}
            if end is None:
                return factories.Order(**same | {"status": "in_progress"} | fields)
            return factories.Order(**same | {"completed_at": now - timedelta(days=end)} | fields)

        within, around, until_now = other(8, 7.5), other(12, 6), other(10, None)
        before, after = other(12, 9.5), other(6, 5)
        elsewhere = other(8, 7, link="https://example.com/other")
        theirs = other(8, 7, account=factories.Account())

        found = set(page(admin, factories.Refill(order=order)).context["look"].overlapping)

        assert found == {within, around, until_now}
        assert not found & {before, after, elsewhere, theirs}

    def test_the_page_shows_the_history(self, admin, staff):
        refill = factories.Refill()
        settle([refill.pk], RefillStatus.APPROVED, staff, "looked at it")
        settle([refill.pk], RefillStatus.COMPLETED, staff, delivered=40)

        look = page(admin, refill).context["look"]

        assert [(step.what, step.by, step.via, step.note) for step in look.history] == [
            ("Requested", str(refill.account), "dashboard", ""),
            ("Pending → Approved", "agent", "admin", "looked at it"),
            ("Approved → Completed", "agent", "admin", ""),
        ]

    @pytest.mark.parametrize(("link", "clickable"), [("https://example.com/x", True), ("javascript:alert(1)", False)])
    def test_the_order_link_is_clickable_only_if_it_is_http(self, admin, link, clickable):
        text = page(admin, factories.Refill(order__link=link)).content.decode()

        assert (f'href="{link}"' in text) == clickable

    def test_the_admins_log_of_a_refill_redirects_to_its_page(self, admin):
        """The admin has a log of every object. A refill's log is its history, which its page shows."""
        refill = factories.Refill()

        response = admin.get(reverse("admin:refills_refill_history", args=[refill.pk]))

        assert response.url == reverse("admin:refills_refill_change", args=[refill.pk])

    def test_a_refill_is_found_by_its_number_too(self, admin):
        refill = Refill.objects.get(pk=factories.Refill().pk)

        assert admin.get(reverse("admin:refills_refill_change", args=[refill.number])).status_code == 200

    def test_a_refill_that_does_not_exist_redirects(self, admin):
        for unknown in ("ref_01HG9XAZQM7C2V4K8R5T1W9YDE", "nonsense", "99999"):
            assert admin.get(reverse("admin:refills_refill_change", args=[unknown])).status_code == 302

    @pytest.mark.parametrize("count", [0, 15])
    def test_the_statements_do_not_grow_with_the_history(self, admin, django_assert_num_queries, count):
        order = factories.Order()
        factories.Refill.create_batch(count, order=order, status="rejected")
        factories.Order.create_batch(count, account=order.account, link=order.link)
        refill = factories.Refill(order=order)
        page(admin, refill)

        # session, user, second factor, permissions (2), the refill with its order, the next in the queue (3), the
        # order's others, its history, its notes, orders on the link (2), reasons (2)
        with django_assert_num_queries(16):
            page(admin, refill)


class TestSettling:
    def test_a_button_settles_the_refill_and_opens_the_next_one_in_the_queue(self, admin, staff):
        now = timezone.now()
        refill = factories.Refill(created_at=now - timedelta(hours=3))
        taken = factories.Refill(created_at=now - timedelta(hours=2))
        following = factories.Refill(created_at=now - timedelta(hours=1))
        claim([taken.pk], factories.Account())

        response, said = send(admin, refill, to="completed", delivered="120", note="done")

        refill.refresh_from_db()
        assert (refill.status, refill.delivered, refill.note, refill.settled_by) == ("completed", 120, "done", staff)
        assert said == [f"Refill #{refill.number} was completed."]
        assert response.url == page_in_queue(following)
        following.refresh_from_db()
        assert following.claimed_by == staff

    def test_the_next_refill_may_have_the_agents_own_claim_or_an_expired_one(self, admin, staff, settings):
        now = timezone.now()
        refill = factories.Refill(created_at=now - timedelta(hours=1))
        expired = now - timedelta(minutes=settings.CLAIM_MINUTES, seconds=1)
        mine = factories.Refill(created_at=now - timedelta(hours=3), claimed_by=staff, claimed_at=now)
        free = factories.Refill(created_at=now - timedelta(hours=2), claimed_by=factories.Account(), claimed_at=expired)

        for settled, following in ((refill, mine), (mine, free)):
            response, _ = send(admin, settled, to="completed")
            assert response.url == page_in_queue(following)

    def test_the_next_refill_is_never_the_one_just_approved(self, admin):
        refill = factories.Refill()

        response, said = send(admin, refill, to="approved")

        assert response.url == EMPTY_QUEUE
        assert said == [f"Refill #{refill.number} was approved."]

    @pytest.mark.parametrize("status", ["pending", "approved", "completed", "rejected"])
    def test_only_a_refill_in_flight_has_forms(self, admin, status):
        refill = factories.Refill(status=status)

        text = page(admin, refill).content.decode()

        in_flight = status in ("pending", "approved")
        assert ('name="to" value="completed"' in text) == in_flight
        assert ('name="to" value="rejected"' in text) == in_flight
        assert ('name="claim"' in text) == in_flight
        assert ('name="to" value="approved"' in text) == (status == "pending")

    def test_after_the_last_refill_the_queue_says_that_nothing_waits(self, admin):
        response, _ = send(admin, factories.Refill(), to="completed")

        assert response.url == EMPTY_QUEUE
        assert "Nothing waits in this queue." in admin.get(response.url).content.decode()

    def test_a_queue_that_colleagues_have_taken_is_not_called_empty(self, admin):
        claim([factories.Refill().pk], factories.Account())

        assert "Colleagues have taken everything that waits: 1 refill." in admin.get(EMPTY_QUEUE).content.decode()

    def test_the_queue_keeps_to_the_filter_and_the_order_of_the_list(self, admin):
        now, shop = timezone.now(), factories.Account(username="shop")
        order = {"order__account": shop}
        newer, newest = (factories.Refill(created_at=now - timedelta(hours=hours), **order) for hours in (3, 2))
        older = factories.Refill(created_at=now - timedelta(hours=5), **order)
        factories.Refill(created_at=now - timedelta(hours=1))

        url = "?queue=account%3Dshop"
        response, _ = send(admin, newer, query=url, to="completed")
        assert response.url == page_in_queue(newest, "account%3Dshop")
        response, _ = send(admin, newest, query=url, to="completed")
        assert response.url == page_in_queue(older, "account%3Dshop")

    @pytest.mark.parametrize("wrong", ["nosuch%3D1", "o%3Dx", "p%3D-1", "status%3Dnonsense"])
    def test_a_queue_that_cannot_be_is_the_whole_list(self, admin, wrong):
        refill, following = factories.Refill(), factories.Refill()

        response, _ = send(admin, refill, query=f"?queue={wrong}", to="completed")

        assert f"/{following.pk}/change/" in response.url.replace("_5F", "_")

    def test_a_rejection_has_a_reason_and_a_note(self, admin):
        refill, reason = factories.Refill(), factories.RejectionReason()

        send(admin, refill, to="rejected", reason=reason.pk, note="called them")

        refill.refresh_from_db()
        assert (refill.status, refill.reason, refill.note) == ("rejected", reason, "called them")

    def test_a_reason_that_is_not_offered_is_refused(self, admin):
        refill, reason = factories.Refill(), factories.RejectionReason(active=False)

        _, said = send(admin, refill, to="rejected", reason=reason.pk)

        assert said == ["Choose a reason from the list: the one that was sent is not active."]
        refill.refresh_from_db()
        assert refill.status == "pending"

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"to": "completed", "delivered": "many"}, "Enter the delivered units as a whole number"),
            ({"to": "completed", "delivered": "-1"}, "Enter the delivered units as a whole number"),
            ({"to": "completed", "delivered": str(2**63)}, "Enter the delivered units as a whole number"),
            ({"to": "completed", "note": "x" * 1001}, "Shorten the text to 1000 characters: it has 1001."),
            ({"to": "nonsense"}, "Choose what to do with the refill"),
            ({}, "Choose what to do with the refill"),
            ({"to": "pending"}, "A refill cannot be made pending."),
            ({"to": "rejected"}, "Choose a reason, or write words of your own"),
            ({"to": "rejected", "note": "only for staff"}, "Choose a reason, or write words of your own"),
            ({"to": "rejected", "words": "x" * 201}, "Shorten the text to 200 characters: it has 201."),
        ],
    )
    def test_an_invalid_form_says_what_to_do_and_changes_nothing(self, admin, fields, message):
        refill = factories.Refill()

        response, said = send(admin, refill, **{"note": ""} | fields)

        assert said[0].startswith(message)
        assert response.context["form"].data["note"] == fields.get("note", "")  # what was typed is still there
        refill.refresh_from_db()
        assert refill.status == "pending"

    def test_the_second_agent_is_told_who_settled_the_refill(self, admin):
        refill = factories.Refill(number=12)
        settle([refill.pk], RefillStatus.COMPLETED, factories.Account(username="ann"))

        response, [said] = send(admin, refill, to="rejected", words="No.")

        assert "#12: completed by ann at" in said
        assert response.context["original"].status == "completed"

    def test_what_was_typed_becomes_a_note_to_add_if_a_colleague_has_taken_the_refill(self, admin):
        refill = factories.Refill()
        claim([refill.pk], factories.Account())

        settling, _ = send(admin, refill, to="completed", note="Seen.", delivered="12")
        snoozing, _ = send(admin, refill, "snooze", hours="4", note="Waiting.")

        assert settling.context["note_form"].initial == {"note": "Seen.\n12"}
        assert snoozing.context["note_form"].initial == {"note": "Waiting."}

    @pytest.mark.parametrize(
        ("query", "after"),
        [
            ("?queue=account%3Dshop", "/change/?queue=account%3Dshop"),
            ("?back=status%3Dapproved", "/refill/?status=approved"),
        ],
    )
    def test_undo_leads_back_to_the_queue_or_the_list_of_the_message(self, admin, query, after):
        refill = factories.Refill()
        send(admin, refill, to="completed")
        url = reverse("admin:refills_refill_undo") + query

        response = admin.post(url, {"refills": refill.pk})

        assert response.url.endswith(after)
        refill.refresh_from_db()
        assert refill.status == "pending"
        response = admin.get(url)
        assert response.url.startswith("/admin/refills/refill/?")
        assert messages_of(response)[-1] == "Nothing was changed. Press the button again."

    def test_a_button_of_a_row_returns_to_the_list_as_it_was(self, admin):
        refill = factories.Refill()

        response, _ = send(admin, refill, query="?back=status%3Dpending%26p%3D2", to="approved")

        assert response.url == reverse("admin:refills_refill_changelist") + "?status=pending&p=2"

    def test_a_get_settles_nothing(self, admin):
        refill = factories.Refill()

        for what in ("settle", "claim"):
            url = reverse(f"admin:refills_refill_{what}", args=[refill.pk])
            response = admin.get(url, {"to": "completed", "claim": "take"})
            assert response.url == reverse("admin:refills_refill_change", args=[refill.pk])
            assert messages_of(response)[-1] == "Nothing was changed. Press the button again."
            refill.refresh_from_db()
            assert (refill.status, refill.claimed_by) == ("pending", None)

    def test_a_form_from_another_site_settles_nothing(self, staff):
        from django.test import Client

        client, refill = Client(enforce_csrf_checks=True), factories.Refill()
        client.force_login(staff)

        assert send(client, refill, to="completed")[0].status_code == 403


class TestClaims:
    def test_an_agent_takes_a_refill_and_releases_it(self, admin, staff):
        refill = factories.Refill()

        send(admin, refill, "claim", claim="take")
        refill.refresh_from_db()
        assert refill.claimed_by == staff
        assert "Taken by you" in page(admin, refill).content.decode()

        send(admin, refill, "claim", claim="release")
        refill.refresh_from_db()
        assert refill.claimed_by is None

    def test_colleagues_see_the_claim_and_must_take_over_first(self, admin, staff):
        refill = factories.Refill()
        claim([refill.pk], factories.Account(username="ann"))

        for url in (
            reverse("admin:refills_refill_change", args=[refill.pk]),
            reverse("admin:refills_refill_changelist"),
        ):
            text = admin.get(url).content.decode()
            assert "Taken by ann" in text
            assert 'value="completed"' not in text.replace('<option value="completed"', "")
        _, said = send(admin, refill, to="completed")
        assert "taken by ann at" in said[-1]
        _, said = send(admin, refill, "claim", claim="take")
        assert "was not taken: taken by ann" in said[-1]

        send(admin, refill, "claim", claim="take_over")
        send(admin, refill, to="completed")

        refill.refresh_from_db()
        assert (refill.status, refill.settled_by) == ("completed", staff)


@pytest.mark.parametrize(
    ("hours", "state"), [(0, "on time"), (18, "on time"), (18.1, "due soon"), (24, "due soon"), (24.1, "late")]
)
def test_timeliness_follows_the_target_in_the_settings(settings, hours, state):
    settings.SLA_HOURS = 24
    now = timezone.now()

    assert timeliness(Refill(created_at=now - timedelta(hours=hours)), now) == state


@pytest.mark.parametrize(
    ("length", "text"),
    [({"seconds": 59}, "0 min"), ({"minutes": 59}, "59 min"), ({"hours": 47}, "47 h"), ({"hours": 49}, "2 d 1 h")],
)
def test_durations_have_one_or_two_units(length, text):
    assert duration(timedelta(**length)) == text


def test_overlapping_orders_are_found_by_an_index(db, django_assert_num_queries):
    order = factories.Order()

    assert "order_by_link" in [index.name for index in order._meta.indexes]
    with django_assert_num_queries(1):
        assert list(overlapping(order, timezone.now())) == []
