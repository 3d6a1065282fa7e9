"""The settings are safe by default, checked when they are read, and described in .env.example."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from django.conf import settings as django_settings
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from notpanel import environment
from notpanel.environment import BadSetting
from tests.conftest import TIME_LIMIT

BASE_DIR = Path(__file__).resolve().parent.parent.parent
DEFAULTS = dict(re.findall(r"^(\w+)=(.*)$", (BASE_DIR / ".env.example").read_text(), re.MULTILINE))


@pytest.fixture
def read(monkeypatch, tmp_path):
    """Return a function that reads settings.py anew, with only ``values`` in the environment and in .env."""
    for name in DEFAULTS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(environment, "DOTENV", tmp_path / ".env")

    def read(**values):
        for name, value in ({"SECRET_KEY": "x"} | values).items():
            if value is not None:
                monkeypatch.setenv(name, value)
        return runpy.run_path(str(BASE_DIR / "notpanel" / "settings.py"))

    return read


def start(**values):
    """Run manage.py check. Returns its exit status and what it wrote to standard error."""
    process = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=BASE_DIR,
        env=os.environ | values,
        capture_output=True,
        text=True,
        check=False,
    )
    return process.returncode, process.stderr


@pytest.mark.parametrize("secret_key", [None, ""])
def test_a_missing_secret_key_stops_the_start(read, secret_key):
    with pytest.raises(BadSetting, match="SECRET_KEY is not set"):
        read(SECRET_KEY=secret_key)


def test_a_secret_key_is_taken_as_it_is_written(read):
    """Django's own generator writes keys that begin with $."""
    assert read(SECRET_KEY="$w0n-er")["SECRET_KEY"] == "$w0n-er"


def test_secret_key_fallbacks_are_taken_as_they_are_written(read):
    assert read()["SECRET_KEY_FALLBACKS"] == []
    assert read(SECRET_KEY_FALLBACKS="a$b(, $c#d")["SECRET_KEY_FALLBACKS"] == ["a$b(", "$c#d"]


def test_a_secret_key_is_not_needed_for_development(read):
    assert read(SECRET_KEY="", DEBUG="on")["SECRET_KEY"] == "development"


def test_the_defaults_are_safe(read):
    found = read()

    assert (found["DEBUG"], found["HTTPS"]) == (False, True)
    assert found["SESSION_COOKIE_SECURE"] is found["CSRF_COOKIE_SECURE"] is found["SECURE_SSL_REDIRECT"] is True
    assert (found["SECURE_HSTS_SECONDS"], found["SECURE_HSTS_PRELOAD"]) == (31_536_000, False)
    assert found["ALLOWED_HOSTS"] == ["localhost", "127.0.0.1", "[::1]"]
    assert (found["TRUSTED_PROXIES"], "SECURE_PROXY_SSL_HEADER" in found) == ([], False)
    assert (found["HOST"], found["PORT"]) == ("127.0.0.1", 8000)


@pytest.mark.parametrize(
    ("https", "asked", "subdomains"), [("on", "on", True), ("on", "off", False), ("off", "on", False)]
)
def test_subdomains_must_speak_tls_only_if_the_setting_says_so(read, https, asked, subdomains):
    found = read(HTTPS=https, HSTS_SUBDOMAINS=asked)

    assert found["SECURE_HSTS_INCLUDE_SUBDOMAINS"] is found["SECURE_HSTS_PRELOAD"] is subdomains


def test_without_tls_browsers_are_not_told_to_remember_tls(read):
    found = read(HTTPS="off")

    assert (found["SECURE_HSTS_SECONDS"], found["SECURE_HSTS_PRELOAD"], found["SESSION_COOKIE_SECURE"]) == (
        0,
        False,
        False,
    )


def test_the_database_has_its_time_limits(read):
    found = read(DATABASE_URL="postgresql://u:p@db:5433/n?sslmode=require", DATABASE_LOCK_TIMEOUT="70")

    options = found["DATABASES"]["default"]["OPTIONS"]
    assert options["sslmode"] == "require"
    assert options["options"].startswith("-c lock_timeout=70 -c statement_timeout=10000 ")


