"""Erasing a customer leaves nothing personal in any column of the database, and all of the books."""

import io
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import authenticate
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_otp.plugins.otp_totp.models import TOTPDevice

from apikeys.accounts import set_active
from apikeys.attempts import Counter
from apikeys.imports import import_accounts
from apikeys.keys import ApiKeyDetails, change_api_key, create_api_key
from apikeys.models import (
    Account,
    AttemptCounter,
    AuditEvent,
    KeptAnswer,
    RecoveryCode,
    SettlementMails,
    WebhookDelivery,
    WebhookEndpoint,
)
from apikeys.refusals import AccountErased, ApiKeyEnded, CannotEraseStaff
from apikeys.webhooks import leasing
from apikeys.webhooks.endpoints import add_endpoint
from notpanel.kit.refusals import AccountSuspended, BadFile
from orders.imports import import_orders
from orders.models import Order
from orders.refusals import OrderNotFound
from refills.audit import findings
from refills.erasing import erase_customer
from refills.models import Dispatch, DispatchStep, Refill, Transition
from refills.notes import add_note
from refills.refusals import RefillsInFlight
from refills.requesting import request_refills
from tests import factories
from tests.conftest import post, settle
from tests.races import MARKS, Waiting, race

MARK = "Zaphod"
ADDRESS = "203.0.113.177"  # for columns that take only addresses
THEIRS = "198.51.100.1"  # the address of an agent

# Tables, and columns of other tables, that hold nothing personal about a customer. Decide here about each new column of
# text: let the fixture ``marked`` write MARK into it and refills/erasing.py erase it, or list it.
IMPERSONAL_TABLES = """
    apikeys_panelkey auth_group auth_permission django_content_type django_migrations orders_service orders_supplier
    procrastinate_jobs procrastinate_periodic_defers refills_dayfigure refills_figurechange refills_recentfigure
    refills_rejectionreason refills_supplierstate refills_suppliertext
"""
IMPERSONAL_COLUMNS = """
    apikeys_account.currency apikeys_account.password apikeys_account.tier apikeys_account.time_zone
    apikeys_apikey.answers apikeys_apikey.digest apikeys_apikey.prefix apikeys_apikey.previous_digest
    apikeys_attemptcounter.key apikeys_auditevent.kind apikeys_keptanswer.digest apikeys_suspensionevent.kind
    apikeys_webhookdelivery.state apikeys_webhookdelivery.type apikeys_webhookendpoint.encrypted_old_secret
    apikeys_webhookendpoint.encrypted_secret apikeys_webhookendpoint.events apikeys_webhookendpoint.off_because
    apikeys_webhookendpoint.state django_admin_log.object_id django_session.session_data django_session.session_key
    orders_order.currency orders_order.status orders_order.supplier_order otp_totp_totpdevice.key refills_dispatch.state
    refills_dispatch.supplier_refill refills_dispatchstep.kind refills_dispatchstep.state refills_refill.status
    refills_transition.from_status refills_transition.kind refills_transition.to_status refills_transition.via
"""


def columns():
    """Return every column of the database that can hold words or an address, as table.column."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT table_name, column_name FROM information_schema.columns JOIN information_schema.tables
                USING (table_schema, table_name)
            WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'
                AND data_type IN ('text', 'character varying', 'character', 'json', 'jsonb', 'ARRAY', 'inet', 'bytea')
            """
        )
        return {f"{table}.{column}" for table, column in cursor.fetchall()}


def marks():
    """Return the columns that contain MARK or ADDRESS."""
    looks = [
        "SELECT '{0}.{1}' WHERE EXISTS (SELECT FROM {0} WHERE \"{1}\"::text ILIKE ANY (%(marks)s))".format(
            *name.split(".")
        )
        for name in sorted(columns())
    ]
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(looks), {"marks": [f"%{MARK}%", f"%{ADDRESS}%"]})
        return {name for [name] in cursor.fetchall()}


