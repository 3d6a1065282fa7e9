"""/metrics tells Prometheus what the processes of a server have counted, and figures of the database."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import requests
from django.core import mail
from django.core.mail import EmailMessage
from django.db import connection, connections, transaction
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from apikeys.webhooks import delivering
from notpanel import metrics
from notpanel.kit import metrics as kit
from notpanel.kit import queue
from notpanel.kit.circuit_breaker import CircuitBreaker
from notpanel.kit.mails import was_sent
from refills.models import Refill, Transition
from refills.querysets import late_before
from refills.reopening import reopen, undo
from refills.supplier_answers import Accepted, NotDone, Refused, Unclear
from refills.supplier_traffic import Traffic
from tests import factories
from tests.conftest import new_customer, post, settle
from tests.coroutines import run
from tests.notpanel.test_alerts import OF_SUPPLIERS, alerts_names
from tests.notpanel.test_worker import wait_for
from tests.receiver import receiver
from tests.server import MARKS, Server, database_url, free_port, until

TOKEN = "only-for-tests-" * 3
LATE = timedelta(days=2)


@pytest.fixture(autouse=True)
def _anew(settings, monkeypatch, tmp_path):
    """Keep each test from getting the figures that another one has read."""
    settings.METRICS_TOKEN = TOKEN
    monkeypatch.setattr(metrics, "_directory", lambda: tmp_path)


def ask(token=TOKEN, **headers):
    return Client().get("/metrics", headers={"Authorization": f"Bearer {token}"} | headers)


def samples(text):
    """Return the values of a text for Prometheus, by names with labels."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            assert (sample.name, labels) not in found
            found[sample.name, labels] = sample.value
    return found


def told():
    response = ask()
    assert response.status_code == 200
    return samples(response.content.decode())


@contextlib.contextmanager
def counted():
    """Yield what the block adds to the counters, once it has ended."""
    before, added = told(), {}
    yield added
    added |= {key: value - before.get(key, 0) for key, value in told().items() if value != before.get(key, 0)}


# ---- Who may read it