@pytest.mark.skipif(django_settings.DATABASE_PGBOUNCER, reason="PgBouncer's connections keep their limits")
def test_a_migration_may_take_longer_than_a_statement(db):
    with CaptureQueriesContext(connection) as queries:
        call_command("migrate", verbosity=0)

    statements = [query["sql"] for query in queries if "statement_timeout" in query["sql"]]
    assert (statements[0], statements[-1]) == ("SET statement_timeout = 0", "RESET statement_timeout")
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == (TIME_LIMIT,)


def test_behind_pgbouncer_connections_keep_no_cursor_plan_or_option(read):
    found = read(
        DATABASE_URL="postgresql://u:p@db/n",
        DATABASE_REPLICA_URL="postgresql://u:p@replica/n",
        DATABASE_PGBOUNCER="on",
    )

    for alias in ("default", "replica"):
        assert found["DATABASES"][alias]["DISABLE_SERVER_SIDE_CURSORS"] is True
        assert not {"prepare_threshold", "options"} & found["DATABASES"][alias]["OPTIONS"].keys()


def test_a_replica_has_a_router_and_its_time_limits(read):
    found = read(DATABASE_URL="postgresql://u:p@db/n", DATABASE_REPLICA_URL="postgresql://u:p@replica/n")

    replica = found["DATABASES"]["replica"]
    assert found["DATABASE_ROUTERS"] == ["notpanel.kit.replica.Router"]
    assert replica["HOST"] == "replica"
    assert replica["OPTIONS"]["options"].startswith("-c lock_timeout=3000 -c statement_timeout=10000 ")


@pytest.mark.parametrize(
    ("values", "workers"),
    [({}, 1), ({"REDIS_URL": "redis://x"}, os.cpu_count()), ({"WEB_CONCURRENCY": "7"}, 7)],
)
def test_one_process_serves_unless_there_is_a_redis(read, values, workers):
    assert read(**values)["WEB_CONCURRENCY"] == workers


def test_mail_is_sent_by_smtp_if_the_environment_says_so(read):
    assert read()["EMAIL_BACKEND"].split(".")[-2] == "console"

    found = read(EMAIL_URL="smtp+tls://us:pw@mail.example:587")

    names = ("EMAIL_BACKEND", "EMAIL_HOST", "EMAIL_PORT", "EMAIL_USE_TLS", "EMAIL_HOST_USER", "EMAIL_HOST_PASSWORD")
    assert [found[name] for name in names] == [
        "django.core.mail.backends.smtp.EmailBackend",
        "mail.example",
        587,
        True,
        "us",
        "pw",
    ]


def test_networks_and_origins_may_be_several(read):
    found = read(TRUSTED_PROXIES="10.0.0.0/8, 2001:db8::/32,1.2.3.4", CSRF_TRUSTED_ORIGINS="https://a.b,https://*.c.d")

    assert list(map(str, found["TRUSTED_PROXIES"])) == ["10.0.0.0/8", "2001:db8::/32", "1.2.3.4/32"]
    assert found["SECURE_PROXY_SSL_HEADER"] == ("HTTP_X_FORWARDED_PROTO", "https")
    assert found["CSRF_TRUSTED_ORIGINS"] == ["https://a.b", "https://*.c.d"]


# ---- Values that stop the start

SWITCHES = {"HSTS_SUBDOMAINS", "DEBUG", "HTTPS", "DATABASE_PGBOUNCER", "STAFF_TWO_FACTOR", "WEBHOOK_LOOPBACK", "WORKER"}
URLS = {"DATABASE_URL", "DATABASE_DIRECT_URL", "DATABASE_REPLICA_URL", "REDIS_URL", "EMAIL_URL", "WEBHOOK_PROXY"}
DAYS = {"DISPATCH_DAYS", "AUDIT_LOG_DAYS"}
WHOLE_NUMBERS = {name for name, default in DEFAULTS.items() if default.isdecimal()} - DAYS
MAY_BE_ZERO = {"HSTS_SECONDS", "WEB_CONCURRENCY", "WORKER_METRICS_PORT"}
UNSHOWN = {"SECRET_KEY", "SECRET_KEY_FALLBACKS", "ENCRYPTION_KEYS", "METRICS_TOKEN", "SENTRY_DSN"}


def test_wrong_values_of_every_setting_are_tested():
    assert SWITCHES | URLS | WHOLE_NUMBERS | DAYS | ALLOWED.keys() | UNSHOWN == set(DEFAULTS)


