"""Mails about settlements: chosen by the customer, one in MAILS_EVERY, at least once."""

import os
import re
import signal
import subprocess
import sys
from datetime import timedelta
from io import StringIO

import psycopg
import pytest
from django.core import mail
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.utils import timezone

from apikeys import emails
from apikeys.accounts import set_active
from apikeys.models import AuditEvent, SettlementMails
from apikeys.settlement_mails import MAILS_EVERY
from notpanel.kit import queue
from refills import mailing
from refills.mailing import SETTLED_SINCE, SHOWN, mail_settlements
from refills.models import Refill
from refills.reopening import reopen, undo
from refills.requesting import request_refills
from tests import factories
from tests.conftest import settle
from tests.mail_server import mail_server
from tests.races import MARKS, Waiting, await_others, race
from tests.server import BASE_DIR, database_url
from tests.work import counted

pytestmark = MARKS

SITE = "https://desk.example/"
PAGE, SWITCH = "/dashboard/email/", "/dashboard/email/settlements/"


@pytest.fixture
def account(transactional_db):
    return factories.Account(username="anna", email="anna@example.com", confirmed_email="anna@example.com")


@pytest.fixture
def client(account):
    client = Client()
    client.force_login(account)
    return client


@pytest.fixture
def agent(transactional_db):
    return factories.Account(username="agent", is_staff=True, is_superuser=True)


@pytest.fixture
def subscriber(account):
    emails.choose_settlement_mails(account, True, SITE)
    return account


def refill_of(account, **fields):
    return factories.Refill(order__account=account, **fields)


def make_final():
    """Let the time pass in which settlements may be undone."""
    for refill in Refill.objects.settled():
        Refill.objects.filter(pk=refill.pk).update(settled_at=refill.settled_at - timedelta(hours=1))
    await_others()


def let_the_next_mail_be_due():
    SettlementMails.objects.update(next_at=timezone.now())


def settled(account, agent, count=1, to="completed", **how):
    """Settle new refills of the account, for good."""
    refills = [refill_of(account) for _ in range(count)]
    settle([refill.pk for refill in refills], to, agent, **how)
    make_final()
    return refills


def orders_in(message):
    return [int(number) for number in re.findall(r"^Order (\d+)", message.body, re.MULTILINE)]


# ---- Choosing


def test_no_mail_is_sent_unless_the_customer_chose_it(account, agent):
    settled(account, agent)

    mail_settlements()

    assert mail.outbox == []


def test_the_page_says_what_is_chosen_and_the_audit_log_who_chose(client, account, agent):
    assert "You get no mails about settled refills." in client.get(PAGE).content.decode()

    page = client.post(SWITCH, {"mails": "on"}, follow=True).content.decode()
    assert "You get mails about settled refills, at most one every 10 minutes." in page
    assert "Stop these mails" in page
    client.post(SWITCH, {"mails": "on"})  # again: nothing changes
    assert SettlementMails.objects.get().site == "http://testserver/"

    settled(account, agent)
    page = client.post(SWITCH, {"mails": "off"}, follow=True).content.decode()
    assert "You get no mails about settled refills." in page
    mail_settlements()
    assert mail.outbox == []
    events = AuditEvent.objects.filter(kind="mails_chosen").order_by("at")
    assert [(event.account, event.by, event.details) for event in events] == [
        (account, account, {"settlements": True}),
        (account, account, {"settlements": False}),
    ]


def test_the_switch_needs_a_sign_in_and_a_post(client):
    assert Client().post(SWITCH, {"mails": "on"})["Location"] == f"/dashboard/sign-in/?next={SWITCH}"
    assert client.get(SWITCH)["Location"] == PAGE
    assert not SettlementMails.objects.exists()


@pytest.mark.parametrize("address", ["", "other@example.com"])
def test_an_address_that_is_not_confirmed_cannot_be_chosen(client, account, address):
    account.email = address
    account.save()
    assert "Confirm your address to be able to get mails" in client.get(PAGE).content.decode()

    page = client.post(SWITCH, {"mails": "on"}, follow=True).content.decode()

    assert "Confirm your e-mail address before you choose mails." in page
    assert not SettlementMails.objects.exists()


def test_what_was_settled_before_the_choice_is_not_mailed(account, agent):
    before = settled(account, agent)[0]
    emails.choose_settlement_mails(account, True, SITE)
    [after] = settled(account, agent)

    mail_settlements()

    assert [orders_in(message) for message in mail.outbox] == [[after.order.number]]
    assert before.order.number != after.order.number


