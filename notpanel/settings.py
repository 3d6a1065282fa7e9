"""The settings of NotPanel. Each is an environment variable, or a line in .env, with a safe default.

notpanel/environment.py checks them. `make env-example` writes .env.example, which lists them all, from this file.
"""

import os
import sys
from pathlib import Path
from typing import Any

from django.templatetags.static import static
from django.urls import reverse_lazy

from notpanel.environment import MAY_BE_A_STANDBY, BadSetting, Environment, database_config, load

BASE_DIR = Path(__file__).resolve().parent.parent

env = Environment(load())

env.section("Safety")

DEBUG = env.switch("DEBUG", default=False, help="on: error pages show the source. For development only.")

SECRET_KEY = env.text(
    "SECRET_KEY",
    default="",
    help="Signs sessions and password resets: 50 random characters, kept secret. Required unless DEBUG is on.",
) or ("development" if DEBUG else "")
if not SECRET_KEY:
    raise BadSetting("SECRET_KEY is not set. `make .env` writes a .env with a random one.")

SECRET_KEY_FALLBACKS = env.secret_keys(
    "SECRET_KEY_FALLBACKS",
    help="Other secret keys, separated by commas. What they signed or encrypted is accepted, but they sign nothing "
    "new. docs/operations.md says how to replace SECRET_KEY without signing anybody out.",
)

ENCRYPTION_KEYS = env.encryption_keys(
    "ENCRYPTION_KEYS",
    help="Fernet keys, separated by commas, that encrypt what is stored and read again, such as the keys of suppliers "
    "and the secrets of webhooks. The first one encrypts, all of them decrypt. Empty: a key made from SECRET_KEY "
    "encrypts. See docs/operations.md.",
)

ALLOWED_HOSTS = env.host_names(
    "ALLOWED_HOSTS",
    default=["localhost", "127.0.0.1", "[::1]"],
    help="The host names that this site answers to, separated by commas.",
)

HTTPS = env.switch(
    "HTTPS",
    default=True,
    help="on: cookies travel over TLS only, pages redirect to TLS (the API does not), and browsers remember to use it.",
)
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^api(?![A-Za-z0-9_-])"]
SECURE_HSTS_SECONDS = env.whole_number(
    "HSTS_SECONDS",
    default=31_536_000,
    minimum=0,
    help="How long browsers remember that this site speaks TLS, in seconds.",
)
if not HTTPS:
    SECURE_HSTS_SECONDS = 0
HSTS_SUBDOMAINS = env.switch(
    "HSTS_SUBDOMAINS",
    default=False,
    help="on: browsers remember it for all subdomains too, and the site may be put on the browsers' preload list, "
    "which is hard to undo. Switch it on only if every subdomain speaks TLS.",
)
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS and HSTS_SUBDOMAINS
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]  # HSTS_SUBDOMAINS is the operator's to decide

CSRF_TRUSTED_ORIGINS = env.origins(
    "CSRF_TRUSTED_ORIGINS",
    help="Origins whose forms are accepted, separated by commas: https://panel.example. Needed if a proxy changes the "
    "host name.",
)

TRUSTED_PROXIES = env.networks(
    "TRUSTED_PROXIES",
    help="Networks of the proxies whose X-Forwarded-For and X-Forwarded-Proto are trusted, separated by commas: "
    "10.0.0.0/8,2001:db8::/32.",
)
if TRUSTED_PROXIES:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

env.section("The rules of the panel")

REFILL_LIMIT = env.whole_number(
    "REFILL_LIMIT",
    default=3,
    help="How many refills an order may have, rejected ones not counted, unless its service has a limit of its own.",
)
SLA_HOURS = env.whole_number(
    "SLA_HOURS",
    default=24,
    maximum=1_000_000,
    help="Hours in which a refill should be settled. After three quarters of them it is due soon, after that late.",
)
CLAIM_MINUTES = env.whole_number(
    "CLAIM_MINUTES", default=15, maximum=1_000_000, help="Minutes for which a staff member's claim on a refill lasts."
)
UNDO_SECONDS = env.whole_number(
    "UNDO_SECONDS",
    default=30,
    maximum=3600,
    help="Seconds in which agents may undo a change that they made to a refill's status.",
)

SUPPLIER_DAYS = env.whole_number(
    "SUPPLIER_DAYS",
    default=7,
    maximum=1000,
    help="Days after which a refill that its supplier has not settled is given up and left to an agent.",
)