@pytest.fixture
def marked(staff):
    """A customer with two settled refills of one order, and MARK in everything that can hold something personal."""
    account = factories.Account(
        username=MARK, email=f"{MARK}@x.example", confirmed_email=f"{MARK}@x.example", first_name=MARK, last_name=MARK
    )
    account.set_password("pa55w0rd-of-zaphod")
    account.save()
    create_api_key(account, ApiKeyDetails(MARK, (f"{ADDRESS}/32",)))
    set_active(account, False, staff, f"{MARK} owes us.")
    set_active(account, True, staff, f"{MARK} has paid.")
    for by, address in ((account, ADDRESS), (None, ADDRESS), (staff, THEIRS)):
        AuditEvent.objects.create(
            at=timezone.now(), kind="signed_in", account=account, by=by, address=address, details={"was": MARK}
        )
    endpoint = factories.WebhookEndpoint(account=account, url=f"https://{MARK}.example/")
    order = factories.Order(account=account, link=f"https://example.com/{MARK}", service__refill_limit=5)
    for status, details in {"completed": {}, "rejected": {"words": f"Dear {MARK}, no."}}.items():
        [refill] = request_refills(account.pk, [order.pk])
        settle([refill.id], status, staff, f"{MARK} called.", **details)
        add_note([refill.id], staff, f"{MARK} is a friend.")
        dispatch = Dispatch.objects.create(
            refill_id=refill.id, supplier=factories.Supplier(), state="settled", on_approval=False, attempts=1,
            asked_at=timezone.now(), sent_at=timezone.now(), ended_at=timezone.now(), words=f"Of {MARK}: done.",
        )  # fmt: skip
        DispatchStep.objects.create(
            dispatch=dispatch, at=timezone.now(), kind="ask", attempt=1, state="settled", words=f"Of {MARK}: done."
        )
    WebhookDelivery.objects.update(body=f'"{MARK}"', answer=MARK, words=MARK)
    KeptAnswer.objects.create(
        account=account, request_id=MARK, digest="", created_at=timezone.now(), status=200, code=MARK, body=MARK
    )
    TOTPDevice.objects.create(user=account, name=MARK)
    RecoveryCode.objects.create(account=account, digest=MARK)
    SettlementMails.objects.create(account=account, site=f"https://{MARK}.example")
    LogEntry.objects.create(
        user=staff, content_type=ContentType.objects.get_for_model(Account), object_id=str(account.pk),
        object_repr=MARK, action_flag=2, change_message=f"{MARK} was renamed.",
    )  # fmt: skip
    Client().force_login(account)
    Counter("password", str(account.pk), 10).begin()
    assert endpoint.deliveries.exists()
    return account


def test_nothing_personal_is_left_in_any_column(marked):
    personal = {name for name in columns() if name.split(".")[0] not in IMPERSONAL_TABLES.split()}
    personal -= set(IMPERSONAL_COLUMNS.split())
    assert marks() == personal
    sessions = [session.get_decoded() for session in Session.objects.all()]
    assert [session["_auth_user_id"] for session in sessions] == [str(marked.pk)]

    erase_customer(marked.pk)

    assert marks() == set()
    assert not Session.objects.exists()
    assert not AttemptCounter.objects.exists()


def test_the_books_are_kept(marked):
    def books():
        return [
            list(Order.objects.exclude(account__is_staff=True).order_by("pk").values()),
            list(Refill.objects.order_by("pk").values()),
            list(Transition.objects.order_by("pk").values()),
            list(Dispatch.objects.order_by("pk").values()),
            list(marked.api_keys.values("pk", "prefix", "digest", "created_at")),
        ]

    def without_words(tables):
        return [
            [{name: row[name] for name in row if name not in ("link", "note", "reason_text", "words")} for row in rows]
            for rows in tables
        ]

    before = books()

    erase_customer(marked.pk)

    after = books()
    assert without_words(after) == without_words(before)
    assert [row["link"] for row in after[0]] == [f"erased:{Order.objects.get().number}"]
    assert {row["note"] for row in after[1]} == {"(erased)"}
    assert list(findings()) == []