@pytest.mark.parametrize("name", sorted(SWITCHES))
@pytest.mark.parametrize("value", ["ture", "2", "-1", "enabled", "t"])
def test_a_switch_is_on_or_off(read, name, value):
    with pytest.raises(BadSetting, match=f"^{name} is “{value}”: it must be on or off.$"):
        read(**{name: value})


@pytest.mark.parametrize("value", ["on", "ON", "true", "yes", "y", "ok", "1", " on "])
def test_a_switch_accepts_the_words_for_on(read, value):
    assert read(HTTPS=value)["HTTPS"] is True


@pytest.mark.parametrize("value", ["off", "Off", "false", "no", "n", "0"])
def test_a_switch_accepts_the_words_for_off(read, value):
    assert read(HTTPS=value)["HTTPS"] is False


@pytest.mark.parametrize("name", sorted(WHOLE_NUMBERS))
@pytest.mark.parametrize("value", ["", "many", "1.5", "-1", "0", "99999999999"])
def test_a_number_must_be_whole_and_in_its_range(read, name, value):
    if value == "0" and name in MAY_BE_ZERO:
        read(**{name: value})
        return
    with pytest.raises(
        BadSetting, match=rf"^{name} is (empty|“{value}”): it must be a whole number from [01] to \d+.$"
    ):
        read(**{name: value})


@pytest.mark.parametrize("name", sorted(WHOLE_NUMBERS))
def test_a_number_is_accepted_at_its_limits(read, name):
    with pytest.raises(BadSetting) as refusal:
        read(**{name: "-1"})
    limits = re.search(r"from (\d+) to (\d+)", str(refusal.value)).groups()

    for limit in limits:
        read(**{name: limit})
    with pytest.raises(BadSetting):
        read(**{name: str(int(limits[1]) + 1)})


@pytest.mark.parametrize("wrong", ["short", "x" * 43, "x" * 44 + "="])
def test_a_wrong_encryption_key_is_named_by_its_place_and_never_shown(read, wrong):
    right = Fernet.generate_key().decode()

    with pytest.raises(BadSetting, match=r"^ENCRYPTION_KEYS: key 2 is not valid: each must be 32 random") as refusal:
        read(ENCRYPTION_KEYS=f"{right}, {wrong}")

    assert wrong not in str(refusal.value)
    assert read(ENCRYPTION_KEYS=f"{right}, ")["ENCRYPTION_KEYS"] == [right]


@pytest.mark.parametrize("token", ["x" * 31, "secret " * 8, "sécret" * 8])
def test_a_wrong_token_is_never_shown(read, token):
    with pytest.raises(BadSetting) as refusal:
        read(METRICS_TOKEN=token)

    assert str(refusal.value) == "METRICS_TOKEN must be empty, or at least 32 visible ASCII characters without spaces."
    assert read(METRICS_TOKEN="x" * 32)["METRICS_TOKEN"] == "x" * 32


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("proxy.example:3128", "does not begin with http://"),
        ("https://u:s3cret@proxy.example:3128", "does not begin with http://"),
        ("socks5://u:s3cret@proxy.example", "does not begin with http://"),
        ("http://:3128", "names no host"),
        ("http://u:s3cret@proxy.example:many", "has a port that is not a number"),
        ("http://u:s3cret@proxy.example:3128/path", "has a path"),
    ],
)
def test_a_wrong_proxy_is_reported_without_its_password(read, url, problem):
    with pytest.raises(BadSetting, match=f"^WEBHOOK_PROXY {problem}") as refusal:
        read(WEBHOOK_PROXY=url)

    assert "s3cret" not in str(refusal.value)


@pytest.mark.parametrize("url", ["", "http://proxy.example", "http://u:p%40ss@proxy.example:3128/"])
def test_a_proxy_is_accepted(read, url):
    assert read(WEBHOOK_PROXY=url)["WEBHOOK_PROXY"] == url


@pytest.mark.parametrize(
    "dsn",
    [
        *("on", "sentry.example/1", "ftp://public@sentry.example/1", "https://sentry.example/1", "https://public@/1"),
        *("https://public@sentry.example/", "https://public@sentry.example/x", "https://public@sentry.example:x/1"),
    ],
)
def test_a_dsn_that_cannot_be_read_stops_the_start_and_is_not_shown(read, dsn):
    with pytest.raises(BadSetting) as refusal:
        read(SENTRY_DSN=dsn)

    assert str(refusal.value) == "SENTRY_DSN cannot be read: it must look like https://key@host/project."