RATE_LIMIT_IP = env.whole_number("RATE_LIMIT_IP", default=300, help="Requests per minute from one address.")
env.gone("RATE_LIMIT_KEY", instead="RATE_LIMIT_KEY_STANDARD, RATE_LIMIT_KEY_RESELLER and RATE_LIMIT_KEY_AGENCY")
RATE_LIMIT_KEYS = {
    tier: env.whole_number(
        f"RATE_LIMIT_KEY_{tier.upper()}",
        default=default,
        help=f"Requests per minute with one API key of the tier “{tier}”, unless the key has a limit of its own.",
    )
    for tier, default in {"standard": 100, "reseller": 300, "agency": 1000}.items()
}
RATE_LIMIT_TIERS = {
    tier: env.whole_number(
        f"RATE_LIMIT_TIER_{tier.upper()}",
        default=default,
        help=f"Requests per minute with all keys of an account of the tier “{tier}”.",
    )
    for tier, default in {"standard": 200, "reseller": 1000, "agency": 5000}.items()
}
PANEL_RATE_LIMIT = env.whole_number(
    "PANEL_RATE_LIMIT",
    default=30,
    help="Files per minute with one panel key, unless the key has a limit of its own.",
)

ATTEMPTS_PER_ADDRESS = env.whole_number(
    "ATTEMPTS_PER_ADDRESS",
    default=50,
    help="How often in 15 minutes one address may enter a wrong password or ask to have one reset.",
)
ATTEMPTS_PER_NAME = env.whole_number("ATTEMPTS_PER_NAME", default=10, help="The same limit for one user name.")
PASSWORD_CHECKS = env.whole_number(
    "PASSWORD_CHECKS",
    default=200,
    help="How many passwords are checked in 15 minutes for one address, or for one account that is signed in, right "
    "ones included. Each check takes a quarter of a second of processor time.",
)

STAFF_TWO_FACTOR = env.switch(
    "STAFF_TWO_FACTOR",
    default=False,
    help="on: staff need a second factor to reach the desk, and are asked to set one up. off: it is optional.",
)
STAFF_SESSION_HOURS = env.whole_number(
    "STAFF_SESSION_HOURS", default=12, maximum=10_000, help="Hours after which staff have to sign in again."
)
STAFF_IDLE_MINUTES = env.whole_number(
    "STAFF_IDLE_MINUTES",
    default=60,
    maximum=1_000_000,
    help="Minutes after which staff who have opened no page have to sign in again.",
)

env.section("The database: PostgreSQL 15 or newer")

DATABASE_URL = env.database(
    "DATABASE_URL",
    help="postgresql://user:password@host:5432/name. Empty: manage.py starts a private server under var/. With two "
    "hosts, postgresql://user:password@one:5432,two:5432/name?target_session_attrs=read-write, the one that takes "
    "writes is used. See docs/backups.md.",
)
DATABASE_LOCK_TIMEOUT = env.whole_number(
    "DATABASE_LOCK_TIMEOUT",
    default=3000,
    help="How long a statement may wait for a lock, in milliseconds. After that the API answers 503.",
)
DATABASE_STATEMENT_TIMEOUT = env.whole_number(
    "DATABASE_STATEMENT_TIMEOUT",
    default=10_000,
    help="How long a statement may take, in milliseconds. After that the API answers 503.",
)
DATABASE_POOL_SIZE = env.whole_number(
    "DATABASE_POOL_SIZE", default=10, help="How many connections one process may hold."
)
DATABASE_CONNECT_TIMEOUT = env.whole_number(
    "DATABASE_CONNECT_TIMEOUT",
    default=5,
    help="How many seconds a request waits for a connection, or for the server. After that the API answers 503. The "
    "hosts of a URL share them, with two seconds each at least.",
)
DATABASE_PGBOUNCER = env.switch(
    "DATABASE_PGBOUNCER",
    default=False,
    help="on: the database URLs lead to PgBouncer in transaction mode. The database itself must then set the two time "
    "limits for statements: see docs/scaling.md.",
)
DATABASE_REPLICA_URL = env.database(
    "DATABASE_REPLICA_URL",
    sessions=MAY_BE_A_STANDBY,
    help="A read replica. It serves what may be seconds old: the actions status and services, and the admin's lists. "
    "With both hosts and ?target_session_attrs=prefer-standby it needs no change after a failover.",
)

DATABASE_DIRECT_URL = env.database(
    "DATABASE_DIRECT_URL",
    help="The database itself, without PgBouncer, for the worker: LISTEN and session locks do not work through "
    "PgBouncer. Required with DATABASE_PGBOUNCER if a worker runs here.",
)

