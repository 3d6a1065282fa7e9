"""What has been kept for long enough is deleted, while everything else goes on, and nothing younger is."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from apikeys.models import (
    Account,
    AttemptCounter,
    AuditEvent,
    KeptAnswer,
    SuspensionEvent,
    WebhookDelivery,
    WebhookEndpoint,
)
from apikeys.retention import AUDIT_LOG, DELIVERIES
from apikeys.webhooks.models import LEASE
from notpanel import tasks
from notpanel.kit import queue, retention
from refills.audit import findings
from refills.models import Dispatch, DispatchStep, Note, Refill, Transition
from refills.reopening import reopen
from tests import factories
from tests.conftest import new_customer, settle
from tests.races import MARKS, await_others, race

OPERATIONS = (Path(__file__).resolve().parent.parent.parent / "docs" / "operations.md").read_text()


def sql(statement, *parameters):
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else None


def session(at):
    return Session.objects.create(session_key=f"{at.timestamp()}", session_data="", expire_date=at)


def job(at, status="failed"):
    [[pk]] = sql(
        "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('default', 'task') RETURNING id",
    )
    sql("UPDATE procrastinate_jobs SET status = %s WHERE id = %s", status, pk)
    sql("UPDATE procrastinate_events SET at = %s WHERE job_id = %s", at, pk)
    return pk


def worker(at):
    [[pk]] = sql("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (%s) RETURNING id", at)
    return pk


def delivery(at, endpoint=None, **fields):
    fields = {"type": "refill.requested", "body": "{}", "state": "delivered"} | fields
    endpoint = endpoint or factories.WebhookEndpoint()
    return WebhookDelivery.objects.create(endpoint=endpoint, created_at=at, **fields)


def removed(at):
    return factories.WebhookEndpoint(state="removed", ended_at=at, encrypted_secret="")


def answer(at):
    return KeptAnswer.objects.create(
        account=factories.Account(), request_id="a", digest="", created_at=at, status=200, code="", body=""
    )


def counter(at):
    return AttemptCounter.objects.create(key=f"{at.timestamp()}", ends_at=at, wrong=1, checked=1)


def event(at):
    return AuditEvent.objects.create(at=at, kind="signed_in", account=factories.Account())


def dispatch(at, state="settled", status="completed", **fields):
    """Return the dispatch of a refill, with a step of the time at which both ended, as when a supplier settles it."""
    refill = factories.Refill(status=status, created_at=at)
    ended_at = at if state in ("settled", "refused", "given_up") else None
    dispatch = Dispatch.objects.create(
        refill=refill, supplier=factories.Supplier(), state=state, on_approval=False, asked_at=at, attempts=1,
        sent_at=at, ended_at=ended_at, next_at=None, **fields,
    )  # fmt: skip
    DispatchStep.objects.create(dispatch=dispatch, at=at, kind="ask", attempt=1, state=state)
    return dispatch


def keys(model):
    return lambda: set(model.objects.values_list("pk", flat=True))


def events():
    """Return the events of the kind ``event``, because making an account records one as well."""
    return set(AuditEvent.objects.filter(kind="signed_in").values_list("pk", flat=True))


def of_table(table):
    return lambda: {row[0] for row in sql(f"SELECT id FROM {table}")}


KINDS = {
    "sessions that have ended": (session, keys(Session)),
    "jobs that failed or were cancelled": (job, of_table("procrastinate_jobs")),
    "workers that were killed": (worker, of_table("procrastinate_workers")),
    "webhook deliveries": (delivery, keys(WebhookDelivery)),
    "webhooks that were removed": (removed, keys(WebhookEndpoint)),
    "kept answers": (answer, keys(KeptAnswer)),
    "counters of attempts to sign in": (counter, keys(AttemptCounter)),
    "events of the audit log": (event, events),
    "dispatches to suppliers": (dispatch, keys(Dispatch)),
}
KEPT = {kept.what: kept for kept in retention._registered}


def forget(now=None, **how):
    return {outcome.kept.what: outcome for outcome in retention.forget(now or timezone.now(), **how)}


def test_every_kind_is_tested():
    assert set(KINDS) == set(KEPT)


@pytest.mark.parametrize("what", KINDS)
def test_what_is_a_second_too_old_goes_and_what_is_a_second_younger_stays(db, what):
    make, left = KINDS[what]
    now = timezone.now()
    before = now - KEPT[what].kept_for()
    make(before - timedelta(seconds=1)), make(before - timedelta(days=400))
    young = make(before + timedelta(seconds=1))
    assert len(left()) == 3

    outcome = forget(now)[what]

    assert outcome.count == 2
    assert left() == {getattr(young, "pk", young)}


def test_everything_goes_however_much_there_is(db, monkeypatch):
    monkeypatch.setattr(retention, "AT_ONCE", 2)
    for days in range(5):
        counter(timezone.now() - timedelta(days=1 + days))

    assert forget()["counters of attempts to sign in"].count == 5
    assert not AttemptCounter.objects.exists()


def test_a_dry_run_deletes_nothing(db, capsys):
    for make, _ in KINDS.values():
        make(timezone.now() - timedelta(days=800))

    call_command("forget", "--dry-run")

    assert re.findall(r"\d would be deleted", capsys.readouterr().out) == ["1 would be deleted"] * len(KINDS)
    assert all(left() for _, left in KINDS.values())


def test_the_command_says_what_it_deleted(db, capsys, settings):
    settings.AUDIT_LOG_DAYS = 0
    for make, _ in KINDS.values():
        make(timezone.now() - timedelta(days=800))

    call_command("forget")

    said = capsys.readouterr().out.splitlines()
    assert "events of the audit log: kept for ever" in said
    assert "dispatches to suppliers: 1 deleted" in said
    assert len(said) == len(KINDS)
    assert len(events()) == 1


def test_the_worker_does_it_every_day(db):
    delivery(timezone.now() - timedelta(days=800))

    tasks.forget(0)

    assert not WebhookDelivery.objects.exists()


def test_a_kind_that_fails_keeps_no_other_from_being_deleted(db, settings, caplog):
    settings.AUDIT_LOG_DAYS = 27  # less than the setting may be
    event(timezone.now() - timedelta(days=27, hours=1))
    dispatch(timezone.now() - timedelta(days=400))

    with pytest.raises(CommandError, match="Not everything could be deleted"):
        call_command("forget")

    assert "the audit log is never changed" in caplog.text
    assert events()
    assert not Dispatch.objects.exists()


def test_a_worker_that_is_told_to_stop_leaves_the_rest(db, monkeypatch):
    event(timezone.now() - timedelta(days=800))
    monkeypatch.setattr(queue, "is_stopping", lambda: True)

    assert {outcome.count for outcome in forget().values()} == {0}


# ---- What the database refuses all the same


ALLOWED = "SELECT set_config('notpanel.forgets_before', (now() - interval '%s days')::text, true)"


@pytest.mark.parametrize(
    ("allowed", "statement"),
    [
        (None, "DELETE FROM apikeys_auditevent"),  # without what marks the daily run
        (801, "DELETE FROM apikeys_auditevent"),  # it is not that old
        (0, "DELETE FROM apikeys_auditevent WHERE at > now() - interval '28 days'"),  # whatever the setting says
        (0, "UPDATE apikeys_auditevent SET details = '{}'"),
        (0, "UPDATE apikeys_auditevent SET address = NULL"),
        (0, "DELETE FROM apikeys_suspensionevent"),
        (0, "UPDATE apikeys_suspensionevent SET reason = '(erased)'"),
        (None, "DELETE FROM refills_dispatchstep"),
        (0, "UPDATE refills_dispatchstep SET words = '(erased)'"),
        (0, "DELETE FROM refills_transition"),
        (0, "UPDATE refills_transition SET note = '(erased)'"),
        (0, "DELETE FROM refills_note"),
        (0, "UPDATE refills_note SET text = '(erased)'"),
    ],
)
def test_the_database_still_refuses_to_change_the_logs(staff, allowed, statement):
    long_ago = timezone.now() - timedelta(days=800)
    details = {"details": {"a": 1}, "address": "203.0.113.7", "kind": "signed_in", "account": staff}
    for at in (long_ago, timezone.now() - timedelta(days=27)):
        AuditEvent.objects.create(at=at, **details)
    SuspensionEvent.objects.create(account=staff, by=staff, at=long_ago, kind="suspended", reason="It owes us.")
    refill = dispatch(long_ago).refill
    Transition.objects.create(
        refill=refill, at=long_ago, by=staff, via="admin", from_status="pending", to_status="completed", note="n"
    )
    Note.objects.create(refill=refill, at=long_ago, by=staff, text="A note.")

    if allowed is not None:
        sql(ALLOWED % allowed)
    with pytest.raises(DatabaseError, match="never changed"), transaction.atomic():
        sql(statement)


def test_what_lets_old_rows_go_ends_with_its_transaction(db):
    sql("SELECT set_config('notpanel.forgets_before', '', false)")  # as on a connection on which it was set before
    event(timezone.now() - timedelta(days=800))

    with pytest.raises(DatabaseError, match="never changed"), transaction.atomic():
        AuditEvent.objects.all().delete()


# ---- What must stay, however old


@pytest.mark.parametrize(
    ("state", "status", "fields"),
    [
        ("sent", "approved", {"next_at": timezone.now(), "supplier_refill": "7"}),  # it is followed
        ("refused", "approved", {}),  # an agent decides
        ("given_up", "completed", {}),  # it may be with the supplier, and is not sent again
    ],
)
def test_dispatches_that_somebody_needs_stay(db, state, status, fields):
    next_at = fields.pop("next_at", None)
    kept = dispatch(timezone.now() - timedelta(days=800), "settled", status)
    Dispatch.objects.update(state=state, next_at=next_at, ended_at=None if next_at else kept.ended_at, **fields)

    assert forget()["dispatches to suppliers"].count == 0


def test_a_dispatch_with_a_late_answer_of_the_supplier_stays_until_that_is_old_too(db):
    old = dispatch(timezone.now() - timedelta(days=366))
    DispatchStep.objects.create(dispatch=old, at=timezone.now(), kind="send", attempt=1, state="settled")

    assert forget()["dispatches to suppliers"].count == 0


@pytest.mark.django_db(transaction=True)
def test_caps_lists_and_the_audit_of_the_books_see_no_difference(staff):
    customer = new_customer()
    service = factories.Service(refill_limit=1)
    order = factories.Order(account=customer.account, service=service)
    factories.WebhookEndpoint(account=customer.account)
    customer.refill(order)
    settle([Refill.objects.get().pk], "completed", staff)
    await_others()  # the list shows nothing later than the oldest transaction that is running
    listed = customer.post("refill_list").json()
    refused = customer.refill(order)

    forget(timezone.now() + timedelta(days=300))

    assert list(findings()) == []
    assert not WebhookDelivery.objects.exists()
    assert customer.post("refill_list").json() == listed
    assert customer.refill(order) == refused
    assert Transition.objects.count() == 1


# ---- Beside others


def test_a_delivery_that_is_being_made_stays(db):
    now = timezone.now()
    old = now - timedelta(days=31)
    made = delivery(old, state="waiting", next_at=now, attempted_at=now - LEASE + timedelta(seconds=1))
    delivery(old, state="waiting", next_at=now, attempted_at=now - LEASE - timedelta(seconds=1))
    delivery(old, state="waiting", next_at=now)

    assert forget(now)["webhook deliveries"].count == 2
    assert WebhookDelivery.objects.get() == made


class TestRaces:
    pytestmark = MARKS

    def test_what_somebody_works_with_is_skipped_and_not_waited_for(self):
        old = timezone.now() - timedelta(days=800)
        endpoint = factories.WebhookEndpoint()
        locked, _ = delivery(old, endpoint), delivery(old, endpoint)
        held = dispatch(old)

        def forget_elsewhere():
            sql("SET lock_timeout = '1ms'")
            try:
                return forget()
            finally:
                sql("RESET lock_timeout")  # the connection goes back to the pool, to other tests

        with transaction.atomic():
            WebhookDelivery.objects.select_for_update().get(pk=locked.pk)
            Refill.objects.select_for_update().get(pk=held.pk)
            [outcomes] = race([forget_elsewhere])

        assert not any(outcome.has_failed for outcome in outcomes.values())
        assert WebhookDelivery.objects.get() == locked
        assert Dispatch.objects.get() == held

    def test_two_at_once_share_the_work(self, monkeypatch):
        monkeypatch.setattr(retention, "AT_ONCE", 5)
        old = timezone.now() - timedelta(days=800)
        account = factories.Account()
        for _ in range(40):
            AuditEvent.objects.create(at=old, kind="signed_in", account=account)

        runs = race([forget] * 3)

        assert not any(outcome.has_failed for run in runs for outcome in run.values())
        # One may end early, because what was left for it was locked.
        assert sum(run[AUDIT_LOG.what].count for run in runs) == 40 - len(events())
        forget()
        assert not events()

    def test_a_refill_that_is_reopened_keeps_its_dispatch(self):
        refill = dispatch(timezone.now() - timedelta(days=800)).refill
        agent = factories.Account(is_staff=True)

        race([lambda: reopen([refill.pk], agent, "It dropped again."), forget])

        assert list(findings(frozenset({"superuser", "history"}))) == []
        assert not DispatchStep.objects.exclude(dispatch__in=Dispatch.objects.all()).exists()


# ---- The page for operators


def test_the_documentation_lists_every_kind_with_its_setting():
    section = OPERATIONS.partition("\n## Retention\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \|[^|]+\|([^|]*)\|$", section, re.MULTILINE)[1:]
    table = {what: settings.strip() for what, settings in rows}

    assert set(KEPT) <= set(table)
    names = re.findall(r"`(\w+_DAYS)` \((\d+)\)", " ".join(table[what] for what in KEPT))
    assert len(names) == 4
    assert [(name, str(getattr(django_settings, name))) for name, _ in names] == names


def test_an_account_is_never_forgotten(db):
    account = factories.Account(date_joined=timezone.now() - timedelta(days=8000))

    forget()

    assert Account.objects.get() == account
    assert DELIVERIES.what in KEPT