def test_there_are_65535_ports(read):
    with pytest.raises(BadSetting, match=r"^PORT is “65536”: it must be a whole number from 1 to 65535\.$"):
        read(PORT="65536")


ALLOWED = {
    "ALLOWED_HOSTS": "a host name without scheme, port or path, such as panel.example",
    "CSRF_TRUSTED_ORIGINS": "an origin without a path, such as https://panel.example",
    "EMAIL_FROM": "an address, such as desk@panel.example or Panel <desk@panel.example>",
    "HOST": "a host name or an address, such as 0.0.0.0 or [::1], without a port",
    "LOG_LEVEL": "CRITICAL, FATAL, ERROR, WARN, WARNING, INFO, DEBUG or NOTSET",
    "LOG_FORMAT": "auto, json or console",
    "REDIS_DOWN": "closed or open",
    "REDIS_TIMEOUT": "a number above 0, at most 2147483647",
    "TRUSTED_PROXIES": "a network, such as 10.0.0.0/8 or 2001:db8::/32, or an address",
}


@pytest.mark.parametrize("name", sorted(set(ALLOWED) - {"CSRF_TRUSTED_ORIGINS", "TRUSTED_PROXIES"}) + sorted(SWITCHES))
def test_an_empty_value_stops_the_start(read, name):
    with pytest.raises(BadSetting) as refusal:
        read(**{name: ""})

    assert str(refusal.value) == f"{name} is empty: it must be {ALLOWED.get(name, 'on or off')}."


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("REDIS_TIMEOUT", value) for value in ("0", "-1", "1s", "1,5", "nan", "inf")),
        *(("REDIS_DOWN", value) for value in ("off", "Open", "closed open")),
        *(("LOG_LEVEL", value) for value in ("info", "20", "VERBOSE")),
        *(("LOG_FORMAT", value) for value in ("JSON", "text", "on")),
        *(("HOST", value) for value in ("localhost:80", "::1", "http://localhost", "a b")),
        *(("EMAIL_FROM", value) for value in ("Panel", "Panel <panel>", "@")),
    ],
)
def test_a_value_that_is_not_allowed_stops_the_start(read, name, value):
    with pytest.raises(BadSetting) as refusal:
        read(**{name: value})

    assert str(refusal.value) == f"{name} is “{value}”: it must be {ALLOWED[name]}."


@pytest.mark.parametrize(
    ("name", "value", "wrong"),
    [
        ("ALLOWED_HOSTS", "localhost,https://a.b", "https://a.b"),
        ("ALLOWED_HOSTS", "a.b:8000", "a.b:8000"),
        ("ALLOWED_HOSTS", "localhost a.b", "localhost a.b"),
        ("CSRF_TRUSTED_ORIGINS", "a.b", "a.b"),
        ("CSRF_TRUSTED_ORIGINS", "https://a.b/, https://c.d", "https://a.b/"),
        ("TRUSTED_PROXIES", "10.0.0.0/8,proxy", "proxy"),
        ("TRUSTED_PROXIES", "10.0.0.1/8", "10.0.0.1/8"),
        ("TRUSTED_PROXIES", "10.0.0.0/33", "10.0.0.0/33"),
    ],
)
def test_an_item_that_is_not_allowed_stops_the_start(read, name, value, wrong):
    with pytest.raises(BadSetting) as refusal:
        read(**{name: value})

    assert str(refusal.value) == f"{name} names “{wrong}”: it must be {ALLOWED[name]}."


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALLOWED_HOSTS", "*"),
        ("ALLOWED_HOSTS", ".panel.example, panel_2.internal,[::1]"),
        ("HOST", "0.0.0.0"),
        ("HOST", "[::1]"),
        ("HOST", "panel.internal"),
        ("EMAIL_FROM", "NotPanel <desk@panel.example>"),
        ("LOG_LEVEL", "WARNING"),
        ("LOG_FORMAT", "console"),
        ("SENTRY_DSN", "https://public@o1.ingest.sentry.example:9000/path/42"),
        ("REDIS_DOWN", "open"),
        ("REDIS_TIMEOUT", "0.25"),
        ("DATABASE_URL", "postgres://u:p%2Fw@db/n"),
        ("DATABASE_URL", "postgresql://postgres:@/n?host=/var/run/postgresql"),
        ("DATABASE_URL", "postgresql:////var/run/postgresql/n"),
        ("DATABASE_URL", "postgresql://u:p@one:5432,two:5432/n?target_session_attrs=read-write"),
        ("DATABASE_DIRECT_URL", "postgresql://u:p@one,two/n?target_session_attrs=primary"),
        ("DATABASE_REPLICA_URL", "postgresql://u:p@one,two/n?target_session_attrs=prefer-standby"),
        ("DATABASE_URL", "postgresql://u:p@[2001:db8::1]:5432/n"),
        ("REDIS_URL", "rediss://:p%2Cw@cache.internal:6380/1?ssl_cert_reqs=none"),
        ("REDIS_URL", "redis://cache"),
        ("REDIS_URL", "unix:///run/redis.sock?db=1"),
        ("EMAIL_URL", "smtp://mail"),
        ("EMAIL_URL", "smtp+ssl://u@x.y:p%2Fw@mail.example:465"),
        ("EMAIL_URL", "filemail:////tmp/mail"),
    ],
)
def test_an_allowed_value_does_not_stop_the_start(read, name, value):
    read(**{name: value})


