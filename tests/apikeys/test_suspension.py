import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.contrib.messages import get_messages
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.models import ProtectedError
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apikeys.accounts import set_active
from apikeys.models import Account, ApiKey, SuspensionEvent
from apikeys.refusals import CannotSuspendYourself, NoReasonGiven
from tests import factories, races


def test_a_customer_is_suspended_and_restored_with_a_reason(staff, customer):
    assert set_active(customer.account, False, staff, " chargeback ")
    assert customer.post("services").json() == {"error": "Account suspended"}

    assert set_active(customer.account, True, staff, "paid")
    assert customer.post("services").status_code == 200

    events = SuspensionEvent.objects.values_list("account", "kind", "reason", "by")
    assert list(events) == [
        (customer.account.pk, "suspended", "chargeback", staff.pk),
        (customer.account.pk, "restored", "paid", staff.pk),
    ]
    assert not LogEntry.objects.exists()


def test_restoring_an_active_account_is_not_recorded(staff, customer):
    assert not set_active(customer.account, True, staff, "paid")
    assert not SuspensionEvent.objects.exists()


def test_a_reason_is_required(staff, customer):
    with pytest.raises(NoReasonGiven, match="Give a reason"):
        set_active(customer.account, False, staff, " ")


def test_nobody_suspends_themselves(staff):
    with pytest.raises(CannotSuspendYourself, match="yourself"):
        set_active(staff, False, staff, "enough")


def test_staff_suspend_a_customer_on_the_customers_page(client, staff, customer):
    client.force_login(staff)
    page = reverse("admin:apikeys_account_change", args=[customer.account.pk])
    url = reverse("admin:apikeys_account_suspend", args=[customer.account.pk])
    assert "Suspend" in client.get(page).content.decode()

    response = client.post(url, {"active": "no", "reason": "chargeback"})

    assert response.url == page
    assert [str(message) for message in get_messages(response.wsgi_request)] == [
        f"{customer.account} is now suspended."
    ]
    text = client.get(page).content.decode()
    assert "Suspended: chargeback" in text
    assert "Restore" in text
    answer = client.get(url, follow=True)
    assert answer.redirect_chain[0][0] == page
    assert "Nothing was changed. Press the button again." in answer.content.decode()


@pytest.mark.parametrize("model", ["account", "order"])
def test_the_pages_of_customer_and_order_show_their_refills(client, staff, model):
    client.force_login(staff)
    refill = factories.Refill(status="rejected", reason=factories.RejectionReason(text="Nothing dropped."))
    refill.refresh_from_db()
    name = {"account": "apikeys_account", "order": "orders_order"}[model]

    text = client.get(reverse(f"admin:{name}_change", args=[getattr(refill, model).pk])).content.decode()

    assert f"#{refill.number}" in text
    assert "Nothing dropped." in text


def test_an_account_and_its_event_change_together(staff, customer, monkeypatch):
    def fail(**fields):
        raise ZeroDivisionError

    monkeypatch.setattr(SuspensionEvent.objects, "create", fail)
    with pytest.raises(ZeroDivisionError):
        set_active(customer.account, False, staff, "chargeback")

    assert customer.post("services").status_code == 200


def test_simultaneous_suspensions_are_recorded_once(transactional_db):
    account, staff = factories.Account(), factories.Account()

    changed = races.race([lambda: set_active(account, False, staff, "chargeback")] * 5)

    assert changed.count(True) == 1
    assert SuspensionEvent.objects.count() == 1


def test_a_suspension_sees_the_one_that_it_waited_for(transactional_db):
    account, staff = factories.Account(), factories.Account()

    with transaction.atomic():
        set_active(account, False, staff, "chargeback")
        second = races.Waiting(lambda: set_active(account, False, staff, "again"))

    assert second.result() is False
    assert SuspensionEvent.objects.get().reason == "chargeback"


@pytest.mark.parametrize(
    "change", ["UPDATE apikeys_suspensionevent SET reason = 'x'", "DELETE FROM apikeys_suspensionevent"]
)
def test_the_database_refuses_to_change_or_delete_an_event(staff, customer, change):
    set_active(customer.account, False, staff, "chargeback")

    with pytest.raises(DatabaseError, match="never changed"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(change)


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [({"kind": "deleted"}, "suspension_kind_is_known"), ({"reason": ""}, "suspension_has_a_reason")],
)
def test_the_database_refuses_an_invalid_event(staff, customer, fields, constraint):
    event = {"account": customer.account, "by": staff, "at": timezone.now(), "kind": "suspended", "reason": "x"}

    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        SuspensionEvent.objects.create(**event | fields)


def test_an_account_with_events_is_not_deleted(staff):
    account = factories.Account()
    set_active(account, False, staff, "chargeback")

    for each in (account, staff):
        with pytest.raises(ProtectedError):
            each.delete()