def test_the_page_is_for_the_holder_of_the_token(db):
    response = ask()

    assert response.status_code == 200
    assert response["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert int(response["Content-Length"]) == len(response.content)


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer ü"])
def test_nobody_else_learns_anything(db, authorization):
    response = Client().get("/metrics", headers={"Authorization": authorization})

    assert (response.status_code, response["WWW-Authenticate"]) == (401, "Bearer")
    assert b"notpanel_" not in response.content


def test_without_a_token_there_is_no_such_page(db, settings):
    settings.METRICS_TOKEN = ""

    assert ask("").status_code == 404


def test_a_process_that_starts_has_made_its_file_and_not_filled_it(tmp_path, monkeypatch):
    (tmp_path / "counter_1.db").touch()
    monkeypatch.setattr(kit, "metrics_directory", lambda: str(tmp_path))

    assert list(kit.collect()) == []


def test_a_scrape_needs_no_host_is_not_counted_and_leaves_no_line(db, settings, caplog):
    settings.ALLOWED_HOSTS, settings.SECURE_SSL_REDIRECT = ["panel.example"], True
    caplog.set_level("INFO")
    before = told()

    assert ask(host="10.0.0.7").status_code == 200
    after = told()
    assert {key: after[key] for key in after if key[0] == "notpanel_requests_total"} == {
        key: before[key] for key in before if key[0] == "notpanel_requests_total"
    }
    assert not caplog.records


# ---- Requests


def test_requests_are_counted_by_action_outcome_and_code(db, customer):
    order = factories.Order(account=customer.account)
    with counted() as added:
        assert customer.post("refill", order=order.pk).status_code == 200
        assert customer.post("refill", order=order.pk).status_code == 400
        assert post(key="np_wrong", action="refill").status_code == 401
        assert Client().get("/developers/").status_code == 200

    requests_total = {labels: value for (name, labels), value in added.items() if name == "notpanel_requests_total"}
    assert requests_total == {
        "action=refill,code=200,outcome=ok": 1,
        "action=refill,code=refill_already_pending,outcome=refused": 1,
        "action=other,code=invalid_api_key,outcome=denied": 1,
        "action=developers,code=200,outcome=ok": 1,
    }
    assert added["notpanel_request_duration_seconds_count", "action=refill"] == 2


def test_a_limit_is_counted_by_its_layer(customer, settings):
    settings.RATE_LIMIT_TIERS = {"standard": 1}
    with counted() as added:
        assert [customer.post("nonsense").status_code for _ in range(3)] == [400, 429, 429]

    assert added["notpanel_rate_limited_total", "layer=tier"] == 2
    assert added["notpanel_requests_total", "action=other,code=rate_limit_exceeded,outcome=limited"] == 2


def test_a_failure_is_counted(customer, monkeypatch):
    def fail(*args):
        raise RuntimeError("a bug")

    monkeypatch.setattr("notpanel.api.view.ApiView.find_action", fail)
    with counted() as added:
        client = Client(raise_request_exception=False)
        assert client.post("/api/v2", {"key": customer.raw_key, "action": "refill"}).status_code == 500

    assert added["notpanel_requests_total", "action=other,code=internal_server_error,outcome=failed"] == 1


def test_nothing_that_a_client_chose_becomes_a_label(customer):
    hostile = ['x"} 1\nnotpanel_requests_total{action="y', "refill\x00", "REFILL", *(f"action{n}" for n in range(50))]
    told()
    series = {key for key in told() if "duration" not in key[0]}
    for action in hostile:
        customer.post(action)
    Client().get("/{}" + "a" * 40)
    Client().generic("BREW", "/coffee", headers={"X-Error-Code": "mine"})

    new = {key for key in told() if "duration" not in key[0]} - series
    assert new <= {
        ("notpanel_requests_total", f"action=other,code={code}")
        for code in ("unknown_action,outcome=refused", "404,outcome=refused", "405,outcome=refused")
    }


def test_the_page_has_no_key_no_name_and_no_link(customer, transactional_db):
    staff = factories.Account(username="somebody-on-the-staff", is_staff=True)
    supplier = factories.Supplier(name="Secret supplier")
    order = factories.Order(account=customer.account, service__supplier=supplier, link="https://example.com/secret")
    customer.refill(order)
    settle([Refill.objects.get().pk], "completed", staff)
    text = ask().content.decode()

    for secret in (
        customer.raw_key,
        customer.api_key.prefix,
        customer.account.username,
        staff.username,
        order.link,
        order.pk,
    ):
        assert secret not in text
    assert supplier.name not in text
    assert f'supplier="{supplier.pk}"' in text


# ---- Refills, suppliers, webhooks, mails, breakers


def test_the_orders_of_a_batch_are_counted_by_what_became_of_each(customer, transactional_db):
    orders = factories.Order.create_batch(3, account=customer.account)
    canceled = factories.Order(account=customer.account, status="cancelled")
    ids = [order.pk for order in [*orders, canceled]]
    with counted() as added:
        customer.post("refill", orders=",".join([*ids, "nonsense"]))

    assert {labels: value for (name, labels), value in added.items() if name == "notpanel_refill_orders_total"} == {
        "outcome=requested": 3,
        "outcome=order_not_delivered": 1,
        "outcome=order_not_found": 1,
    }


def test_changes_are_counted_by_their_way_once_they_are_committed(staff, transactional_db):
    one, *others = factories.Refill.create_batch(4)
    with counted() as added:
        settle([one.pk], "completed", staff)
        undo([one.pk], staff)
        settle([each.pk for each in others], "rejected", staff)
        reopen([others[0].pk], staff, "By mistake.")
        settle([one.pk], "approved", staff, via=Transition.Via.COMMAND)
        settle([one.pk], "completed", staff, via=Transition.Via.SUPPLIER)

    assert {labels: value for (name, labels), value in added.items() if name == "notpanel_refill_changes_total"} == {
        "change=completed,way=desk": 1,
        "change=undone,way=desk": 1,
        "change=rejected,way=bulk": 3,
        "change=reopened,way=desk": 1,
        "change=approved,way=command": 1,
        "change=completed,way=supplier": 1,
    }


def test_a_change_that_is_rolled_back_is_not_counted(staff, transactional_db):
    refill = factories.Refill()
    with counted() as added, contextlib.suppress(ZeroDivisionError), transaction.atomic():
        settle([refill.pk], "completed", staff)
        raise ZeroDivisionError

    assert not {key for key in added if key[0] == "notpanel_refill_changes_total"}


def test_requests_to_suppliers_are_counted(transactional_db):
    supplier = factories.Supplier()
    traffic = Traffic(supplier)
    with counted() as added:
        for reply in (Accepted("1", "Accepted"), Refused("No"), NotDone("No connection"), Unclear("HTTP 500"), None):
            traffic.timed(lambda reply=reply: reply)

    assert {labels: value for (name, labels), value in added.items() if name == "notpanel_supplier_calls_total"} == {
        f"outcome={outcome},supplier={supplier.pk}": count
        for outcome, count in (("answered", 2), ("refused", 1), ("not_done", 1), ("unclear", 1))
    }
    assert added["notpanel_supplier_call_duration_seconds_count", f"supplier={supplier.pk}"] == 5


def test_mails_are_counted(db, monkeypatch):
    with counted() as added:
        assert was_sent(EmailMessage("Hello", "", None, ["a@b.example"]), "a mail")
        monkeypatch.setattr(EmailMessage, "send", lambda self: (_ for _ in ()).throw(OSError))
        assert not was_sent(EmailMessage("Hello", "", None, ["a@b.example"]), "a mail")

    assert len(mail.outbox) == 1
    assert added == added | {("notpanel_mails_total", f"outcome={outcome}"): 1 for outcome in ("sent", "failed")}


def test_a_breaker_tells_that_it_is_open_and_how_often_it_opened(db):
    breaker = CircuitBreaker(10, "replica")
    with counted() as added:
        breaker.trip()
        breaker.trip()  # the probe failed too
        assert told()["notpanel_breaker_open", "of=replica"] == 1
        breaker.reset()
        breaker.trip()
        breaker.reset()

    assert {key: value for key, value in added.items() if "breaker" in key[0]} == {
        ("notpanel_breaker_openings_total", "of=replica"): 2
    }


def test_attempts_of_webhooks_are_counted(settings, monkeypatch, transactional_db):
    settings.WEBHOOK_LOOPBACK = True
    monkeypatch.setattr(delivering, "LINGER", 0.0)
    customer = new_customer()
    with receiver() as hook, counted() as added:
        factories.WebhookEndpoint(account=customer.account, url=hook.url)
        customer.refill(factories.Order(account=customer.account))
        run(delivering.deliver())

    assert added["notpanel_webhook_attempts_total", "outcome=delivered"] == 1
    assert added["notpanel_webhook_attempt_duration_seconds_count", "outcome=delivered"] == 1


# ---- The figures of the database


@pytest.mark.django_db(transaction=True)
def test_the_figures_are_those_of_the_database():
    supplier = factories.Supplier(paused=True)
    now = timezone.now()
    orders = [factories.Order(created_at=now - timedelta(days=20), service__supplier=supplier) for _ in range(4)]
    pending, late, *_ = (
        factories.Refill(order=order, status=status, created_at=now - age)
        for order, status, age in zip(
            orders, ("pending", "pending", "approved", "completed"), (LATE / 4, LATE, LATE / 3, LATE), strict=True
        )
    )
    queue.wake("refills.tasks.sweep", {"timestamp": 0}, at=now - timedelta(minutes=7))
    found = told()

    for status in ("pending", "approved"):
        in_flight = Refill.objects.in_flight().filter(status=status)
        oldest = now - min(in_flight.values_list("created_at", flat=True))
        assert found["notpanel_refills_in_flight", f"status={status}"] == in_flight.count()
        assert found["notpanel_refills_late", f"status={status}"] == in_flight.late(now).count()
        assert found["notpanel_refills_oldest_seconds", f"status={status}"] == pytest.approx(
            oldest.total_seconds(), abs=30
        )
    assert late.created_at < late_before(now) < pending.created_at
    assert found["notpanel_supplier_paused", f"supplier={supplier.pk}"] == 1
    assert found["notpanel_jobs_oldest_seconds", ""] == pytest.approx(420, abs=30)
    assert found["notpanel_jobs_waiting", ""] == 1
    assert found["notpanel_database_up", ""] == 1
    assert {value for (name, _), value in found.items() if name == "notpanel_figures_up"} == {1}


@pytest.fixture
def elsewhere(db):
    """Let new connections to the database lead nowhere."""
    found = connections["default"].settings_dict
    port, found["PORT"] = found["PORT"], "1"
    yield
    found["PORT"] = port


def test_a_database_that_is_down_is_reported(elsewhere):
    found = told()

    assert found["notpanel_database_up", ""] == 0
    assert ("notpanel_jobs_waiting", "") not in found
    assert ("notpanel_mails_total", "outcome=sent") in found


@pytest.mark.django_db(transaction=True)
def test_figures_that_cannot_be_read_keep_no_others_back(monkeypatch, caplog):
    def slow(now):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(60)")
        return []

    monkeypatch.setattr(metrics, "BUDGET", 1.0)
    monkeypatch.setattr(kit, "readers", dict(kit.readers) | {"slow": slow})
    found = told()

    assert found["notpanel_figures_up", "figures=slow"] == 0
    assert found["notpanel_figures_up", "figures=refills"] == 1
    assert found["notpanel_database_up", ""] == 1
    assert "The figures of slow could not be read: canceling statement due to statement timeout" in caplog.text


@pytest.fixture
def reads(monkeypatch):
    """Return the times at which the database was read, and an event that lets a reading end."""
    read, times, may_end = metrics.read, [], threading.Event()

    def noted(now):
        times.append(now)
        assert may_end.wait(20)
        return read(now)

    monkeypatch.setattr(metrics, "read", noted)
    return times, may_end


def test_the_database_is_read_once_in_seconds_however_many_ask(transactional_db, reads):
    times, may_end = reads
    may_end.set()

    with ThreadPoolExecutor(4) as pool:
        texts = set(pool.map(lambda _: metrics.figures.text(), range(20)))

    assert (len(times), len(texts)) == (1, 1)


def test_nobody_waits_for_a_reading_while_the_last_one_is_fresh(transactional_db, reads, monkeypatch):
    times, may_end = reads
    may_end.set()
    before = metrics.figures.text()
    may_end.clear()
    monkeypatch.setattr(metrics, "KEPT_FOR", 0)

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(metrics.figures.text)
        until(lambda: len(times) == 2)
        assert metrics.figures.text() == before
        monkeypatch.setattr(metrics, "TOO_OLD", 0)
        monkeypatch.setattr(metrics, "PATIENCE", 0.1)
        assert metrics.figures.text().endswith(b"notpanel_database_up 0.0\n")  # because the reading hangs
        may_end.set()
        reading.result()


# ---- Servers of several processes


class Scraped(Server):
    def __init__(self, directory, **environment):
        self.directory = directory / "tmp"
        self.directory.mkdir(exist_ok=True)
        super().__init__(directory, METRICS_TOKEN=TOKEN, TMPDIR=str(self.directory), **environment)

    def scrape(self):
        response = requests.get(f"{self.url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30)
        assert response.status_code == 200
        return samples(response.text)

    def processes(self):
        return [
            int(pid) for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ]


serving = [*MARKS, pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="/proc tells the processes")]


def with_marks(test):
    for mark in serving:
        test = mark(test)
    return test


@with_marks
def test_the_counts_of_all_processes_add_up_and_outlive_a_killed_one(transactional_db, tmp_path, redis_url):
    server = Scraped(tmp_path, REDIS_URL=redis_url, WEB_CONCURRENCY="2")
    key = "notpanel_requests_total", "action=other,code=invalid_api_key,outcome=denied"

    sent = []

    def send(*args):
        sent.append(requests.post(f"{server.url}/api/v2", {"key": "np_none"}, timeout=30).status_code)

    def both_have_counted():
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(send, range(16)))
        return len(list(next(server.directory.iterdir()).glob("histogram_*.db"))) == 2

    try:
        until(both_have_counted)
        assert set(sent) == {401}
        assert server.scrape()[key] == len(sent)
        until(lambda: server.scrape()["notpanel_processes", "role=server"] == 2)

        killed, _ = server.processes()
        os.kill(killed, signal.SIGKILL)
        until(lambda: len(server.processes()) == 2 and killed not in server.processes())
        send()

        until(lambda: server.scrape()["notpanel_processes", "role=server"] == 2)
        assert server.scrape()[key] == len(sent)
        assert not alerts_names() - {name for name, _ in server.scrape()} - OF_SUPPLIERS
    finally:
        assert server.stop() == 0
    assert not list(server.directory.iterdir())