@pytest.mark.parametrize(
    ("hosts", "host", "port"),
    [
        ("one:5433,two:5434", "one,two", "5433,5434"),
        ("one,two:5434", "one,two", "5432,5434"),
        ("one,two", "one,two", "5432,5432"),
        ("[2001:db8::1]:5433,[2001:db8::2]", "2001:db8::1,2001:db8::2", "5433,5432"),
    ],
)
@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "pgsql"])
def test_a_database_may_have_several_hosts(read, scheme, hosts, host, port):
    """Each keeps its own port, and its share of the time in which a connection is made."""
    found = read(DATABASE_URL=f"{scheme}://u:p%2Fw@{hosts}/n?target_session_attrs=read-write")

    database = found["DATABASES"]["default"]
    assert (database["HOST"], database["PORT"], database["PASSWORD"]) == (host, port, "p/w")
    assert database["OPTIONS"]["target_session_attrs"] == "read-write"
    assert (database["OPTIONS"]["connect_timeout"], database["OPTIONS"]["pool"]["timeout"]) == (2, 5)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("postgresql://u@/n?host=/var/run/postgresql", "/var/run/postgresql", ""),
        ("postgresql://u@/n?host=%2Fvar%2Frun%2Fpostgresql&port=5433", "/var/run/postgresql", "5433"),
        ("postgresql://u@db:5433/n?host=other", "other", "5433"),
        ("postgresql://u@/n?host=one&host=two", "two", ""),
        ("postgresql://u@/n?host=one,two&port=5433,5434&target_session_attrs=primary", "one,two", "5433,5434"),
        ("postgresql://u@/n?host=one,two&port=5433&target_session_attrs=primary", "one,two", "5433,5433"),
        ("postgresql://u@/n?host=one,two&target_session_attrs=primary", "one,two", "5432,5432"),
    ],
)
def test_a_database_url_may_name_its_hosts_and_ports_as_parameters(read, url, host, port):
    database = read(DATABASE_URL=url)["DATABASES"]["default"]

    assert (database["HOST"], str(database["PORT"])) == (host, port)
    assert not {"host", "port"} & database["OPTIONS"].keys()
    assert database["OPTIONS"]["connect_timeout"] == (2 if "," in host else 5)


def test_a_machine_that_vanished_is_noticed(read):
    options = read(DATABASE_URL="postgresql://u:p@db/n?tcp_user_timeout=700")["DATABASES"]["default"]["OPTIONS"]

    assert options["tcp_user_timeout"] == 700
    assert options["keepalives_idle"] + options["keepalives_interval"] * options["keepalives_count"] == 10


@pytest.mark.parametrize(
    ("name", "query", "problem"),
    [
        ("DATABASE_URL", "", "names several hosts without target_session_attrs"),
        ("DATABASE_REPLICA_URL", "?sslmode=require", "names several hosts without target_session_attrs"),
        ("DATABASE_URL", "?port=5432,5433,5434", "names more or fewer ports than hosts"),
        ("DATABASE_URL", "?target_session_attrs=any", "has a target_session_attrs that is not read-write or primary"),
        ("DATABASE_DIRECT_URL", "?target_session_attrs=standby", "has a target_session_attrs that is not read-write"),
        ("DATABASE_REPLICA_URL", "?target_session_attrs=read-write", "has a target_session_attrs that is not prefer-"),
    ],
)
def test_a_url_of_several_hosts_must_say_which_one_is_meant(read, name, query, problem):
    with pytest.raises(BadSetting) as refusal:
        read(**{name: f"postgresql://u:s3cret@one,two/n{query}"})

    example = "prefer-standby" if name == "DATABASE_REPLICA_URL" else "read-write"
    assert str(refusal.value).startswith(f"{name} {problem}")
    assert str(refusal.value).endswith(
        f": it must look like postgresql://user:password@one:5432,two:5432/name?target_session_attrs={example}."
    )