class TestPage:
    @pytest.fixture
    def suspend(self, client, customer):
        """Return a function that posts to the page as a given account. It returns the answer and its message."""

        def post(by, account_id=customer.account.pk, **fields):
            client.force_login(by)
            response = client.post(reverse("admin:apikeys_account_suspend", args=[account_id]), fields)
            return response, [(m.level_tag, str(m)) for m in get_messages(response.wsgi_request)][-1:]

        return post

    def test_suspending_needs_its_own_permission(self, client, suspend, customer):
        agent = factories.Account(is_staff=True)
        agent.user_permissions.set(Permission.objects.filter(codename__in=["view_account", "change_account"]))

        assert suspend(agent, active="no", reason="chargeback")[0].status_code == 403
        assert Account.objects.get(pk=customer.account.pk).is_active
        page = client.get(reverse("admin:apikeys_account_change", args=[customer.account.pk]))
        assert "Suspension" not in page.content.decode()

        agent.user_permissions.add(Permission.objects.get(codename="suspend_account"))
        assert suspend(agent, active="no", reason="chargeback")[0].status_code == 302
        assert not Account.objects.get(pk=customer.account.pk).is_active

    def test_the_message_says_what_was_done(self, suspend, staff, customer):
        def answer(**fields):
            return suspend(staff, **fields)[1]

        name = customer.account
        assert answer(active="no", reason=" ") == [("error", "Give a reason.")]
        assert answer(active="no", reason="x") == [("success", f"{name} is now suspended.")]
        assert answer(active="no", reason="x") == [("warning", f"{name} was already suspended.")]
        assert answer(active="yes", reason="x") == [("success", f"{name} is now active.")]
        assert answer(active="yes", reason="x") == [("warning", f"{name} was already active.")]
        assert suspend(staff, account_id=staff.pk, active="no", reason="x")[1] == [
            ("error", "You cannot suspend yourself.")
        ]

    def test_an_account_that_does_not_exist_is_not_found(self, suspend, staff):
        assert suspend(staff, account_id=0, active="no", reason="x")[0].status_code == 404

    def test_another_site_cannot_post_to_the_page(self, staff, customer):
        client = Client(enforce_csrf_checks=True)
        client.force_login(staff)
        url = reverse("admin:apikeys_account_suspend", args=[customer.account.pk])

        assert client.post(url, {"active": "no", "reason": "x"}).status_code == 403
        assert Account.objects.get(pk=customer.account.pk).is_active

    def test_the_page_shows_the_accounts_events_latest_first(self, client, staff, customer, customers, monkeypatch):
        monkeypatch.setattr("apikeys.admin.accounts.SHOWN_EVENTS", 2)
        set_active(customers().account, False, staff, "not-here")
        for number in range(4):
            set_active(customer.account, bool(number % 2), staff, f"reason-{number}")
        client.force_login(staff)

        page = client.get(reverse("admin:apikeys_account_change", args=[customer.account.pk])).content.decode()

        assert re.findall(r"(?:Suspended|Restored): [\w-]+", page) == ["Restored: reason-3", "Suspended: reason-2"]
        assert f"{timezone.now():%Y-%m-%d}" in page


@pytest.mark.django_db(transaction=True)
def test_the_migration_turns_suspensions_in_the_admins_log_into_events_and_back():
    before = [("apikeys", "0002_rotation_networks_expiry")]
    now = [("apikeys", "0003_suspension_events")]
    account, staff = factories.Account(), factories.Account()
    start = timezone.now() - timedelta(days=1)
    try:
        MigrationExecutor(connection).migrate(before)
        content_type = ContentType.objects.get_for_model(Account)
        texts = [
            "Suspended: chargeback: 12 EUR",
            "Restored: paid",
            "Changed the email. Suspended: no",
            "Suspended: ",
            "Restored:\nno",
        ]
        for number, text in enumerate(texts):
            at = start + timedelta(hours=number)
            fields = {"user": staff, "action_flag": 2, "change_message": text, "action_time": at}
            LogEntry.objects.create(content_type=content_type, object_id=str(account.pk), **fields)
        LogEntry.objects.create(content_type=content_type, object_id="0", **fields | {"change_message": texts[0]})
        other = ContentType.objects.get_for_model(ApiKey)
        LogEntry.objects.create(content_type=other, object_id=str(account.pk), **fields | {"change_message": texts[0]})

        MigrationExecutor(connection).migrate(now)

        events = SuspensionEvent.objects.values_list("account", "by", "at", "kind", "reason")
        assert list(events) == [
            (account.pk, staff.pk, start, "suspended", "chargeback: 12 EUR"),
            (account.pk, staff.pk, start + timedelta(hours=1), "restored", "paid"),
        ]
        kept = [*texts[2:], texts[0], texts[0]]
        assert list(LogEntry.objects.order_by("pk").values_list("change_message", flat=True)) == kept

        MigrationExecutor(connection).migrate(before)

        moved = LogEntry.objects.order_by("pk").values_list("change_message", "user", "object_id", "action_time")
        assert list(moved)[len(kept) :] == [
            (texts[0], staff.pk, str(account.pk), start),
            (texts[1], staff.pk, str(account.pk), start + timedelta(hours=1)),
        ]
    finally:
        executor = MigrationExecutor(connection)
        executor.migrate(executor.loader.graph.leaf_nodes())
    assert SuspensionEvent.objects.count() == 2