# ---- What a mail says


def test_a_mail_names_the_orders_and_what_became_of_them_and_how_to_stop_it(subscriber, agent):
    [done] = settled(subscriber, agent, delivered=900)
    [refused] = settled(subscriber, agent, to="rejected", words="Nothing dropped.")
    [plain] = settled(subscriber, agent)
    settled(factories.Account(), agent)

    mail_settlements()

    [message] = mail.outbox
    assert (message.to, message.subject) == (["anna@example.com"], "3 of your refills were settled")
    assert (
        message.body.rstrip()
        == f"""Hello anna,

3 of your refills were settled:

Order {done.order.number}, {done.service.name}: completed
900 units delivered
{SITE}dashboard/orders/{done.order_id}/

Order {refused.order.number}, {refused.service.name}: rejected
Nothing dropped.
{SITE}dashboard/orders/{refused.order_id}/

Order {plain.order.number}, {plain.service.name}: completed
{SITE}dashboard/orders/{plain.order_id}/

All your refills: {SITE}dashboard/refills/

You get this mail because you asked for it. To stop these mails, open {SITE}dashboard/email/"""
    )


def test_a_mail_names_fifty_refills_and_says_how_many_more_there_are(subscriber, agent):
    refills = settled(subscriber, agent, SHOWN + 2)

    mail_settlements()

    [message] = mail.outbox
    assert message.subject == "52 of your refills were settled"
    assert len(orders_in(message)) == SHOWN
    assert set(orders_in(message)) < {refill.order.number for refill in refills}
    assert "\n\nAnd 2 more.\n\n" in message.body


# ---- When


def test_settlements_of_a_period_come_in_one_mail(subscriber, agent):
    settled(subscriber, agent)
    mail_settlements()
    later = settled(subscriber, agent, 2) + settled(subscriber, agent, to="rejected")
    mail_settlements()
    assert len(mail.outbox) == 1

    choice = SettlementMails.objects.get()
    assert timedelta(minutes=9) < choice.next_at - timezone.now() <= MAILS_EVERY
    let_the_next_mail_be_due()
    mail_settlements()
    let_the_next_mail_be_due()
    mail_settlements()

    assert len(mail.outbox) == 2
    assert sorted(orders_in(mail.outbox[1])) == sorted(refill.order.number for refill in later)


def test_what_is_undone_is_not_mailed(subscriber, agent):
    undone, kept = refill_of(subscriber), refill_of(subscriber)
    settle([undone.pk, kept.pk], "completed", agent)
    await_others()
    mail_settlements()
    assert mail.outbox == []  # both may still be undone

    assert undo([undone.pk], agent).done
    make_final()
    mail_settlements()

    assert [orders_in(message) for message in mail.outbox] == [[kept.order.number]]


def test_what_may_be_undone_waits_with_all_that_was_settled_after_it(subscriber, agent):
    first, undoable, last = (refill_of(subscriber) for _ in range(3))
    settle([first.pk], "completed", agent)
    make_final()
    settle([undoable.pk], "completed", agent)
    settle([last.pk], "completed", agent)
    Refill.objects.filter(pk=last.pk).update(settled_at=timezone.now() - timedelta(hours=1))
    await_others()

    mail_settlements()
    make_final()
    let_the_next_mail_be_due()
    mail_settlements()

    assert [orders_in(message) for message in mail.outbox] == [
        [first.order.number],
        [undoable.order.number, last.order.number],
    ]


def test_an_undoing_that_is_not_committed_yet_is_waited_for(subscriber, agent, settings):
    """The undoing looked at the clock in time, and commits after the settlement seems final."""
    settings.UNDO_SECONDS = 3600
    refill = refill_of(subscriber)
    settle([refill.pk], "completed", agent)
    await_others()
    with psycopg.connect(database_url()) as undoing:
        undoing.execute("SELECT FROM refills_refill FOR UPDATE")
        settings.UNDO_SECONDS = 0
        turn = Waiting(mail_settlements)
        undoing.execute("UPDATE refills_refill SET status = 'pending', settled_at = NULL, settled_by_id = NULL")
        undoing.commit()
        turn.result()

    assert mail.outbox == []