DATABASE_PROBLEMS = [
    ("u:s3cret@db/n", "does not begin with postgresql://"),
    ("localhost/np", "does not begin with postgresql://"),
    ("//u:s3cret@db/n", "does not begin with postgresql://"),
    ("mysql://u:s3cret@db/n", "does not begin with postgresql://"),
    ("postgresql://u:s3cret@/n", "names no host"),
    ("postgresql:///n", "names no host"),
    ("postgresql://u:s3cret@db", "names no database"),
    ("postgresql://u:s3cret@db/", "names no database"),
    ("postgresql://u:s3cret@db:many/n", "has a port that is not a number"),
    ("postgresql://u:s3cret@db:65536/n", "has a port that is not a number"),
    ("postgresql://u:s3cret/more@db/n", "has a port that is not a number, or a password with / ? or #"),
    ("postgresql://u:s3cret@one:5432,two:many/n", "has a port that is not a number"),
    ("postgresql://u:s3cret@one:5432,two:65536/n", "has a port that is not a number"),
    ("postgresql://u:s3cret@/n?host=db&port=many", "has a port that is not a number"),
]
REDIS_PROBLEMS = [
    ("cache:6379", "does not begin with redis://"),
    ("http://:s3cret@cache", "does not begin with redis://"),
    ("redis:///0", "names no host"),
    ("redis://:s3cret@", "names no host"),
    ("unix://", "names no host"),
    ("redis://:s3cret@cache:many", "has a port that is not a number"),
    ("redis://:s3cret/more@cache:6379/0", "has a port that is not a number, or a password with / ? or #"),
    ("redis://:s3cret@cache/one", "names a database that is not a number"),
    ("redis://:s3cret,more@cache/1", "has a “,” or “;”"),
]
MAIL_PROBLEMS = [
    ("", "does not begin with smtp://"),
    ("mail.example", "does not begin with smtp://"),
    ("http://u:s3cret@mail.example", "does not begin with smtp://"),
    ("smtp://", "names no host"),
    ("smtp+tls://u:s3cret@:587", "names no host"),
    ("smtp+tls://u:s3cret@mail.example:many", "has a port that is not a number"),
    ("smtp+tls://u:s3cret/more@mail.example:587", "has a port that is not a number, or a password with / ? or #"),
]


@pytest.mark.parametrize(
    ("name", "url", "problem"),
    [
        *(("DATABASE_URL", *problem) for problem in DATABASE_PROBLEMS),
        *(("DATABASE_REPLICA_URL", *problem) for problem in DATABASE_PROBLEMS),
        *(("REDIS_URL", *problem) for problem in REDIS_PROBLEMS),
        *(("EMAIL_URL", *problem) for problem in MAIL_PROBLEMS),
    ],
)
def test_a_bad_url_stops_the_start_and_is_not_shown(read, name, url, problem, recwarn):
    with pytest.raises(BadSetting) as refusal:
        read(**{name: url})

    example = {"REDIS_URL": "redis://host:6379/0", "EMAIL_URL": "smtp+tls://user:password@host:587"}
    assert str(refusal.value).startswith(f"{name} {problem}")
    assert str(refusal.value).endswith(
        f": it must look like {example.get(name, 'postgresql://user:password@host:5432/name')}."
    )
    assert "s3cret" not in str(refusal.value)
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None
    assert not recwarn.list


def test_a_setting_may_name_another_variable(read, monkeypatch):
    monkeypatch.setenv("TLS", "off")

    assert read(HTTPS="$TLS")["HTTPS"] is False
    with pytest.raises(BadSetting, match=r"HTTPS is “\$NO_SUCH_VARIABLE”: it must be on or off"):
        read(HTTPS="$NO_SUCH_VARIABLE")


# ---- .env and .env.example


