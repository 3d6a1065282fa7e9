"""Safe by default, and documented: each case reads settings.py in a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BASE_DIR = Path(__file__).resolve().parent.parent.parent


def settings(expression, **environment):
    """Evaluate an expression with settings.py as ``s``. Returns what it prints, or the error."""
    # What .env of this machine says is kept out: an empty variable wins over it.
    names = re.findall(r"^(\w+)=", (BASE_DIR / ".env.example").read_text(), re.MULTILINE)
    clean = {name: value for name, value in os.environ.items() if name not in names}
    code = (
        "import environ; environ.Env.read_env = classmethod(lambda *a, **k: None)\n"
        f"import notpanel.settings as s; print({expression})"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=BASE_DIR, env=clean | environment, capture_output=True, text=True, check=False
    )
    return process.stdout.strip() or process.stderr.strip().splitlines()[-1]


def test_a_missing_secret_key_stops():
    assert "ImproperlyConfigured: SECRET_KEY is not set" in settings("s.SECRET_KEY")
    assert "ImproperlyConfigured: SECRET_KEY is not set" in settings("s.SECRET_KEY", SECRET_KEY="")


def test_without_any_other_setting_it_is_safe():
    assert settings("s.DEBUG, s.HTTPS, s.SESSION_COOKIE_SECURE, s.SECURE_SSL_REDIRECT", SECRET_KEY="x") == (
        "False True True True"
    )
    assert settings("s.SECURE_HSTS_SECONDS, s.ALLOWED_HOSTS, s.TRUSTED_PROXIES", SECRET_KEY="x") == (
        "31536000 ['localhost', '127.0.0.1', '[::1]'] []"
    )
    assert settings("hasattr(s, 'SECURE_PROXY_SSL_HEADER')", SECRET_KEY="x") == "False"


def test_the_database_has_its_time_limits():
    found = settings(
        "s.DATABASES['default']['OPTIONS']",
        SECRET_KEY="x",
        DATABASE_URL="postgresql://u:p@db:5433/n?sslmode=require",
        DATABASE_LOCK_TIMEOUT="70",
    )

    assert "'sslmode': 'require'" in found
    assert "-c lock_timeout=70 -c statement_timeout=10000" in found


def test_behind_pgbouncer_a_connection_keeps_nothing():
    found = settings(
        "[(d['DISABLE_SERVER_SIDE_CURSORS'], d['OPTIONS'].get('prepare_threshold'), d['OPTIONS'].get('options'))"
        " for d in s.DATABASES.values()]",
        SECRET_KEY="x",
        DATABASE_URL="postgresql://u:p@db/n",
        DATABASE_REPLICA_URL="postgresql://u:p@replica/n",
        DATABASE_PGBOUNCER="on",
    )

    assert found == "[(True, None, None), (True, None, None)]"


def test_a_replica_has_a_router_and_its_time_limits():
    found = settings(
        "s.DATABASE_ROUTERS, s.DATABASES['replica']['HOST'], s.DATABASES['replica']['OPTIONS']['options']",
        SECRET_KEY="x",
        DATABASE_URL="postgresql://u:p@db/n",
        DATABASE_REPLICA_URL="postgresql://u:p@replica/n",
    )

    assert found.startswith("['notpanel.kit.replica.Router'] replica -c lock_timeout=3000 -c statement_timeout=10000 ")


@pytest.mark.parametrize(
    ("environment", "workers"),
    [({}, "1"), ({"REDIS_URL": "redis://x"}, str(os.cpu_count())), ({"WEB_CONCURRENCY": "7"}, "7")],
)
def test_one_process_serves_unless_redis_counts_for_more(environment, workers):
    assert settings("s.WEB_CONCURRENCY", SECRET_KEY="x", **environment) == workers


def test_proxies_that_are_no_networks_stop():
    assert "ValueError: 'proxy'" in settings("s.TRUSTED_PROXIES", SECRET_KEY="x", TRUSTED_PROXIES="proxy")


def test_env_example_lists_every_setting_with_its_default():
    source = (BASE_DIR / "notpanel" / "settings.py").read_text()
    read = set(re.findall(r'(?:env\.\w+|positive)\("(\w+)"', source))
    listed = dict(re.findall(r"^(\w+)=(.*)$", (BASE_DIR / ".env.example").read_text(), re.MULTILINE))

    assert read == set(listed)
    names = (
        "DEBUG HTTPS REFILL_LIMIT RATE_LIMIT_IP RATE_LIMIT_KEY RATE_LIMIT_TIERS TRUSTED_PROXIES DATABASE_LOCK_TIMEOUT"
    )
    names += " DATABASE_STATEMENT_TIMEOUT DATABASE_POOL_SIZE REDIS_URL HOST PORT WEB_CONCURRENCY WEB_THREADS LOG_LEVEL"
    names += " SECURE_HSTS_SECONDS ALLOWED_HOSTS CSRF_TRUSTED_ORIGINS DATABASES REDIS_TIMEOUT DATABASE_CONNECT_TIMEOUT"
    names += " DATABASE_ROUTERS DATABASE_PGBOUNCER"
    everything = f"[getattr(s, name) for name in {names.split()!r}]"
    assert settings(everything, **listed | {"SECRET_KEY": "x"}) == settings(everything, SECRET_KEY="x")


def test_nothing_else_reads_the_environment():
    readers = {
        str(path.relative_to(BASE_DIR))
        for app in ("notpanel", "apikeys", "orders", "refills")
        for path in (BASE_DIR / app).rglob("*.py")
        if re.search(r"os\.environ(?!\.setdefault\(\"DJANGO_SETTINGS_MODULE)|os\.getenv|environ\.Env", path.read_text())
    }

    # The embedded server has to know before the settings are read whether it is wanted.
    assert readers == {"notpanel/settings.py", "notpanel/server/embedded.py"}


@pytest.mark.parametrize("name", ["RATE_LIMIT_KEY", "SLA_HOURS", "REFILL_LIMIT", "ATTEMPTS_PER_NAME"])
def test_a_figure_that_would_stop_everything_stops_the_start(name):
    assert f"ImproperlyConfigured: {name} is 0: it must be 1 at least." in settings("1", SECRET_KEY="x", **{name: "0"})


def test_mail_is_sent_by_smtp_if_the_environment_says_so():
    expression = "s.EMAIL_BACKEND.split('.')[-2], s.EMAIL_HOST, s.EMAIL_PORT, s.EMAIL_USE_TLS, s.EMAIL_HOST_USER"

    assert settings(expression, SECRET_KEY="x", EMAIL_URL="smtp+tls://us:pw@mail.example:587") == (
        "smtp mail.example 587 True us"
    )
    assert settings("s.EMAIL_BACKEND.split('.')[-2]", SECRET_KEY="x") == "console"
