"""The staff's list of refills, and its actions."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse
from django.utils import timezone

from orders.models import Order
from refills.models import Refill, Transition
from refills.settlement import claim
from refills.statuses import RefillStatus
from tests import factories
from tests.conftest import messages_of, settle

LIST = reverse("admin:refills_refill_changelist")


@pytest.fixture
def admin(client, staff):
    client.force_login(staff)
    return client


def act(client, action, refills, path=LIST, **fields):
    """Run an action on a selection; a rejection is confirmed at once."""
    body = {"action": action, "_selected_action": [refill.pk for refill in refills], "confirmed": "yes"}
    return messages_of(client.post(path, body | fields))


def named(refills):
    """Return how a message names the refills that it is about."""
    numbers = (
        Refill.objects.filter(pk__in=[refill.pk for refill in refills]).order_by("id").values_list("number", flat=True)
    )
    names = ", ".join(f"#{number}" for number in numbers[:5])
    return names if len(numbers) <= 5 else f"{names} and {len(numbers) - 5} more"


def listed(client, query=""):
    return [refill.pk for refill in client.get(LIST + query).context["cl"].result_list]


def test_the_list_opens_on_what_waits_oldest_first(admin, staff):
    now = timezone.now()
    young = factories.Refill(created_at=now - timedelta(hours=1))
    old = factories.Refill(created_at=now - timedelta(hours=3))
    woken = factories.Refill(created_at=now - timedelta(hours=2), snoozed_by=staff, snoozed_until=now)
    factories.Refill(snoozed_by=staff, snoozed_until=now + timedelta(hours=1))
    factories.Refill(status="approved")
    factories.Refill(status="completed")
    factories.Refill(status="rejected")

    assert listed(admin) == [old.pk, woken.pk, young.pk]


def test_refills_requested_at_the_same_moment_are_listed_by_id(admin):
    now = timezone.now()
    refills = [factories.Refill(created_at=now) for _ in range(5)]

    assert listed(admin) == sorted(refill.pk for refill in refills)


def test_a_row_shows_the_refill_its_order_and_its_customer(admin):
    refill = factories.Refill(
        created_at=timezone.now() - timedelta(hours=5), order__account__username="shop", order__service__name="Likes"
    )

    page = admin.get(LIST).content.decode()

    for text in (refill.pk, refill.order_id, refill.order.link, "Pending", "5 h", "shop (standard)", "Likes", "1 of 3"):
        assert text in page


def test_the_buttons_of_a_row_lead_back_to_the_list_as_it_is_filtered(admin):
    refill = factories.Refill(order__account__username="a&b")

    page = admin.get(LIST, {"account": "a&b", "status": "pending"}).content.decode()

    for what in ("settle", "claim"):
        url = reverse(f"admin:refills_refill_{what}", args=[refill.pk])
        assert f'formaction="{url}?back=account%3Da%2526b%26status%3Dpending"' in page


def test_text_that_a_customer_wrote_is_escaped(admin):
    link, user_name = 'https://a.example/"><script>alert(1)</script>', "<b>shop"
    factories.Refill(order__link=link, order__account__username=user_name, order__service__name="<i>Likes")

    page = admin.get(LIST).content.decode()

    assert page.count("a.example/&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;") == 2  # the title and the text
    assert "&lt;b&gt;shop" in page
    assert "&lt;i&gt;Likes" in page
    for written in ("<script>alert(1)", user_name, "<i>Likes"):
        assert written not in page


@pytest.fixture
def varied(db):
    """Refills that differ in everything that the list can be filtered by."""
    now, agent = timezone.now(), factories.Account(username="ann", is_staff=True)
    return {
        "young": factories.Refill(created_at=now, order__account__username="shop"),
        "soon": factories.Refill(created_at=now - timedelta(hours=20), status="approved"),
        "late": factories.Refill(created_at=now - timedelta(hours=30), order__account__tier="agency"),
        "completed": factories.Refill(status="completed", staff=agent, order__service__category="Views"),
        "rejected": factories.Refill(status="rejected", created_at=now - timedelta(days=8)),
    }


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["late", "young"]),
        ("status=in_flight", ["late", "soon", "young"]),
        ("status=settled", ["completed", "rejected"]),
        ("status=all", ["late", "soon", "young", "completed", "rejected"]),
        ("status=pending", ["late", "young"]),
        ("status=approved", ["soon"]),
        ("status=completed", ["completed"]),
        ("status=rejected", ["rejected"]),
        ("status=nonsense", ["late", "young"]),
        ("status=late", ["late"]),
        ("age=late", ["late"]),
        ("age=late&status=rejected", []),
        ("age=soon", ["late", "soon"]),
        ("age=1", ["young"]),
        ("age=1&status=in_flight", ["soon", "young"]),
        ("status=rejected&age=7", []),
        ("status=rejected&age=30", ["rejected"]),
        ("account=shop", ["young"]),
        ("account=nobody", []),
        ("tier=agency", ["late"]),
        ("status=completed&category=Views", ["completed"]),
        ("category=Views", []),
        ("service__id__exact={completed.service_id}", []),
        ("service__id__exact={young.service_id}", ["young"]),
        ("settled_by={completed.settled_by_id}", ["completed"]),
        ("settled_by={completed.settled_by_id}&status=rejected", []),
    ],
)
def test_each_filter_finds_its_refills(admin, varied, query, names):
    assert listed(admin, "?" + query.format(**varied)) == [varied[name].pk for name in names]


@pytest.mark.parametrize(
    ("action", "status", "message"),
    [
        ("approve", "approved", "were approved."),
        ("complete", "completed", "were completed."),
        ("reject", "rejected", "were rejected."),
    ],
)
def test_selected_refills_are_settled_and_the_agent_is_recorded(admin, staff, action, status, message):
    selected, left = factories.Refill.create_batch(2), factories.Refill()

    assert act(admin, action, selected, **({"words": "Why."} if action == "reject" else {})) == [
        f"2 refills ({named(selected)}) {message}"
    ]

    assert [refill.status for refill in Refill.objects.filter(pk__in=[r.pk for r in selected])] == [status] * 2
    left.refresh_from_db()
    assert left.status == "pending"
    assert Transition.objects.filter(by=staff, via="admin", to_status=status).count() == 2


def test_one_message_says_how_many_refills_were_settled_and_which_were_refused_and_why(admin):
    fine = factories.Refill()
    settled = factories.Refill(number=12, status="rejected", staff=factories.Account(username="colleague"))

    [message] = act(admin, "complete", [fine, settled])

    assert re.fullmatch(
        r"Refill #\d+ was completed\. 1 refill was refused\. #12: rejected by colleague at [-0-9: ]{16} UTC\.", message
    )
    assert named([fine]) in message


def test_refusals_for_the_same_cause_are_grouped_and_five_refills_are_named_for_each(admin, time_machine):
    time_machine.move_to(datetime(2026, 5, 20, 15, 0, tzinfo=UTC), tick=False)
    agent = factories.Account(username="ann")
    settled = [factories.Refill(number=number, status="completed", staff=agent) for number in range(11, 19)]
    taken = [factories.Refill(number=number) for number in range(21, 26)]
    claim([refill.pk for refill in taken], agent)

    [message] = act(admin, "complete", [*settled, *taken])

    assert message == (
        "No refills were completed. 13 refills were refused."
        " #11, #12, #13, #14, #15 and 3 more: completed by ann at 2026-05-20 15:00 UTC."
        " #21, #22, #23, #24, #25: taken by ann at 2026-05-20 15:00 UTC."
    )


def test_a_refill_that_does_not_exist_is_refused(admin):
    response = admin.post(LIST, {"action": "complete", "_selected_action": ["ref_01HG9X7KJP4N0123456789ABCD"]})

    assert messages_of(response) == [
        "No refills were completed. 1 refill was refused. unknown: there is no such refill."
    ]


def test_a_refill_that_a_colleague_has_settled_since_the_list_was_loaded_is_refused_not_ignored(admin):
    """The list shows refills in flight, so its queryset no longer contains this one."""
    settled = factories.Refill(number=12, status="completed", staff=factories.Account(username="colleague"))

    [message] = act(admin, "complete", [settled], path=f"{LIST}?status=pending")

    assert "#12: completed by colleague" in message


def test_a_selection_is_rejected_with_a_reason_that_the_customer_reads(admin, customer):
    reason = factories.RejectionReason(text="The account is private.")
    refills = factories.Refill.create_batch(2, order__account=customer.account)
    body = {"action": "reject", "_selected_action": [refill.pk for refill in refills]}

    page = admin.post(LIST, body | {"note": "a note"}).content.decode()
    assert "You have selected 2 refills" in page
    assert "The account is private." in page
    assert "a rejection needs one of them." in page
    assert "a note" in page
    assert all(f'name="_selected_action" value="{refill.pk}"' in page for refill in refills)
    act(admin, "reject", refills, reason=reason.pk, note="called them")

    assert customer.post("refill_status", refill=refills[0].pk).json() == {
        "status": "rejected",
        "reason": "The account is private.",
    }
    assert Refill.objects.filter(status="rejected", reason=reason, note="called them").count() == 2


def test_a_rejection_without_words_for_the_customer_is_refused(admin):
    refill = factories.Refill()

    assert act(admin, "reject", [refill], note="only for staff") == []

    refill.refresh_from_db()
    assert refill.status == "pending"


def test_selected_refills_are_taken_and_released(admin, staff):
    mine, taken = factories.Refill(), factories.Refill(number=12)
    claim([taken.pk], factories.Account(username="ann"))

    [message] = act(admin, "take", [mine, taken])
    assert f"Refill {named([mine])} was taken. 1 refill was refused. #12: taken by ann at" in message
    assert Refill.objects.get(pk=mine.pk).claimed_by == staff

    act(admin, "release", [mine, taken])
    assert [refill.claimed_by and refill.claimed_by.username for refill in Refill.objects.order_by("created_at")] == [
        None,
        "ann",
    ]


def test_selected_refills_are_snoozed_with_a_note(admin, staff):
    refills = factories.Refill.create_batch(2)

    [message] = act(admin, "snooze", refills, hours="24", note="Waiting for the supplier.")

    assert f"2 refills ({named(refills)}) were snoozed until" in message
    for refill in Refill.objects.all():
        assert timedelta(hours=23) < refill.snoozed_until - timezone.now() <= timedelta(hours=24)
        assert [note.text for note in refill.notes.all()] == ["Waiting for the supplier."]


@pytest.mark.parametrize("hours", ["", "5", "soon"])
def test_snoozing_for_an_invalid_time_asks_again_and_keeps_the_selection(admin, hours):
    refill = factories.Refill()

    response = admin.post(LIST, {"action": "snooze", "_selected_action": [refill.pk], "hours": hours, "note": "a note"})

    page = response.content.decode()
    assert "Choose until when to snooze the refill." in page
    assert "a note" in page
    assert f'name="_selected_action" value="{refill.pk}"' in page
    refill.refresh_from_db()
    assert refill.snoozed_until is None


def shown_on(page):
    """Return what the page of a list sends when its whole list is selected."""
    return re.search(r'name="shown" value="([\d ]*)"', page.content.decode())[1]


def test_the_whole_filtered_list_can_be_selected(admin):
    """It is the list as it was shown: what has come into it since is not selected."""
    account = factories.Account(username="shop")
    refills = factories.Refill.create_batch(31, order__account=account)
    shown = shown_on(admin.get(f"{LIST}?account=shop"))
    factories.Refill.create_batch(2, order__account=account, created_at=timezone.now() - timedelta(days=1))

    [message] = act(admin, "approve", refills[:1], f"{LIST}?account=shop", select_across="1", shown=shown)

    assert message.startswith("31 refills (")
    assert set(Refill.objects.filter(status="approved")) == set(refills)


def test_what_a_colleague_has_settled_since_the_list_was_shown_is_refused_with_the_reason(admin):
    refills = factories.Refill.create_batch(31)
    shown = shown_on(admin.get(LIST))
    settle([refills[3].pk], RefillStatus.COMPLETED, factories.Account(username="ann"))
    factories.Refill()  # as many as before

    [message] = act(admin, "approve", refills[:1], select_across="1", shown=shown)

    assert "1 refill was refused." in message
    assert "completed by ann at" in message
    assert Refill.objects.filter(status="approved").count() == 30
    assert Refill.objects.filter(status="pending").count() == 1


@pytest.mark.parametrize("shown", ["", "nonsense", "0 -1", "9" * 30])
def test_a_whole_list_that_was_not_shown_is_refused(admin, shown):
    refill = factories.Refill()

    assert act(admin, "approve", [refill], select_across="1", shown=shown) == [
        "The list has changed since it was shown. Reload it, and select the refills again."
    ]
    refill.refresh_from_db()
    assert refill.status == "pending"


def test_a_list_that_cannot_be_selected_as_a_whole_is_not_read_for_it(admin, monkeypatch):
    monkeypatch.setattr("refills.admin.changelist.LARGEST_SELECTION", 31)
    factories.Refill.create_batch(30)
    assert shown_on(admin.get(LIST)) == ""  # one page
    factories.Refill()
    assert len(shown_on(admin.get(LIST)).split()) == 31
    factories.Refill()
    assert shown_on(admin.get(LIST)) == ""


@pytest.fixture
def thousand_and_one(db):
    """1,001 refills in flight."""
    account, service = factories.Account(), factories.Service()
    orders = Order.objects.bulk_create(factories.Order.build_batch(1001, account=account, service=service))
    return Refill.objects.bulk_create(Refill(order=order, account=account, service=service) for order in orders)


@pytest.mark.parametrize("how", [{}, {"select_across": "1"}])
@pytest.mark.parametrize(("action", "status"), [("approve", "approved"), ("reject", "rejected")])
def test_a_selection_is_1000_refills_at_most(admin, thousand_and_one, how, action, status):
    why = {"words": "Why."} if action == "reject" else {}
    if how:
        numbers = Refill.objects.order_by("created_at", "id").values_list("number", flat=True)
        how = how | {"shown": " ".join(map(str, numbers))}
    assert act(admin, action, thousand_and_one, **why, **how) == ["Select at most 1,000 refills."]
    assert not Refill.objects.exclude(status="pending").exists()

    thousand_and_one.pop().delete()
    if how:
        how["shown"] = " ".join(map(str, Refill.objects.values_list("number", flat=True)))

    assert act(admin, action, thousand_and_one, **why, **how)[1:] == [
        f"1000 refills ({named(thousand_and_one)}) were {status}."
    ]
    assert Refill.objects.filter(status=status).count() == 1000


def test_refills_cannot_be_added_edited_or_deleted(admin):
    refill = factories.Refill()
    url = reverse("admin:refills_refill_change", args=[refill.pk])

    assert admin.get(url).status_code == 200
    for method in (admin.post, admin.put, admin.patch, admin.delete):
        assert method(url, {"status": "completed"}).status_code == 403
    assert admin.get(reverse("admin:refills_refill_add")).status_code == 403
    assert admin.post(reverse("admin:refills_refill_delete", args=[refill.pk])).status_code == 403


def test_settling_needs_its_own_permission(client, db):
    viewer = factories.Account(is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_refill"))
    client.force_login(viewer)
    refill = factories.Refill()

    assert listed(client) == [refill.pk]
    act(client, "complete", [refill])
    refill.refresh_from_db()
    assert refill.status == "pending"

    viewer.user_permissions.add(Permission.objects.get(codename="settle_refill"))
    act(client, "complete", [refill])
    refill.refresh_from_db()
    assert refill.status == "completed"


def test_customers_cannot_open_the_admin(client, customer):
    client.force_login(customer.account)

    assert client.get(LIST).status_code == 302


@pytest.mark.parametrize("count", [2, 30])
def test_the_statements_do_not_grow_with_the_list(admin, django_assert_num_queries, count):
    factories.Refill.create_batch(count)
    admin.get(LIST)

    # session, user, second factor, what to filter by (categories, staff), the count, the rows, what their orders
    # have used, the tabs; the reasons in the bar of actions
    with django_assert_num_queries(10):
        admin.get(LIST)


def test_a_long_list_is_counted_up_to_a_bound(admin, monkeypatch):
    monkeypatch.setattr("notpanel.kit.admin.COUNTED", 5)
    factories.Refill.create_batch(8)

    response = admin.get(LIST)

    assert response.context["cl"].paginator.count == 5
    assert "more than" in response.content.decode()


@pytest.mark.parametrize("model", ["order", "service"])
def test_orders_and_services_are_shown(admin, model):
    refill = factories.Refill()
    thing = refill.order if model == "order" else refill.order.service

    assert str(thing.pk) in admin.get(reverse(f"admin:orders_{model}_changelist")).content.decode()
    assert admin.get(reverse(f"admin:orders_{model}_change", args=[thing.pk])).status_code == 200


def test_orders_can_be_searched_but_not_changed(admin):
    order, _ = factories.Order.create_batch(2)
    url = reverse("admin:orders_order_changelist")

    for term in (order.pk, order.number):
        assert [found.pk for found in admin.get(url, {"q": term}).context["cl"].result_list] == [order.pk]
    assert admin.post(reverse("admin:orders_order_change", args=[order.pk]), {"status": "refunded"}).status_code == 403


def test_an_orders_page_lists_its_latest_refills_first(admin, monkeypatch):
    monkeypatch.setattr("refills.admin.sections.SHOWN_REFILLS", 2)
    order, now = factories.Order(), timezone.now()
    for days in (3, 1, 2):
        created_at = now - timedelta(days=days)
        factories.Refill(order=order, status="rejected", number=8000 + days, created_at=created_at)

    page = admin.get(reverse("admin:orders_order_change", args=[order.pk])).content.decode()

    assert re.findall(r"#(800\d)<", page) == ["8001", "8002"]