def test_words_from_the_list_of_reasons_are_kept(marked, staff):
    reason = factories.RejectionReason(text="Nothing dropped.")
    [refill] = request_refills(marked.pk, [Order.objects.get().pk])
    settle([refill.id], "rejected", staff, reason=reason)

    erase_customer(marked.pk)

    assert Refill.objects.get(pk=refill.id).reason_text == "Nothing dropped."
    assert Transition.objects.get(refill=refill.id).reason_text == "Nothing dropped."


def test_another_customer_keeps_everything(marked, staff):
    other = factories.Account(username="Arthur", email="arthur@x.example")
    create_api_key(other, ApiKeyDetails("shop"))
    order = factories.Order(account=other, link="https://example.com/arthur")
    [refill] = request_refills(other.pk, [order.pk])
    settle([refill.id], "rejected", staff, "Arthur called.", words="Dear Arthur, no.")
    Client().force_login(other)
    kept = [list(model.objects.filter(account=other).values()) for model in (Order, Refill, AuditEvent)]

    erase_customer(marked.pk)

    assert [list(model.objects.filter(account=other).values()) for model in (Order, Refill, AuditEvent)] == kept
    assert Account.objects.get(pk=other.pk).email == "arthur@x.example"
    assert other.api_keys.get().name == "shop"
    assert Session.objects.count() == 1


def test_the_audit_log_has_one_event_about_it_and_keeps_who_did_what_when(marked):
    before = list(AuditEvent.objects.filter(account=marked).values_list("pk", "kind", "at", "by"))

    erase_customer(marked.pk)

    events = AuditEvent.objects.filter(account=marked)
    erased = events.get(kind="erased")
    assert (erased.by, erased.address, erased.details) == (None, None, {})
    assert list(events.exclude(pk=erased.pk).values_list("pk", "kind", "at", "by")) == before
    assert set(events.exclude(address=None).values_list("address", flat=True)) == {THEIRS}


# ---- Nobody uses the account again


def test_the_key_of_an_erased_account_is_refused_like_an_unknown_one(customer):
    erase_customer(customer.account.pk)

    known, unknown = customer.post("balance"), post(key=f"np_{'x' * 43}", action="balance")
    assert (known.status_code, known.content) == (unknown.status_code, unknown.content)


def test_nobody_signs_in(marked, client):
    assert authenticate(username=MARK, password="pa55w0rd-of-zaphod")
    client.force_login(marked)

    erase_customer(marked.pk)

    for name in (MARK, f"erased:{marked.pk}", f"{MARK}@x.example", ""):
        assert authenticate(username=name, password="pa55w0rd-of-zaphod") is None
    assert client.get(reverse("dashboard:overview")).status_code == 302


def test_an_erased_account_is_not_restored_and_gets_no_key(marked, staff):
    erase_customer(marked.pk)
    marked.refresh_from_db()

    with pytest.raises(AccountErased):
        set_active(marked, True, staff, "They came back.")
    with pytest.raises(AccountErased):
        create_api_key(marked)
    with pytest.raises(IntegrityError, match="account_erased_is_empty"), transaction.atomic():
        Account.objects.filter(pk=marked.pk).update(is_active=True)
    with pytest.raises(IntegrityError, match="account_erased_is_empty"), transaction.atomic():
        Account.objects.filter(pk=marked.pk).update(email="z@x.example")


def test_the_page_of_an_erased_account_says_so_and_offers_nothing(marked, staff, client):
    erase_customer(marked.pk)
    client.force_login(staff)
    page = reverse("admin:apikeys_account_change", args=[marked.pk])

    shown = client.get(page).content.decode()

    assert "The account was erased" in shown
    assert "suspension-reason" not in shown
    assert client.post(page, {"username": "again"}).status_code == 403
    assert client.get(reverse("admin:auth_user_password_change", args=[marked.pk])).status_code == 403


