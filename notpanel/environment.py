"""Read settings from the environment: each is declared once, with its default and its description, and checked.

settings.py declares them; `make env-example` writes .env.example from what it declares. A value that is not allowed
raises BadSetting, whose text is for the operator. It never shows a URL, which may hold a password.
"""

import contextlib
import email.utils
import ipaddress
import logging
import os
import re
import textwrap
from collections.abc import Callable, Collection, Iterator, MutableMapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import environ
import psycopg
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured
from psycopg.conninfo import conninfo_to_dict

DOTENV = Path(__file__).resolve().parent.parent / ".env"

ON, OFF = set(environ.Env.BOOLEAN_TRUE_STRINGS), {"off", "false", "no", "n", "0"}
LONGEST_KEPT = 36_500  # days
PORT = 5432  # of PostgreSQL, unless a URL says another
LARGEST = 2**31 - 1  # the largest time limit that PostgreSQL accepts

POSTGRESQL = {
    name for name, backend in environ.Env.DB_SCHEMES.items() if backend == environ.Env.DB_SCHEMES["postgresql"]
}
DATABASE_EXAMPLE = "postgresql://user:password@host:5432/name"
REDIS_EXAMPLE = "redis://host:6379/0"
MAIL_EXAMPLE = "smtp+tls://user:password@host:587"
PROXY_EXAMPLE = "http://user:password@host:3128"
SENTRY_EXAMPLE = "https://key@host/project"

HEADER = """\
# Every setting of NotPanel, with its default. Copy the lines that you change to .env, or set them in the
# environment, which wins over .env. `make .env` writes a .env with a random SECRET_KEY.
# `make env-example` writes this file from notpanel/settings.py.
"""

# prometheus_client reads it, and so do the processes that a server starts.
METRICS_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"

Item = TypeVar("Item")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

TAKES_WRITES = ("read-write", "primary")  # values of target_session_attrs
MAY_BE_A_STANDBY = ("prefer-standby", "standby", "read-only", "any")


class BadSetting(ImproperlyConfigured):
    """The environment has a value that NotPanel cannot start with."""


def load() -> MutableMapping[str, str]:
    """Add what .env sets to the environment of this process, which wins over it. Returns that environment.

    A file that this process may not read counts as missing: the program that started it may have read the file.
    """
    try:
        lines = DOTENV.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for number, line in enumerate(lines, start=1):
        if line.strip() and not re.match(r"\s*#|(export )?\w+=", line):  # django-environ would print and ignore it
            raise BadSetting(f"Line {number} of .env is neither NAME=value, without spaces around =, nor a comment.")
    environ.Env.read_env(DOTENV)
    return os.environ


def metrics_directory() -> str:
    """Return the directory in which processes add up their metrics, "" if this one counts for itself."""
    return os.environ.get(METRICS_DIRECTORY, "")


def set_metrics_directory(directory: str) -> None:
    """Set that directory, for this process and those that it starts."""
    os.environ[METRICS_DIRECTORY] = directory


def withhold_supervisor() -> str | None:
    """Remove the address for notifications to systemd from the environment, and return it, if there is one."""
    return os.environ.pop("NOTIFY_SOCKET", None)


def restore_supervisor(address: str) -> None:
    """Put that address back into the environment."""
    os.environ["NOTIFY_SOCKET"] = address