COMMAND = sys.argv[1] if Path(sys.argv[0]).name == "manage.py" and len(sys.argv) > 1 else ""
POOL_PATIENCE = 2  # seconds in which a pool tries to connect by itself; then the next request makes it try


def _database(url: str, *, pgbouncer: bool) -> dict[str, Any]:
    database = database_config(url) | {"ENGINE": "notpanel.kit.postgresql"}
    options: dict[str, Any] = {
        # In pg_stat_activity it says which command holds a connection.
        "application_name": f"notpanel {COMMAND}".strip(),
        # A server that vanished sends nothing. So a connection ends once data is unacknowledged, or it is silent, this
        # long.
        "tcp_user_timeout": DATABASE_CONNECT_TIMEOUT * 1000,
        "keepalives_idle": DATABASE_CONNECT_TIMEOUT,
        "keepalives_interval": 1,
        "keepalives_count": DATABASE_CONNECT_TIMEOUT,
    }
    database["OPTIONS"] = (
        options
        | database.get("OPTIONS", {})
        | {
            # For each host: one that does not answer must leave time for the next one.
            "connect_timeout": max(2, DATABASE_CONNECT_TIMEOUT // len(database["HOST"].split(","))),
            "pool": {
                "min_size": 1,
                "max_size": DATABASE_POOL_SIZE,
                "timeout": DATABASE_CONNECT_TIMEOUT,
                # By default a pool keeps trying for minutes with longer and longer pauses, in which no request tries.
                "reconnect_timeout": POOL_PATIENCE,
            },
        }
    )
    if pgbouncer:
        # Two transactions of one request may get different connections, which must not keep cursors, plans or options.
        database["DISABLE_SERVER_SIDE_CURSORS"] = True
    else:
        # Lets notpanel.kit.sql prepare its statements. psycopg prepares none of its own: after a rollback it would
        # deallocate every statement of the connection.
        database["OPTIONS"]["prepare_threshold"] = sys.maxsize
        # Prepared statements are planned once. By default PostgreSQL plans those with arrays again each time, although
        # their plan is the same for any parameters.
        database["OPTIONS"]["options"] = (
            f"-c lock_timeout={DATABASE_LOCK_TIMEOUT} -c statement_timeout={DATABASE_STATEMENT_TIMEOUT} "
            "-c plan_cache_mode=force_generic_plan"
        )
    return database


DATABASES = {
    alias: _database(url, pgbouncer=DATABASE_PGBOUNCER)
    for alias, url in (("default", DATABASE_URL), ("replica", DATABASE_REPLICA_URL))
    if url
}
# The settings of the worker's default database, if they differ.
WORKER_DATABASE = _database(DATABASE_DIRECT_URL, pgbouncer=False) if DATABASE_DIRECT_URL else None
DATABASE_ROUTERS = ["notpanel.kit.replica.Router"] if DATABASE_REPLICA_URL else []
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

env.section("The counters of the rate limits")

REDIS_URL = env.redis(
    "REDIS_URL", help="redis://host:6379/0. Empty: one process counts in its memory, and no second one may be started."
)
REDIS_TIMEOUT = env.seconds(
    "REDIS_TIMEOUT", default=1.0, help="How many seconds a request waits for Redis. After that the API answers 503."
)
REDIS_DOWN = env.choice(
    "REDIS_DOWN",
    default="closed",
    choices=["closed", "open"],
    help="While Redis does not answer: closed refuses requests with 503; open lets each process count in its own "
    "memory, so that a client may get each limit once per process.",
)
if REDIS_URL:
    _REDIS = {
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "notpanel",
        "OPTIONS": {"socket_timeout": REDIS_TIMEOUT, "socket_connect_timeout": REDIS_TIMEOUT},
    }
    CACHES = {
        "default": {"BACKEND": "notpanel.kit.redis_cache.ForgetfulCache", **_REDIS},
        "counters": {"BACKEND": "notpanel.api.redis_counters.RedisCounters", **_REDIS},
    }
else:
    CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
        "counters": {
            "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
            "LOCATION": "counters",
            # Django's default of 300 would evict counters in a busy minute.
            "OPTIONS": {"MAX_ENTRIES": 100_000},
        },
    }
RATELIMIT_USE_CACHE = "counters"

env.section("The application server: manage.py serve")