def test_an_import_of_the_user_name_makes_a_new_account_without_the_orders(marked):
    number = Order.objects.get().number
    erase_customer(marked.pk)

    imported = import_accounts(io.BytesIO(f"username,email\n{MARK},z@x.example".encode()))

    assert imported.created == 1
    assert Account.objects.get(username=MARK).pk != marked.pk
    assert Order.objects.get().account_id == marked.pk
    with pytest.raises(BadFile, match="account"):
        import_orders(
            io.BytesIO(
                "order,account,service,link,quantity,charge,status,created\n"
                f"{number},{MARK},{Order.objects.get().service_id},https://a.example,1,1,pending,2026-01-01".encode()
            )
        )
    with pytest.raises(BadFile, match="letters"):
        import_accounts(io.BytesIO(f"username,email\nerased:{marked.pk},z@x.example".encode()))


# ---- What is refused


@pytest.mark.parametrize("status", ["pending", "approved"])
def test_refills_in_flight_are_settled_first(marked, staff, status):
    [refill] = request_refills(marked.pk, [Order.objects.get().pk])
    if status == "approved":
        settle([refill.id], status, staff)
    before = marks()

    with pytest.raises(RefillsInFlight) as refusal:
        erase_customer(marked.pk)

    assert refusal.value.text.startswith("1 refills of the account are in flight")
    assert marks() == before
    assert Account.objects.get(pk=marked.pk).is_active


def test_a_refill_that_a_supplier_still_has_is_waited_for(marked):
    Dispatch.objects.filter(refill=Refill.objects.first()).update(
        state="sent", ended_at=None, next_at=timezone.now(), supplier_refill="7"
    )

    with pytest.raises(RefillsInFlight):
        erase_customer(marked.pk)


def test_accounts_of_staff_and_suppliers_are_refused(staff):
    for account in (staff, factories.Account(is_staff=True), factories.Supplier().account):
        with pytest.raises(CannotEraseStaff):
            erase_customer(account.pk)
        assert Account.objects.get(pk=account.pk).username == account.username


# ---- The command


@pytest.fixture
def typed(monkeypatch):
    """Return a function that sets what is typed when the command asks."""
    return lambda text: monkeypatch.setattr("builtins.input", lambda question: text)


def test_the_command_asks_for_the_user_name(marked, typed, capsys):
    typed("zaphod")
    with pytest.raises(CommandError, match="The names are not the same"):
        call_command("eraseaccount", MARK)
    assert Account.objects.filter(username=MARK).exists()
    typed(MARK)

    call_command("eraseaccount", MARK)

    assert capsys.readouterr().out == (
        f"Erased: the account is now erased:{marked.pk}. Kept without links and notes: 1 orders and 2 refills.\n"
    )


def test_the_command_run_again_erases_what_came_since(marked):
    call_command("eraseaccount", MARK, "--yes")
    first = Account.objects.get(pk=marked.pk).erased_at
    AuditEvent.objects.create(at=timezone.now(), kind="signed_out", account=marked, by=marked, address=ADDRESS)

    call_command("eraseaccount", f"erased:{marked.pk}", "--yes")

    assert marks() == set()
    assert Account.objects.get(pk=marked.pk).erased_at == first


def test_the_command_says_why_nothing_was_changed(staff, marked):
    request_refills(marked.pk, [Order.objects.get().pk])

    for name, said in {"agent": "cannot be erased", MARK: "Settle them", "nobody": "There is no account"}.items():
        with pytest.raises(CommandError, match=said):
            call_command("eraseaccount", name, "--yes")


# ---- Beside others


