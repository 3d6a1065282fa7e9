"""The doctor finds each planted fault, reveals no secret, and goes on whatever is down."""

import io
import ipaddress
import socketserver
import threading
from datetime import timedelta

import pytest
import redis
from cryptography.fernet import Fernet
from django.core import mail
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from apikeys.webhooks.models import WebhookEndpoint
from notpanel.doctor import database, surroundings
from notpanel.doctor.diagnosis import diagnose
from notpanel.health import NOT_CHECKED
from notpanel.kit import queue, replica, secrets
from notpanel.server import embedded
from orders.models import Supplier
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "aSecretThatNobodyMaySee-" * 3
LATER = "pg_catalog.clock_timestamp() + interval '1 hour'"


def connect_as_outside_of_tests(wrapper):
    """Connect, which Django forbids in tests except for the databases that were in the settings when they began."""
    if wrapper.connection is None:
        with wrapper.wrap_database_errors:
            wrapper.connect()


def run_sql(*statements):
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@pytest.fixture
def role():
    """Return the name of a role that is not a superuser and has the rights of the database's owner."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        if not cursor.fetchone()[0]:
            pytest.skip("the role of DATABASE_URL is no superuser, and cannot make roles")
    name = f"doctor_of_{connection.settings_dict['NAME']}"
    run_sql(
        f'CREATE ROLE "{name}"',
        f'GRANT CREATE, USAGE ON SCHEMA public TO "{name}"',
        f'GRANT ALL ON ALL TABLES IN SCHEMA public TO "{name}"',
    )
    yield name
    run_sql(f'DROP OWNED BY "{name}"', f'DROP ROLE "{name}"')


@pytest.fixture
def connect_with():
    """Return a function that adds options to new connections to the database."""
    server = connections["default"].settings_dict
    before = server["PORT"], server["OPTIONS"]
    server["OPTIONS"] = dict(server["OPTIONS"])

    def add(**options):
        server["OPTIONS"]["options"] += "".join(f" -c {name}={value}" for name, value in options.items())

    yield add
    server["PORT"], server["OPTIONS"] = before


@pytest.fixture
def healthy(settings, monkeypatch, tmp_path, role, connect_with):
    """An installation in which nothing is wrong. Returns its settings."""
    settings.SECRET_KEY = SECRET
    settings.DEBUG, settings.HTTPS = False, True
    settings.ALLOWED_HOSTS = ["panel.example"]
    settings.TRUSTED_PROXIES = [ipaddress.ip_network("10.0.0.0/8")]
    settings.WEB_CONCURRENCY, settings.DATABASE_POOL_SIZE, settings.WORKER_CONCURRENCY = 1, 10, 8
    settings.REDIS_URL = ""
    settings.DEFAULT_FROM_EMAIL = "Desk <desk@panel.example>"
    settings.STATIC_ROOT = tmp_path
    (tmp_path / "staticfiles.json").write_text("{}")
    monkeypatch.setattr(database, "is_embedded", lambda host: False)
    monkeypatch.setattr(surroundings, "LEAST_FREE", 0)
    connect_with(role=role, idle_in_transaction_session_timeout="5min", idle_session_timeout="0")
    run_sql("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() + interval '1 hour')")
    return settings


@pytest.fixture
def function():
    """Return a function that makes the database answer something else when it is asked for ``name``."""
    made = []

    def make(name, kind, value):
        run_sql(f"CREATE FUNCTION public.{name}() RETURNS {kind} LANGUAGE sql AS $$ SELECT {value} $$")
        made.append(name)

    yield make
    for name in made:
        run_sql(f"DROP FUNCTION public.{name}()")


def wrong():
    """Return the problems of each check that has found some."""
    return {finding.name: " ".join(finding.problems) for finding in diagnose() if finding.problems}


def test_nothing_is_wrong(healthy):
    out = io.StringIO()

    call_command("doctor", stdout=out)

    lines = out.getvalue().splitlines()
    assert len(lines) == 22
    assert all(line.startswith("ok     ") for line in lines)


def test_problems_are_printed_with_status_1_and_without_secrets(healthy, connect_with):
    healthy.DEBUG = True
    healthy.REDIS_URL = f"redis://:{SECRET}@127.0.0.1:1/0"
    healthy.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    healthy.EMAIL_HOST, healthy.EMAIL_PORT = "127.0.0.1", 1
    healthy.EMAIL_HOST_USER, healthy.EMAIL_HOST_PASSWORD = "desk", SECRET
    factories.Supplier(encrypted_key=SECRET)
    out = io.StringIO()

    with pytest.raises(CommandError, match=r"4 of 22 checks found something wrong\.") as error:
        call_command("doctor", stdout=out)

    assert error.value.returncode == 1
    assert "wrong  debug: DEBUG is on: error pages show the source and the settings. Set DEBUG=off." in out.getvalue()
    assert SECRET not in out.getvalue() + str(error.value)


def test_the_doctor_goes_on_without_a_database(healthy):
    connections["default"].settings_dict["PORT"] = "1"
    healthy.DEBUG = True

    findings = {finding.name: finding for finding in diagnose()}

    assert [name for name, finding in findings.items() if finding.problems] == ["debug", "reach"]
    assert "The database of DATABASE_URL cannot be used: " in findings["reach"].problems[0]
    not_made = [name for name, finding in findings.items() if not finding.was_made]
    assert not_made == [check.name for check in database.CHECKS]
    assert {findings[name].is_right for name in not_made} == {NOT_CHECKED}


@pytest.mark.parametrize(
    ("check", "planted", "problem"),
    [
        ("debug", {"DEBUG": True, "ALLOWED_HOSTS": ["*", "a"]}, "DEBUG is on and ALLOWED_HOSTS is *"),
        ("secret_key", {"SECRET_KEY": "x" * 49}, "SECRET_KEY has 49 characters"),
        ("secret_key", {"SECRET_KEY_FALLBACKS": ["x" * 50, "x" * 9]}, "SECRET_KEY_FALLBACKS: key 2 has 9 characters"),
        ("hosts", {"ALLOWED_HOSTS": ["*"]}, "ALLOWED_HOSTS is *"),
        ("hosts", {"ALLOWED_HOSTS": ["localhost", "[::1]"]}, "all other names get 421"),
        ("hosts", {"HTTPS": False}, "HTTPS is off"),
        ("proxies", {"TRUSTED_PROXIES": []}, "TRUSTED_PROXIES is empty"),
        ("proxies", {"TRUSTED_PROXIES": [ipaddress.ip_network("::/0")]}, "every client can claim any address"),
        ("counters", {"WEB_CONCURRENCY": 2}, "WEB_CONCURRENCY is 2, but REDIS_URL is not set"),
        ("listening", {"DATABASE_PGBOUNCER": True, "WORKER": True}, "a worker cannot listen through PgBouncer"),
        ("connections", {"DATABASE_POOL_SIZE": 100_000, "WORKER": False}, "This server may open 100000 connections"),
        ("connections", {"WORKER_CONCURRENCY": 100_000, "WORKER": True}, "This server may open 100014 connections"),
        ("mail", {"EMAIL_BACKEND": "django.core.mail.backends.console.EmailBackend"}, "EMAIL_URL is not set"),
        ("mail", {"DEFAULT_FROM_EMAIL": "Desk <a@localhost>"}, "EMAIL_FROM is an address of localhost"),
        ("redis", {"REDIS_URL": "redis://127.0.0.1:1/0"}, "Redis does not answer. Check REDIS_URL"),
    ],
)
def test_settings(healthy, check, planted, problem):
    for name, value in planted.items():
        setattr(healthy, name, value)

    assert problem in wrong()[check]


def test_https_may_be_off_on_this_machine_and_pgbouncer_without_a_worker(healthy):
    healthy.HTTPS, healthy.ALLOWED_HOSTS, healthy.TRUSTED_PROXIES = False, ["localhost"], []
    healthy.DATABASE_PGBOUNCER, healthy.WORKER = True, False

    assert wrong() == {}


def test_static_files_that_are_missing(healthy):
    (healthy.STATIC_ROOT / "staticfiles.json").unlink()

    assert "run `manage.py collectstatic --noinput`" in wrong()["static_files"]


def test_disks_without_room(healthy, monkeypatch):
    monkeypatch.setattr(surroundings, "LEAST_FREE", 1 << 62)
    healthy.STATIC_ROOT = healthy.STATIC_ROOT / "not" / "made"

    assert "make room" in wrong()["disk"]
    assert f"The disk of {healthy.STATIC_ROOT.parent.parent} has only" in wrong()["disk"]


def test_a_disk_of_the_database_without_room(healthy, monkeypatch, role, tmp_path):
    monkeypatch.setattr(surroundings, "LEAST_FREE", 1 << 62)
    assert "database_disk" not in wrong()  # the role may not know where it is

    monkeypatch.setattr(database, "_rows", lambda *args: [(str(tmp_path),)])
    assert "make room" in " ".join(database._disk(connection))


class TestDatabase:
    def test_an_old_server(self, healthy, monkeypatch):
        monkeypatch.setattr(database, "OLDEST", 1000)

        assert "NotPanel needs 1000 or newer" in wrong()["database"]

    def test_the_private_server(self, healthy, monkeypatch):
        directory = connections["default"].settings_dict["HOST"]
        monkeypatch.setattr(embedded, "_socket_directory", lambda home: directory)
        monkeypatch.setattr(database, "is_embedded", embedded.is_embedded)

        assert "for trying things out" in wrong()["database"]

    def test_a_server_that_takes_no_writes(self, healthy, connect_with):
        connect_with(default_transaction_read_only="on")

        assert "takes no writes" in wrong()["database"]

    def test_a_superuser(self, healthy, connect_with):
        connect_with(role="none")

        assert "is a superuser of PostgreSQL, which NotPanel does not need" in wrong()["role"]

    def test_a_role_without_rights(self, healthy, role):
        name = connection.settings_dict["NAME"]
        run_sql(
            f'REVOKE CREATE ON SCHEMA public FROM "{role}"',
            f'REVOKE TEMPORARY ON DATABASE "{name}" FROM PUBLIC',
            f'REVOKE DELETE ON refills_note FROM "{role}"',
        )
        try:
            problem = wrong()["role"]
        finally:
            run_sql(f'GRANT TEMPORARY ON DATABASE "{name}" TO PUBLIC')

        assert "may not create tables, so `migrate` fails" in problem
        assert "may not create temporary tables, so `importorders` fails" in problem
        assert f"The role {role} may not read and write the tables refills_note." in problem

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("lock_timeout", "0"),
            ("statement_timeout", "0"),
            ("idle_in_transaction_session_timeout", "0"),
            ("idle_session_timeout", "5s"),
        ],
    )
    def test_a_time_limit(self, healthy, connect_with, name, value):
        connect_with(**{name: value})

        assert name in wrong()["time_limits"]

    def test_a_missing_migration(self, healthy):
        recorder = MigrationRecorder(connection)
        recorder.record_unapplied("refills", "0001_initial")
        try:
            assert wrong()["migrations"] == "The database lacks 1 of the migrations: run `manage.py migrate`."
        finally:
            recorder.record_applied("refills", "0001_initial")

    def test_clocks_that_differ(self, healthy, connect_with, function):
        function("clock_timestamp", "timestamptz", LATER)
        connect_with(search_path="public,pg_catalog")

        assert "differ by 3600 seconds" in wrong()["clock"]

    def test_no_worker(self, healthy):
        run_sql("DELETE FROM procrastinate_workers")
        assert "No worker is alive: start" in wrong()["queue"]

        queue.wake("refills.tasks.follow_supplier", {"supplier": 1}, at=timezone.now() - timedelta(minutes=9))
        assert "the oldest job has waited for 9 min: start" in wrong()["queue"]

    def test_a_queue_that_is_behind(self, healthy):
        queue.wake("refills.tasks.follow_supplier", {"supplier": 1}, at=timezone.now() - timedelta(minutes=9))

        assert "The oldest job has waited for 9 min" in wrong()["queue"]

    def test_jobs_that_failed(self, healthy):
        queue.wake("refills.tasks.follow_supplier", {"supplier": 1})
        run_sql("UPDATE procrastinate_jobs SET status = 'failed'")

        assert "Jobs have failed (1)" in wrong()["queue"]

    def test_secrets_that_no_key_decrypts(self, healthy, customers):
        other = Fernet(Fernet.generate_key()).encrypt(b"-").decode()
        factories.Supplier(name="Fast")
        endpoint = WebhookEndpoint.objects.create(
            account=customers().account, url="https://shop.example", events=["refill.requested"], encrypted_secret=other
        )
        Supplier.objects.update(encrypted_key=other)

        assert "cannot decrypt the key of supplier Fast" in wrong()["secrets"]
        assert f"cannot decrypt a secret of webhook {endpoint.pk}" in wrong()["secrets"]

    def test_secrets_that_need_an_older_key(self, healthy):
        factories.Supplier(encrypted_key=secrets.encrypt("their-key"))
        healthy.SECRET_KEY, healthy.SECRET_KEY_FALLBACKS = "y" * 50, [healthy.SECRET_KEY]

        assert "Older keys are still needed to decrypt 1 of the stored secrets: run" in wrong()["secrets"]
        call_command("encryptkeysanew", stdout=io.StringIO())
        assert "secrets" not in wrong()

    def test_a_check_that_fails_leaves_the_others(self, healthy, connect_with):
        connect_with(search_path="nowhere")

        found = wrong()

        assert 'relation "procrastinate_jobs" does not exist' in found["queue"]
        assert "database" not in found


class TestFailover:
    @pytest.fixture
    def hosts(self, connect_with):
        """Return a function that lets the URL name the database's own host twice, with these ports."""
        server = connections["default"].settings_dict
        host, port = server["HOST"], server["PORT"]

        def name_twice(*ports):
            server["HOST"], server["PORT"] = f"{host},{host}", ",".join(str(one or port or 5432) for one in ports)
            server["OPTIONS"]["target_session_attrs"] = "read-write"

        yield name_twice
        server["HOST"] = host

    def test_a_host_that_could_not_take_over(self, healthy, hosts):
        hosts(None, "1")

        assert ":1 could not take over. The database of DATABASE_URL cannot be used: " in wrong()["failover"]

    def test_two_hosts_that_take_writes(self, healthy, hosts):
        hosts(None, None)

        assert "both take writes" in wrong()["failover"]

    def test_a_host_that_stands_by(self, healthy, hosts, monkeypatch):
        answers = iter(["", "", "The database takes no writes."])
        monkeypatch.setattr(database, "problem_of_database", lambda connection: next(answers))
        hosts(None, None)

        assert wrong() == {}