@with_marks
def test_a_server_counts_with_its_worker_and_clears_up_after_a_killed_one(transactional_db, tmp_path):
    killed = Scraped(tmp_path, WORKER="off")
    killed.kill()
    [left] = killed.directory.iterdir()

    server = Scraped(tmp_path, WORKER="on")
    try:
        until(lambda: server.scrape()["notpanel_processes", "role=worker"] == 1)
        assert server.scrape()["notpanel_memory_bytes", "role=worker"] > 1_000_000
        assert not left.exists()
    finally:
        server.stop()


@with_marks
def test_without_a_token_a_server_keeps_no_files(transactional_db, tmp_path):
    server = Server(tmp_path, TMPDIR=str(tmp_path))
    try:
        assert requests.get(f"{server.url}/metrics", timeout=30).status_code == 404
        assert not list(tmp_path.glob("notpanel-metrics-*"))
    finally:
        server.stop()


@with_marks
def test_a_separate_worker_answers_on_a_port_of_its_own(transactional_db, tmp_path):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {"DATABASE_URL": database_url(), "METRICS_TOKEN": TOKEN, "WORKER_METRICS_PORT": str(port)}
    command = [sys.executable, "manage.py", "work"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, env=os.environ | environment, stderr=log)
    try:

        def answers():
            with contextlib.suppress(requests.ConnectionError):
                return requests.get(url, timeout=30).status_code == 404

        wait_for(answers)
        assert requests.get(f"{url}/metrics", timeout=30).status_code == 401
        response = requests.get(f"{url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30)
        found = samples(response.text)
        assert found["notpanel_processes", "role=worker"] == 1
        assert ("notpanel_database_up", "") not in found  # the server reports that
        second = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
        assert (second.returncode, f"Port {port} of 127.0.0.1 is taken" in second.stderr) == (1, True)
    finally:
        process.terminate()
        assert process.wait(30) == 0