def test_the_environment_wins_over_dotenv(read):
    environment.DOTENV.write_text("# comment\n\nSLA_HOURS=7\nexport CLAIM_MINUTES=8\nREFILL_LIMIT=9\n")

    found = read(REFILL_LIMIT="2")

    assert (found["SLA_HOURS"], found["CLAIM_MINUTES"], found["REFILL_LIMIT"]) == (7, 8, 2)


@pytest.mark.parametrize("line", ["HTTPS = off", "SECRET_KEY: s3cret", "off", " HTTPS=off"])
def test_a_malformed_line_of_dotenv_stops_the_start(read, line):
    environment.DOTENV.write_text(f"SLA_HOURS=7\n{line}\n")

    with pytest.raises(BadSetting) as refusal:
        read()

    assert str(refusal.value) == "Line 2 of .env is neither NAME=value, without spaces around =, nor a comment."


def test_an_unreadable_dotenv_counts_as_missing(read):
    environment.DOTENV.mkdir()

    assert read()["SLA_HOURS"] == 24


def test_env_example_is_what_the_settings_declare(read):
    assert (BASE_DIR / ".env.example").read_text() == read()["env"].example(), "run make env-example"


def test_env_example_can_be_copied_whole(read):
    unset, copied = read(), read(**DEFAULTS | {"SECRET_KEY": "x"})

    names = {name for name in unset if name.isupper()} - {"UNFOLD"}  # it holds lambdas, which are never equal
    assert {name: copied[name] for name in names} == {name: unset[name] for name in names}


def test_only_one_module_reads_the_environment():
    readers = {
        str(path.relative_to(BASE_DIR))
        for app in ("notpanel", "apikeys", "orders", "refills")
        for path in (BASE_DIR / app).rglob("*.py")
        if re.search(r"os\.environ(?!\.setdefault\(\"DJANGO_SETTINGS_MODULE)|os\.getenv|environ\.Env", path.read_text())
    }

    assert readers == {"notpanel/environment.py"}


# ---- A real start


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("HTTPS", "ture", "HTTPS is “ture”: it must be on or off.\n"),
        ("SECRET_KEY", "", "SECRET_KEY is not set. `make .env` writes a .env with a random one.\n"),
        (
            "DATABASE_URL",
            "localhost/np",
            "DATABASE_URL does not begin with postgresql://: it must look like postgresql://user:password@host:5432/name.\n",
        ),
        ("EMAIL_FROM", "Panel", f"EMAIL_FROM is “Panel”: it must be {ALLOWED['EMAIL_FROM']}.\n"),
        (
            "RATE_LIMIT_KEY",
            "100",
            (
                "RATE_LIMIT_KEY is no longer a setting: set RATE_LIMIT_KEY_STANDARD, RATE_LIMIT_KEY_RESELLER and "
                "RATE_LIMIT_KEY_AGENCY instead, and remove it.\n"
            ),
        ),
    ],
)
def test_manage_py_ends_with_one_sentence(name, value, message):
    assert start(**{name: value}) == (1, message)


def test_a_pool_soon_leaves_it_to_requests_to_connect(read):
    """By default it tries for five minutes, and waits twice as long before each attempt."""
    databases = read(DATABASE_URL="postgresql://u@h/x", DATABASE_CONNECT_TIMEOUT="7")["DATABASES"]

    pool = databases["default"]["OPTIONS"]["pool"]
    assert pool["timeout"] == 7
    assert pool["reconnect_timeout"] == 2


@pytest.mark.parametrize("name", sorted(DAYS))
@pytest.mark.parametrize("value", ["29", "36501", "-1", "", "30.5", "forever"])
def test_the_time_for_which_something_is_kept_is_checked(read, name, value):
    with pytest.raises(BadSetting, match=f"^{name} is .*: it must be 0, for ever, or a whole number from 30 to 36500"):
        read(**{name: value})


@pytest.mark.parametrize("value", [0, 30, 36_500])
def test_the_time_for_which_something_is_kept_is_accepted(read, value):
    assert read(AUDIT_LOG_DAYS=str(value))["AUDIT_LOG_DAYS"] == value


def test_jobs_that_failed_are_kept_for_a_day_at_least(read):
    with pytest.raises(BadSetting, match=r"^FAILED_JOB_DAYS is “0”: it must be a whole number from 1 to 10000\.$"):
        read(FAILED_JOB_DAYS="0")