class TestReplica:
    @pytest.fixture
    def add(self, healthy, role, monkeypatch):
        """Return a function that adds a replica that is reached with the given options."""
        monkeypatch.setattr(BaseDatabaseWrapper, "ensure_connection", connect_as_outside_of_tests)

        def add(path="public", **changes):
            server = connection.settings_dict
            options = {name: value for name, value in server["OPTIONS"].items() if name != "pool"}
            options["options"] += f" -c search_path={path} -c role={role}"
            connections.settings[replica.ALIAS] = server | {"OPTIONS": options} | changes

        yield add
        del connections.settings[replica.ALIAS]
        if hasattr(connections._connections, replica.ALIAS):
            del connections[replica.ALIAS]

    @pytest.fixture
    def standby(self, add, function, monkeypatch):
        """Return a function that adds a replica that has replayed up to a position."""
        monkeypatch.setattr(database, "PATIENCE", 0.2)

        def stand_by(position):
            function("pg_is_in_recovery", "boolean", "true")
            function("pg_last_wal_replay_lsn", "pg_lsn", position)
            add("public,pg_catalog")

        return stand_by

    def test_a_replica_that_cannot_be_reached(self, add):
        add(PORT="1")

        assert "The database of DATABASE_REPLICA_URL cannot be used" in wrong()["replica"]

    def test_a_replica_that_was_promoted(self, add):
        add()

        assert "does not lead to a standby" in wrong()["replica"]

    def test_a_replica_that_follows(self, standby):
        standby("pg_catalog.pg_current_wal_lsn()")

        assert wrong() == {}

    def test_a_replica_that_lags(self, standby):
        standby("'0/0'::pg_lsn")

        assert "has not replayed within" in wrong()["replica"]

    def test_a_replica_that_may_not_be_read(self, standby, role):
        standby("pg_catalog.pg_current_wal_lsn()")
        run_sql(f'REVOKE SELECT ON orders_order FROM "{role}"')

        assert f"On the replica the role {role} may not read the tables orders_order." in wrong()["replica"]