def test_what_is_reopened_and_settled_again_is_mailed_again(subscriber, agent):
    [refill] = settled(subscriber, agent)
    mail_settlements()
    reopen([refill.pk], agent, "The customer asked.")
    let_the_next_mail_be_due()
    await_others()
    mail_settlements()
    assert len(mail.outbox) == 1

    settle([refill.pk], "rejected", agent)
    make_final()
    mail_settlements()

    assert [orders_in(message) for message in mail.outbox] == [[refill.order.number]] * 2


def test_a_settlement_that_commits_late_is_not_passed_over(subscriber, agent):
    late, early = refill_of(subscriber), refill_of(subscriber)
    with psycopg.connect(database_url()) as session:
        session.execute("SELECT pg_current_xact_id()")
        settle([early.pk], "completed", agent)
        Refill.objects.filter(pk=early.pk).update(settled_at=timezone.now() - timedelta(hours=1))
        mail_settlements()
        assert mail.outbox == []  # the other session may be settling something
        session.execute(
            "UPDATE refills_refill SET status = 'completed', settled_at = now() - interval '1 hour', settled_by_id = %s"
            " WHERE number = %s",
            [agent.pk, late.number],
        )
        session.commit()
    await_others()
    mail_settlements()

    assert [orders_in(message) for message in mail.outbox] == [[late.order.number, early.order.number]]


@pytest.mark.parametrize("keep_from", ["suspended", "no address", "not confirmed"])
def test_an_account_that_may_get_no_mail_gets_everything_once_it_may(subscriber, agent, keep_from):
    if keep_from == "suspended":
        set_active(subscriber, False, agent, "Unpaid.")
    else:
        subscriber.email = "" if keep_from == "no address" else "new@example.com"
        subscriber.save()
    [refill] = settled(subscriber, agent)
    mail_settlements()
    assert mail.outbox == []

    if keep_from == "suspended":
        set_active(subscriber, True, agent, "Paid.")
    else:
        subscriber.email = subscriber.confirmed_email
        subscriber.save()
    mail_settlements()

    assert [orders_in(message) for message in mail.outbox] == [[refill.order.number]]


# ---- Workers and mail servers


def test_two_workers_at_once_send_one_mail(agent):
    accounts = [factories.Account(email=f"{n}@example.com", confirmed_email=f"{n}@example.com") for n in range(5)]
    for each in accounts:
        emails.choose_settlement_mails(each, True, SITE)
        refill_of(each)
    settle(list(Refill.objects.values_list("pk", flat=True)), "completed", agent)
    make_final()

    race([mail_settlements] * 4)

    assert sorted(message.to[0] for message in mail.outbox) == [f"{n}@example.com" for n in range(5)]


def test_an_account_whose_refills_are_locked_for_long_does_not_keep_others_from_their_mails(subscriber, agent, caplog):
    other = factories.Account(email="other@example.com", confirmed_email="other@example.com")
    emails.choose_settlement_mails(other, True, SITE)
    [held] = settled(subscriber, agent)
    settled(other, agent)
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = 100")
    try:
        with psycopg.connect(database_url()) as session:
            session.execute("SELECT FROM refills_refill WHERE number = %s FOR UPDATE", [held.number])
            mail_settlements()
            session.rollback()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET lock_timeout")  # the connection goes back to the pool, to other tests
    assert [message.to for message in mail.outbox] == [["other@example.com"]]
    assert f"Failed to read what to mail account {subscriber.pk}" in caplog.text

    await_others()
    mail_settlements()
    assert [message.to for message in mail.outbox] == [["other@example.com"], ["anna@example.com"]]


@pytest.fixture
def smtp(settings):
    with mail_server() as server:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = server.server_address
        settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
        settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = ""
        yield server


def test_a_mail_that_the_server_refuses_is_followed_by_one_that_tells_everything(subscriber, agent, smtp):
    smtp.answers["RCPT"] = "451 later"
    [first] = settled(subscriber, agent)
    for _ in range(100):
        mail_settlements()
    [second] = settled(subscriber, agent)
    smtp.answers.clear()
    mail_settlements()
    assert smtp.mails == []  # no more than one attempt in MAILS_EVERY

    let_the_next_mail_be_due()
    for _ in range(3):
        mail_settlements()

    [sent] = smtp.mails
    assert f"Order {first.order.number}," in sent.decode()
    assert f"Order {second.order.number}," in sent.decode()