HOST = env.host("HOST", default="127.0.0.1", help="The address to listen on; 0.0.0.0 is every IPv4 address.")
PORT = env.whole_number("PORT", default=8000, maximum=65535, help="The port to listen on.")
WEB_CONCURRENCY = env.whole_number(
    "WEB_CONCURRENCY",
    default=0,
    minimum=0,
    help="How many processes serve. 0: one per core if REDIS_URL is set, else one. More than one require REDIS_URL, "
    "so that they count together.",
)
if WEB_CONCURRENCY == 0:
    WEB_CONCURRENCY = (os.cpu_count() or 1) if REDIS_URL else 1
WEB_THREADS = env.whole_number("WEB_THREADS", default=4, help="How many threads each process has.")

env.section("Work in the background: manage.py work")

WORKER = env.switch(
    "WORKER",
    default=True,
    help="on: `manage.py serve` runs one worker beside the server, and starts another if it dies. off: it runs none; "
    "run `manage.py work` yourself, as many as you like, on any machine.",
)
WORKER_CONCURRENCY = env.whole_number(
    "WORKER_CONCURRENCY",
    default=8,
    maximum=1000,
    help="How many jobs a worker does at once. Each holds a connection to the database.",
)

env.section("Customers' webhooks")

WEBHOOK_DAYS = env.whole_number(
    "WEBHOOK_DAYS",
    default=30,
    maximum=10_000,
    help="Days for which deliveries are kept for their owners to see and replay. Retries take three to four days.",
)
WEBHOOK_PROXY = env.proxy(
    "WEBHOOK_PROXY",
    help="http://user:password@host:3128: a proxy that takes CONNECT, through which webhooks are sent. It is given "
    "the address that was checked, not the name. Empty: they are sent directly.",
)
WEBHOOK_LOOPBACK = env.switch(
    "WEBHOOK_LOOPBACK",
    default=False,
    help="on: customers may also name http:// URLs of this machine. For demonstrations and tests only, because they "
    "could reach whatever listens there.",
)

env.section("How long the rest is kept: manage.py forget, which the worker runs daily")

DISPATCH_DAYS = env.days(
    "DISPATCH_DAYS",
    default=365,
    minimum=30,
    help="Days for which the record of how a settled refill was sent to its supplier is kept; 0: for ever.",
)
AUDIT_LOG_DAYS = env.days(
    "AUDIT_LOG_DAYS",
    default=730,
    minimum=30,
    help="Days for which events of the audit log are kept; 0: for ever.",
)
FAILED_JOB_DAYS = env.whole_number(
    "FAILED_JOB_DAYS",
    default=7,
    maximum=10_000,
    help="Days for which jobs of the worker that failed are kept for you to look at.",
)

env.section("Mail, which resets passwords")

vars().update(
    env.mail(
        "EMAIL_URL",
        default="consolemail://",
        help="smtp+tls://user:password@host:587; consolemail:// writes mail to standard output.",
    )
)
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.sender(
    "EMAIL_FROM", default="notpanel@localhost", help="The address that mail is sent from."
)
# How many seconds sending a mail may take.
EMAIL_TIMEOUT = 10

env.section("Logs, on standard error")

LOG_LEVEL = env.log_level("LOG_LEVEL", default="INFO", help="The lowest level that is written.")
LOG_FORMAT = env.choice(
    "LOG_FORMAT",
    default="auto",
    choices=["auto", "json", "console"],
    help="json: a JSON object per line. console: text for people. auto: console in a terminal, else json.",
)
_LOG_FORM = ("console" if sys.stderr.isatty() else "json") if LOG_FORMAT == "auto" else LOG_FORMAT
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "notpanel.logs.formatter", "form": _LOG_FORM}},
    "handlers": {"standard_error": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["standard_error"], "level": LOG_LEVEL},
    "loggers": {
        # Django's own handlers are removed: every line goes through the one above.
        "django": {"handlers": [], "propagate": True},
        "django.server": {"handlers": [], "propagate": True},
        # For a client's mistake, the one line per request is enough.
        "django.request": {"level": "ERROR"},
        "django.security": {"level": "CRITICAL"},
        # Leaves out its two lines for every job. Jobs that fail are logged as errors.
        "procrastinate": {"level": "WARNING"},
        # Written whatever LOG_LEVEL is.
        "notpanel.security": {"level": "INFO"},
        # Leaves out its warning for every request that waits for a thread.
        "waitress.queue": {"level": "ERROR"},
    },
}

SENTRY_DSN = env.sentry_dsn(
    "SENTRY_DSN",
    help="https://key@host/project: errors of the server are sent to this project of Sentry, without anything that "
    "people sent. Empty: nothing is sent.",
)

env.section("Metrics for Prometheus")