class MailServer(socketserver.ThreadingTCPServer):
    """Answers what it is told to; everything else is accepted."""

    daemon_threads = True

    def __init__(self, answers):
        self.answers = {"EHLO": "250-here\r\n250 AUTH PLAIN", "DATA": "354 go on"} | answers
        super().__init__(("127.0.0.1", 0), _MailHandler)


class _MailHandler(socketserver.StreamRequestHandler):
    def handle(self):
        self._say("220 here")
        for line in self.rfile:
            self._say(self.server.answers.get(line.split()[0].decode().upper(), "250 yes"))

    def _say(self, text):
        self.wfile.write(f"{text}\r\n".encode())


class TestMail:
    @pytest.mark.parametrize(
        ("answers", "problem"),
        [
            ({"AUTH": "535 no"}, "refuses the user or the password of EMAIL_URL"),
            ({"AUTH": "235 yes", "MAIL": "550 no"}, "refuses EMAIL_FROM as a sender"),
            ({"AUTH": "235 yes", "RCPT": "550 no"}, "takes no mail to me@shop.example"),
            ({"EHLO": "421 no", "HELO": "421 no"}, "does not take mail from us (SMTP"),
        ],
    )
    def test_a_mail_that_is_refused(self, healthy, answers, problem):
        healthy.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        healthy.EMAIL_HOST_USER, healthy.EMAIL_HOST_PASSWORD = "desk", SECRET
        with MailServer(answers) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            healthy.EMAIL_HOST, healthy.EMAIL_PORT = server.server_address
            out = io.StringIO()
            with pytest.raises(CommandError):
                call_command("doctor", "--mail-to", "me@shop.example", stdout=out)
            server.shutdown()

        assert problem in out.getvalue()

    def test_a_server_that_cannot_be_reached(self, healthy):
        healthy.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        healthy.EMAIL_HOST, healthy.EMAIL_PORT = "127.0.0.1", 1

        assert "does not take mail from us (Connection refused)" in wrong()["mail"]

    def test_a_mail_is_sent_only_on_request(self, healthy):
        call_command("doctor", stdout=io.StringIO())
        assert mail.outbox == []

        call_command("doctor", "--mail-to", "me@shop.example", stdout=io.StringIO())
        assert [message.to for message in mail.outbox] == [["me@shop.example"]]

    def test_an_invalid_address(self, healthy):
        with pytest.raises(CommandError, match="“me” is not an e-mail address"):
            call_command("doctor", "--mail-to", "me")


@pytest.mark.parametrize(
    ("planted", "problem"),
    [
        (
            {"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"},
            "evicts keys when its memory is full (allkeys-lru)",
        ),
        ({"min-replicas-to-write": "1"}, "Redis refuses to write (NOREPLICAS"),
    ],
)
def test_redis(healthy, redis_url, planted, problem):
    healthy.REDIS_URL = redis_url
    assert wrong() == {}
    with redis.Redis.from_url(redis_url) as client:
        before = {name: client.config_get(name)[name] for name in planted}
        try:
            for name, value in planted.items():
                client.config_set(name, value)
            assert problem in wrong()["redis"]
        finally:
            for name, value in before.items():
                client.config_set(name, value)