class TestRaces:
    pytestmark = MARKS

    def test_a_request_that_waits_for_the_erasure_finds_no_order(self):
        order = factories.Order()

        with transaction.atomic():
            erase_customer(order.account_id)
            request = Waiting(lambda: request_refills(order.account_id, [order.pk]))

        [outcome] = request.result()
        assert isinstance(outcome, OrderNotFound)
        assert not Refill.objects.exists()

    def test_a_request_that_came_first_is_waited_for_and_refuses_the_erasure(self):
        order = factories.Order(link=MARK)

        with transaction.atomic():
            request_refills(order.account_id, [order.pk])
            erasure = Waiting(lambda: erase_customer(order.account_id))

        with pytest.raises(RefillsInFlight):
            erasure.result()
        assert Order.objects.get().link == MARK

    def test_requests_and_an_erasure_at_once_leave_one_or_the_other(self):
        for _ in range(5):
            order = factories.Order()
            factories.WebhookEndpoint(account=order.account)

            def erase(order=order):
                try:
                    return erase_customer(order.account_id)
                except RefillsInFlight:
                    return None

            def request(order=order):
                return request_refills(order.account_id, [order.pk])

            *_, erased = race([request, request, erase])

            assert Refill.objects.filter(order=order).exists() is (erased is None)

    def test_a_key_or_a_webhook_that_waits_for_the_erasure_is_not_made(self):
        account = factories.Account()

        with transaction.atomic():
            erase_customer(account.pk)
            key = Waiting(lambda: create_api_key(account, ApiKeyDetails(MARK)))
            webhook = Waiting(lambda: add_endpoint(account.pk, "https://hooks.example/"))

        with pytest.raises(AccountErased):
            key.result()
        with pytest.raises(AccountSuspended):
            webhook.result()
        assert not WebhookEndpoint.objects.exists()

    def test_a_change_of_a_key_that_waits_for_the_erasure_is_refused(self):
        account = factories.Account()
        api_key, _ = create_api_key(account)

        with transaction.atomic():
            erase_customer(account.pk)
            change = Waiting(lambda: change_api_key(api_key, ApiKeyDetails(MARK)))

        with pytest.raises(ApiKeyEnded):
            change.result()
        assert marks() == set()

    def test_a_change_of_a_key_that_came_first_is_waited_for_and_erased(self):
        account = factories.Account()
        api_key, _ = create_api_key(account)

        with transaction.atomic():
            change_api_key(api_key, ApiKeyDetails(MARK))
            erasure = Waiting(lambda: erase_customer(account.pk))

        erasure.result()
        assert AuditEvent.objects.filter(kind="key_changed").exists()
        assert marks() == set()

    def test_a_webhook_that_is_being_delivered_leaves_nothing(self):
        order = factories.Order()
        factories.WebhookEndpoint(account=order.account)
        [refill] = request_refills(order.account_id, [order.pk])
        settle([refill.id], "completed", factories.Account(is_staff=True))
        [leased, *_] = leasing.lease(10, {}, failing=True)

        erase_customer(order.account_id)
        leasing.write([leasing.Result(leased, "delivered", None, 200, 5, MARK, "")])

        assert not WebhookDelivery.objects.exists()
        assert marks() == set()

    def test_an_import_of_orders_is_waited_for_and_never_deadlocks(self):
        service = factories.Service()
        account = factories.Account(username=MARK)
        factories.Order(account=account, service=service)
        header = "order,account,service,link,quantity,charge,status,created\n"
        day = (timezone.now() - timedelta(days=1)).date()

        def import_more():
            row = f"4711,{MARK},{service.pk},https://example.com/{MARK},100,1,pending,{day}"
            try:
                return import_orders(io.BytesIO((header + row).encode())).created
            except BadFile:
                return 0  # the account already has another name

        created, _ = race([import_more, lambda: erase_customer(account.pk)])

        assert Order.objects.filter(account=account).count() == 1 + created
        assert marks() == set()