class Environment:
    """The settings that ``values`` hold. Each method declares one and returns its value, or raises BadSetting."""

    def __init__(self, values: MutableMapping[str, str]) -> None:
        self._values = values
        self._example = [HEADER]

    def section(self, title: str) -> None:
        """Begin a part of .env.example."""
        self._example.append(f"\n# ---- {title}\n\n")

    def example(self) -> str:
        """Return what .env.example says of all settings declared so far."""
        return "".join(self._example)

    def gone(self, name: str, *, instead: str) -> None:
        """Raise BadSetting if a setting that no longer exists is set, because its value would have no effect."""
        if name in self._values:
            raise BadSetting(f"{name} is no longer a setting: set {instead} instead, and remove it.")

    def text(self, name: str, default: str, *, help: str) -> str:
        """Declare a text, which may be empty."""
        description = textwrap.fill(help, 120, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
        self._example.append(f"{description}\n{name}={default}\n")
        value = self._values.get(name, default)
        # $NAME refers to another variable only if there is one, because a SECRET_KEY may begin with $ too.
        return self._values.get(value[1:], value) if value.startswith("$") else value

    def switch(self, name: str, default: bool, *, help: str) -> bool:
        """Declare a switch: on or off. Accepts the words that django-environ accepts, but no others for off."""
        text = self.text(name, "on" if default else "off", help=help)
        word = text.strip().lower()
        if word not in ON | OFF:
            raise _wrong(name, text, "on or off")
        return word in ON

    def whole_number(self, name: str, default: int, *, minimum: int = 1, maximum: int = LARGEST, help: str) -> int:
        """Declare a whole number. Pass ``minimum`` only where 0 has a meaning."""
        text = self.text(name, str(default), help=help)
        # int() also reads digits of other scripts, and 1_000.
        number = int(text) if re.fullmatch("-?[0-9]{1,10}", text) else minimum - 1
        if not minimum <= number <= maximum:
            raise _wrong(name, text, f"a whole number from {minimum} to {maximum}")
        return number

    def days(self, name: str, default: int, *, minimum: int, help: str) -> int:
        """Declare a number of days for which something is kept; 0 keeps it for ever."""
        text = self.text(name, str(default), help=help)
        number = int(text) if re.fullmatch("[0-9]{1,5}", text) else -1
        if number and not minimum <= number <= LONGEST_KEPT:
            raise _wrong(name, text, f"0, for ever, or a whole number from {minimum} to {LONGEST_KEPT}")
        return number

    def seconds(self, name: str, default: float, *, help: str) -> float:
        """Declare a number of seconds, which may have a fraction."""
        text = self.text(name, str(default), help=help)
        number = float(text) if re.fullmatch(r"[0-9]{1,10}(\.[0-9]*)?|\.[0-9]+", text) else 0
        if not 0 < number <= LARGEST:
            raise _wrong(name, text, f"a number above 0, at most {LARGEST}")
        return number

    def choice(self, name: str, default: str, choices: Sequence[str], *, help: str) -> str:
        """Declare one of the words that are listed."""
        text = self.text(name, default, help=help)
        if text not in choices:
            raise _wrong(name, text, f"{', '.join(choices[:-1])} or {choices[-1]}")
        return text

    def token(self, name: str, *, shortest: int, help: str) -> str:
        """Declare a secret that others send in a header. It may be empty. Its text is never shown."""
        text = self.text(name, "", help=help)
        if text and not re.fullmatch(rf"[!-~]{{{shortest},}}", text):
            raise BadSetting(f"{name} must be empty, or at least {shortest} visible ASCII characters without spaces.")
        return text

    def log_level(self, name: str, default: str, *, help: str) -> str:
        """Declare the name of a log level."""
        return self.choice(name, default, list(logging.getLevelNamesMapping()), help=help)

    def host(self, name: str, default: str, *, help: str) -> str:
        """Declare a name or an address to listen at."""
        text = self.text(name, default, help=help)
        if not re.fullmatch(r"[\w.-]+|\[[0-9A-Fa-f:.]+\]", text):
            raise _wrong(name, text, "a host name or an address, such as 0.0.0.0 or [::1], without a port")
        return text

    def sender(self, name: str, default: str, *, help: str) -> str:
        """Declare an address that mail is sent from."""
        text = self.text(name, default, help=help)
        if not re.fullmatch(r"\S+@\S+", email.utils.parseaddr(text)[1]):
            raise _wrong(name, text, "an address, such as desk@panel.example or Panel <desk@panel.example>")
        return text

    def host_names(self, name: str, default: Sequence[str], *, help: str) -> list[str]:
        """Declare the host names that the site answers to: one or more."""

        def checked(item: str) -> str:
            if not re.fullmatch(r"\*|\.?\w[\w.-]*|\[[0-9A-Fa-f:.]+\]", item):
                raise ValueError
            return item

        allowed = "a host name without scheme, port or path, such as panel.example"
        names = self._items(name, default, checked, allowed, help)
        if not names:
            raise _wrong(name, "", allowed)
        return names

    def origins(self, name: str, *, help: str) -> list[str]:
        """Declare a list of origins, which may be empty."""

        def checked(item: str) -> str:
            if not re.fullmatch(r"https?://[^/?#@\s]+", item):
                raise ValueError
            return item

        return self._items(name, (), checked, "an origin without a path, such as https://panel.example", help)

    def networks(self, name: str, *, help: str) -> list[Network]:
        """Declare a list of networks, which may be empty."""
        allowed = "a network, such as 10.0.0.0/8 or 2001:db8::/32, or an address"
        return self._items(name, (), ipaddress.ip_network, allowed, help)

    def proxy(self, name: str, *, help: str) -> str:
        """Declare the URL of a proxy. It may be empty."""
        url = self.text(name, "", help=help)
        if url:
            _check_scheme(name, url, ["http"], ["http"], PROXY_EXAMPLE)
            with _readable(name, PROXY_EXAMPLE):
                parts = urlsplit(url)
                host, _ = parts.hostname, parts.port
            if not host:
                raise _wrong_url(name, "names no host", PROXY_EXAMPLE)
            if parts.path.strip("/") or parts.query:
                raise _wrong_url(name, "has a path", PROXY_EXAMPLE)
        return url

    def sentry_dsn(self, name: str, *, help: str) -> str:
        """Declare the DSN of a project of Sentry. It may be empty."""
        dsn = self.text(name, "", help=help)
        if dsn:
            from sentry_sdk.utils import Dsn  # not loaded where nothing is sent

            try:
                Dsn(dsn)
            except ValueError:  # its text may show the key
                raise _wrong_url(name, "cannot be read", SENTRY_EXAMPLE) from None
        return dsn

    def encryption_keys(self, name: str, *, help: str) -> list[str]:
        """Declare a list of Fernet keys, which may be empty. An error about a key never shows the key."""
        keys = [item.strip() for item in self.text(name, "", help=help).split(",") if item.strip()]
        for number, key in enumerate(keys, start=1):
            try:
                Fernet(key)
            except ValueError:
                raise BadSetting(
                    f"{name}: key {number} is not valid: each must be 32 random bytes in URL-safe base64. "
                    "docs/operations.md shows how to make one."
                ) from None
        return keys

    def secret_keys(self, name: str, *, help: str) -> list[str]:
        """Declare a list of secret keys, which may be empty. Each is taken as it is written."""
        return [item.strip() for item in self.text(name, "", help=help).split(",") if item.strip()]

    def _items(
        self, name: str, default: Sequence[str], check: Callable[[str], Item], allowed: str, help: str
    ) -> list[Item]:
        items: list[Item] = []
        for item in map(str.strip, self.text(name, ",".join(default), help=help).split(",")):
            try:
                items += [check(item)] if item else []
            except ValueError:
                raise BadSetting(f"{name} names “{item}”: it must be {allowed}.") from None
        return items

    def database(self, name: str, *, sessions: Sequence[str] = TAKES_WRITES, help: str) -> str:
        """Declare the URL of a PostgreSQL database. It may be empty; database_config() reads it.

        ``sessions`` are the allowed values of target_session_attrs. A URL of several hosts must have one of them: it
        says which of the hosts is meant.
        """
        url = self.text(name, "", help=help)
        if url:
            _check_scheme(name, url, POSTGRESQL, ["postgresql"], DATABASE_EXAMPLE)
            with _readable(name, DATABASE_EXAMPLE):
                config = database_config(url)
            options = config.get("OPTIONS", {})
            if not (config["HOST"] or "hostaddr" in options):
                raise _wrong_url(name, "names no host", DATABASE_EXAMPLE)
            if not config["NAME"]:
                raise _wrong_url(name, "names no database", DATABASE_EXAMPLE)
            hosts = config["HOST"].split(",")
            example = f"postgresql://user:password@one:5432,two:5432/name?target_session_attrs={sessions[0]}"
            if not all(hosts) and len(hosts) > 1:
                raise _wrong_url(name, "names a host that is empty", example)
            if len(str(config["PORT"]).split(",")) not in (1, len(hosts)):
                raise _wrong_url(name, "names more or fewer ports than hosts", example)
            if len(hosts) > 1 and "target_session_attrs" not in options:
                raise _wrong_url(name, "names several hosts without target_session_attrs", example)
            if options.get("target_session_attrs", sessions[0]) not in sessions:
                raise _wrong_url(name, f"has a target_session_attrs that is not {' or '.join(sessions)}", example)
        return url

    def redis(self, name: str, *, help: str) -> str:
        """Declare the URL of a Redis. It may be empty."""
        url = self.text(name, "", help=help)
        if url:
            schemes = ["redis", "rediss", "unix"]
            _check_scheme(name, url, schemes, schemes, REDIS_EXAMPLE)
            with _readable(name, REDIS_EXAMPLE):
                parts = urlsplit(url)
                host, _ = parts.hostname, parts.port
            if parts.scheme == "unix":
                host = parts.path
            elif not re.fullmatch(r"/?\d*", parts.path):  # redis-py would use database 0
                raise _wrong_url(name, "names a database that is not a number", REDIS_EXAMPLE)
            if not host:
                raise _wrong_url(name, "names no host", REDIS_EXAMPLE)
            if re.search("[,;]", url):  # Django would read it as the URLs of several servers
                raise _wrong_url(name, "has a “,” or “;”, which a URL writes as %2C and %3B", REDIS_EXAMPLE)
        return url

    def mail(self, name: str, default: str, *, help: str) -> dict[str, Any]:
        """Declare the URL of a mail server or of another backend. Returns Django's settings for it."""
        url = self.text(name, default, help=help)
        _check_scheme(
            name, url, environ.Env.EMAIL_SCHEMES, ["smtp", "smtp+tls", "smtp+ssl", "consolemail"], MAIL_EXAMPLE
        )
        with _readable(name, MAIL_EXAMPLE):
            config: dict[str, Any] = environ.Env.email_url_config(url)
        if url.lower().startswith("smtp") and not config["EMAIL_HOST"]:
            raise _wrong_url(name, "names no host", MAIL_EXAMPLE)
        return config


def database_config(url: str) -> dict[str, Any]:
    """Return Django's settings for the database at a URL. Raises ValueError, whose text may hold part of a password.

    As in libpq, a URL may name several hosts, each with a port of its own or none, and ``?host=`` and ``?port=`` take
    precedence over what is before the path.
    """
    config: dict[str, Any] = environ.Env.db_url_config(url)
    if "," in config["HOST"]:
        try:
            parts = conninfo_to_dict(re.sub(r"^\w+", "postgresql", url.partition("?")[0]))
        except psycopg.ProgrammingError as error:
            raise ValueError(str(error)) from error
        config |= {"HOST": parts["host"], "PORT": parts.get("port", "")}
    for name, value in parse_qsl(url.partition("?")[2]):
        if name in ("host", "port"):
            config[name.upper()] = value
            config["OPTIONS"].pop(name, None)  # it may stand there twice
    hosts, ports = config["HOST"].split(","), str(config["PORT"]).split(",")
    if len(hosts) > 1:
        ports = ports * len(hosts) if len(ports) == 1 else ports
        config["PORT"] = ",".join(port or str(PORT) for port in ports)
    if not all(0 < int(port or PORT) < 65536 for port in ports):
        raise ValueError("a port is not from 1 to 65535")
    return config


def _check_scheme(name: str, url: str, schemes: Collection[str], usual: Sequence[str], example: str) -> None:
    scheme, separator, _ = url.partition("://")
    if not separator or scheme.lower() not in schemes:
        raise _wrong_url(name, f"does not begin with {' or '.join(f'{scheme}://' for scheme in usual)}", example)


@contextlib.contextmanager
def _readable(name: str, example: str) -> Iterator[None]:
    try:
        yield
    except ValueError:  # its text may hold part of a password
        problem = "has a port that is not a number, or a password with / ? or #, which a URL writes as %2F %3F %23"
        raise _wrong_url(name, problem, example) from None


def _wrong(name: str, text: str, allowed: str) -> BadSetting:
    return BadSetting(f"{name} is {f'“{text}”' if text else 'empty'}: it must be {allowed}.")


def _wrong_url(name: str, problem: str, example: str) -> BadSetting:
    return BadSetting(f"{name} {problem}: it must look like {example}.")