METRICS_TOKEN = env.token(
    "METRICS_TOKEN",
    shortest=32,
    help="Lets Prometheus read /metrics, with the header “Authorization: Bearer …”: 32 random characters or more, kept "
    "secret. Empty: there is no such page. See docs/monitoring.md.",
)
WORKER_METRICS_PORT = env.whole_number(
    "WORKER_METRICS_PORT",
    default=0,
    minimum=0,
    maximum=65535,
    help="The port of HOST on which a worker that runs by itself (manage.py work) answers /metrics, if there is a "
    "METRICS_TOKEN; 0: on none. The server answers for the worker that it runs.",
)

# ---- Django

# A selection of a thousand refills is a form of more than a thousand fields.
DATA_UPLOAD_MAX_NUMBER_FIELDS = 2000
ROOT_URLCONF = "notpanel.urls"
WSGI_APPLICATION = "notpanel.wsgi.application"
AUTH_USER_MODEL = "apikeys.Account"
INSTALLED_APPS = [
    "unfold.apps.BasicAppConfig",
    "unfold.contrib.filters",
    "notpanel.apps.DeskConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.staticfiles",
    "csp",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "procrastinate.contrib.django",
    "rest_framework",
    "notpanel",
    "apikeys",
    "orders",
    "refills",
]
MIDDLEWARE = [
    "notpanel.middleware.answer_health_checks",
    "notpanel.middleware.answer_metrics",
    "notpanel.middleware.log_requests",
    "notpanel.middleware.drop_untrusted_proto",
    "notpanel.middleware.refuse_unknown_hosts",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "notpanel.middleware.short_circuit_api",
    # What follows serves pages and static files only.
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "notpanel.middleware.add_admin_policy",
    "notpanel.middleware.remember_writes",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "apikeys.middleware.remember_who_acts",
    "apikeys.middleware.end_sessions_of_staff",
    "apikeys.middleware.require_second_factor",
    "apikeys.middleware.require_password_of_staff",
    "apikeys.middleware.show_times_of_staff",
    "django.contrib.messages.middleware.MessageMiddleware",
    "notpanel.middleware.refuse_impossible_text",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
CSRF_FAILURE_VIEW = "notpanel.views.csrf_failure"
SESSION_ENGINE = "apikeys.sessions"
LOGIN_URL = "dashboard:sign-in"
LOGIN_REDIRECT_URL = "start"
OTP_TOTP_ISSUER = "NotPanel"
CONTENT_SECURITY_POLICY = {
    "EXCLUDE_URL_PREFIXES": ["/admin/"],
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
    },
}
# The first hashes new passwords; a hash of another kind is replaced when its owner signs in.
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2SHA1PasswordHasher",
    "django.contrib.auth.hashers.BCryptSHA256PasswordHasher",
    "django.contrib.auth.hashers.ScryptPasswordHasher",
]
# The admin's pages need inline scripts, and eval.
ADMIN_CONTENT_SECURITY_POLICY = {
    "default-src": ["'self'"],
    "script-src": ["'self'", "'unsafe-inline'", "'unsafe-eval'"],
    "style-src": ["'self'", "'unsafe-inline'"],
    "img-src": ["'self'", "data:"],
    "connect-src": ["'self'"],
    "object-src": ["'none'"],
    "form-action": ["'self'"],
    "base-uri": ["'none'"],
    "frame-ancestors": ["'none'"],
}
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "apikeys.passwords.StaffLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "apikeys.passwords.BreachedPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
UNFOLD = {
    "SITE_TITLE": "NotPanel",
    "SITE_HEADER": "NotPanel",
    "SITE_SYMBOL": "autorenew",
    "SITE_URL": None,
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("notpanel/favicon.svg")}],
    "STYLES": [lambda request: static("notpanel/admin.css")],
    "ACCOUNT": {
        "navigation": [
            {"title": "My time zone", "link": reverse_lazy("time-zone")},
            {"title": "Change password", "link": reverse_lazy("admin:password_change")},
        ],
    },
    "SCRIPTS": [lambda request: static("notpanel/desk.js")],
    "DASHBOARD_CALLBACK": "refills.admin.start_page.add_statistics",
}
REST_FRAMEWORK = {
    "EXCEPTION_HANDLER": "notpanel.api.exceptions.exception_handler",
    # A client may send half a surrogate pair as an id and gets it back: escaped, because UTF-8 cannot hold it.
    "UNICODE_JSON": False,
    "UNAUTHENTICATED_USER": None,
}

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
FORMAT_MODULE_PATH = "notpanel.formats"

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "var" / "static"
STORAGES = {
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
