"""/healthz says that the process is alive, /readyz what keeps the site from doing its work."""

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection, connections
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django.utils import timezone

from notpanel import health
from notpanel.kit import queue
from notpanel.server.checks import connect
from tests.redis_server import count_in

READY = {"ready": True, "database": "ok", "migrations": "ok", "queue": "ok", "redis": "ok"}


@pytest.fixture(autouse=True)
def _anew(monkeypatch):
    """Keep each test from seeing what the check of another one has found."""
    monkeypatch.setattr(health, "readiness", health.Readiness())


@pytest.fixture
def server(db):
    """Return the settings of new connections to the database, for the test to change."""
    settings = connections["default"].settings_dict
    before = settings["PORT"], settings["OPTIONS"]
    settings["OPTIONS"] = dict(settings["OPTIONS"])
    yield settings
    settings["PORT"], settings["OPTIONS"] = before


def ask(path="/readyz", **headers):
    response = Client().get(path, headers=headers)
    return response.status_code, response.json() if path == "/readyz" else response.content.decode()


def count_at(settings, url):
    count_in(settings, url, socket_connect_timeout=1, socket_timeout=1)
    settings.REDIS_URL = url


def test_a_process_that_lives_says_so_without_the_database():
    assert ask("/healthz") == (200, "ok\n")


def test_the_site_is_ready(db, settings, redis_url):
    count_at(settings, redis_url)

    assert ask() == (200, READY)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_check_needs_no_host_and_no_tls_and_leaves_no_line(db, settings, caplog, path):
    settings.SECURE_SSL_REDIRECT = True
    settings.ALLOWED_HOSTS = ["panel.example"]
    caplog.set_level(logging.INFO)

    assert ask(path, host="10.0.0.7")[0] == 200
    assert not caplog.records


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_check_is_not_counted_on_the_limits(db, settings, path):
    settings.RATE_LIMIT_IP = 1

    assert [ask(path)[0] for _ in range(3)] == [200] * 3


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_check_is_a_get(db, path):
    assert Client().head(path).status_code == 200
    assert Client().post(path).status_code == 404


def test_a_database_that_is_down_is_named_without_its_address(server):
    server["PORT"] = "1"

    status, found = ask()

    assert status == 503
    assert found == {
        "ready": False,
        "database": "The database cannot be reached.",
        "migrations": health.NOT_CHECKED,
        "queue": health.NOT_CHECKED,
        "redis": "ok",
    }


def test_a_database_that_takes_no_writes_is_named(server):
    server["OPTIONS"]["options"] = "-c default_transaction_read_only=on"

    status, found = ask()

    assert (status, found["migrations"]) == (503, "ok")
    assert found["database"] == "The database takes no writes: it is a standby, or set to read only."


def test_a_statement_that_fails_is_named(server, caplog):
    server["OPTIONS"]["options"] = "-c search_path=nowhere"

    status, found = ask()

    assert (status, found["database"]) == (503, "ok")
    assert found["queue"] == "The database refused to answer: the log of the server says why."
    assert 'relation "procrastinate_jobs" does not exist' in caplog.text


@pytest.mark.django_db(transaction=True)
def test_a_database_that_lacks_a_migration_is_named():
    recorder = MigrationRecorder(connection)
    recorder.record_unapplied("refills", "0001_initial")
    try:
        status, found = ask()
    finally:
        recorder.record_applied("refills", "0001_initial")

    assert (status, found["database"]) == (503, "ok")
    assert found["migrations"] == "The database lacks 1 of the migrations: run `manage.py migrate`."


@pytest.mark.django_db(transaction=True)
def test_code_that_is_older_than_the_database_is_ready(settings, redis_url):
    """During an upgrade the servers that are not replaced yet go on."""
    count_at(settings, redis_url)
    recorder = MigrationRecorder(connection)
    recorder.record_applied("refills", "9999_later")
    try:
        assert ask() == (200, READY)
    finally:
        recorder.record_unapplied("refills", "9999_later")


@pytest.mark.parametrize(("down", "status"), [("closed", 503), ("open", 200)])
def test_a_redis_that_is_down_is_named(db, settings, down, status):
    count_at(settings, "redis://127.0.0.1:1/0")
    settings.REDIS_DOWN = down

    assert ask() == (status, READY | {"ready": status == 200, "redis": "Redis does not answer."})


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("waits", "worker", "is_ready"), [(31, False, False), (31, True, True), (20, False, True)])
def test_a_queue_without_a_worker_is_named(waits, worker, is_ready):
    queue.wake("refills.tasks.follow_supplier", {"supplier": 1}, at=timezone.now() - timedelta(seconds=waits))
    if worker:
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now())")

    status, found = ask()

    assert status == (200 if is_ready else 503)
    assert ("No worker is alive, and the oldest job has waited for " in found["queue"]) is not is_ready


@pytest.fixture
def checks(monkeypatch):
    """Return the threads that have checked, and an event that lets them end."""
    check, threads, may_end = health.check, [], threading.Event()

    def counted():
        threads.append(threading.get_ident())
        may_end.wait(10)
        return check()

    monkeypatch.setattr(health, "check", counted)
    return threads, may_end


def test_many_requests_make_one_check_a_second(db, checks, monkeypatch):
    threads, may_end = checks
    may_end.set()
    monkeypatch.setattr(health, "KEPT_FOR", 60)

    with ThreadPoolExecutor(8) as pool:
        assert all(status == 200 for status, _ in pool.map(lambda _: ask(), range(40)))
    assert len(threads) == 1

    health.readiness._until = 0  # the minute is over
    ask()
    assert len(threads) == 2


def test_a_check_that_hangs_holds_one_thread(db, checks):
    threads, may_end = checks
    may_end.set()
    ask()
    health.readiness._until = 0
    may_end.clear()

    with ThreadPoolExecutor(8) as pool:
        hanging = pool.submit(ask)
        while len(threads) < 2:
            time.sleep(0.01)
        assert [ask()[0] for _ in range(20)] == [200] * 20
        may_end.set()
        assert hanging.result()[0] == 200
    assert len(threads) == 2


def test_a_change_leaves_one_line(server, caplog, monkeypatch):
    monkeypatch.setattr(health, "KEPT_FOR", 0)
    caplog.set_level(logging.INFO)
    port = server["PORT"]
    for now in ("1", "1", port, port):
        server["PORT"] = now
        ask()

    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "Not ready (database): The database cannot be reached.",
        f"Not ready (migrations): {health.NOT_CHECKED}",
        f"Not ready (queue): {health.NOT_CHECKED}",
        "Ready again (database).",
        "Ready again (migrations).",
        "Ready again (queue).",
    ]


@pytest.mark.django_db(transaction=True)
def test_the_site_is_ready_again_although_the_connection_of_the_thread_was_ended():
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [pid] = cursor.fetchone()
    other = connect()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    other.close()

    try:
        assert ask() == (200, READY)
    finally:
        connection.close()
        connection.close_pool()  # the pool does not know that its connection was ended