def test_a_mail_server_that_is_down_puts_nothing_off(subscriber, agent, smtp, settings):
    settled(subscriber, agent)
    port, settings.EMAIL_PORT = settings.EMAIL_PORT, 1
    mail_settlements()

    settings.EMAIL_PORT = port
    mail_settlements()
    mail_settlements()

    assert len(smtp.mails) == 1


def test_a_worker_that_is_killed_while_it_sends_loses_nothing(subscriber, agent, smtp):
    [refill] = settled(subscriber, agent)
    smtp.answers["DATA"] = ""
    queue.wake("refills.tasks.mail_settlements", {"timestamp": 0})
    worker = subprocess.Popen(
        [sys.executable, "manage.py", "work"],
        cwd=BASE_DIR,
        env=os.environ | {"DATABASE_URL": database_url(), "EMAIL_URL": f"smtp://127.0.0.1:{smtp.server_address[1]}"},
    )
    try:
        assert smtp.hung.wait(30)
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait(10)
    smtp.answers.clear()
    await_others()
    mail_settlements()
    assert smtp.mails == []

    let_the_next_mail_be_due()
    mail_settlements()
    mail_settlements()

    [sent] = smtp.mails
    assert f"Order {refill.order.number}," in sent.decode()


def test_a_mail_that_is_under_way_when_its_owner_chooses_anew_does_not_move_the_new_cursor(
    subscriber, agent, monkeypatch
):
    settled(subscriber, agent)
    send = mailing._send

    def choose_anew(*args):
        emails.choose_settlement_mails(subscriber, False, SITE)
        emails.choose_settlement_mails(subscriber, True, SITE)
        return send(*args)

    monkeypatch.setattr(mailing, "_send", choose_anew)
    mail_settlements()
    told_until = SettlementMails.objects.get().told_until

    assert len(mail.outbox) == 1
    assert told_until > Refill.objects.get().changed_in


def test_after_a_restore_into_another_server_mails_go_on(subscriber, agent):
    settled(subscriber, agent)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE apikeys_settlementmails SET told_until = '4000000000000'")
        cursor.execute("UPDATE refills_refill SET changed_in = '4000000000000'")

    call_command("mendrefilllist", stdout=StringIO())
    [after] = settled(subscriber, agent)
    mail_settlements()

    assert [orders_in(message) for message in mail.outbox] == [[after.order.number]]


# ---- What it costs


def test_a_request_and_a_settlement_cost_no_extra_statement(account, agent):
    def work():
        order = factories.Order(account=account)
        with counted() as requested:
            [made] = request_refills(account.pk, [order.pk])
        with counted() as done:
            settle([made.id], "completed", agent)
        return requested.statements, done.statements

    before = work()
    emails.choose_settlement_mails(account, True, SITE)

    assert work() == before


def test_a_mail_takes_the_same_statements_however_much_was_settled(subscriber, agent):
    def work(count):
        settled(subscriber, agent, count)
        let_the_next_mail_be_due()
        with counted() as done:
            mail_settlements()
        return done.statements

    assert work(1) == work(60)


def test_what_was_settled_since_is_read_from_an_index(subscriber, agent):
    """Neither earlier settlements nor the refills of others increase the work."""
    settled(subscriber, agent)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO refills_refill
                (id, order_id, service_id, account_id, status, created_at, settled_at, settled_by_id, note)
            SELECT gen_random_uuid(), order_id, service_id, account_id, status, created_at, settled_at, settled_by_id,
                ''
            FROM refills_refill, generate_series(1, 20000)
            """
        )
        cursor.execute("ANALYZE refills_refill")
        cursor.execute("SELECT pg_current_xact_id()::text")
        [[now]] = cursor.fetchall()
        cursor.execute(
            f"EXPLAIN (ANALYZE, FORMAT JSON) {SETTLED_SINCE}",
            {
                "account": subscriber.pk,
                "settled": ["completed", "rejected"],
                "told_until": now,
                "final": timezone.now(),
                "shown": SHOWN,
            },
        )
        [[[plan]]] = cursor.fetchall()

    assert set(re.findall(r"'Index Name': '(\w+)'", str(plan))) <= {"refill_by_change", "refill_settled_last"}
    assert "Seq Scan" not in str(plan)
    assert not re.findall(r"'Rows Removed[^:]*: [1-9]", str(plan))
