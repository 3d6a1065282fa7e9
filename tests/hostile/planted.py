"""Requests and records full of secrets, each drawn anew, to look for them in the log.

There is a secret in every field that a client can send. Secrets with a recognisable form (keys, tokens, sessions,
e-mail addresses, links) are also in paths, methods, hosts and request ids. A password has no such form: it is in
bodies, queries, headers, cookies and names, but not in paths or request ids, which are logged as they were sent.
"""

import base64
import logging
import random
import string
from dataclasses import dataclass
from urllib.parse import urlencode

from django.core import signing

from tests.conftest import FORM
from tests.hostile.requests import RAW_KEY
from tests.wsgi import call

URL_SAFE = string.ascii_letters + string.digits + "-_"
_PATHS = ("/{}", "/api/v2/{}", "/api/{}/x", "/dashboard/webhooks/{}/", "/dashboard/{}/", "/admin/{}", "//api//{}")


@dataclass
class Secrets:
    """One of each kind. None is in use, except for the key of the customer that ``make_customer`` made."""

    chance: random.Random

    def __post_init__(self) -> None:
        chance = self.chance
        self.key = self._text("np_", URL_SAFE, 43)
        self.panel_key = self._text("npp_", URL_SAFE, 43)
        self.webhook = f"whsec_{base64.b64encode(chance.randbytes(32)).decode()}"
        token = self._text("", string.digits + "abcdef", 32)
        self.reset = f"{self._text('', string.digits + string.ascii_lowercase, 6)}-{token}"
        self.email = f"{self._text('', string.ascii_lowercase, 10)}@{self._text('', string.ascii_lowercase, 8)}.example"
        self.confirm = signing.dumps({"account": chance.randrange(10**6), "email": self.email}, salt="planted")
        self.session = self._text("", string.ascii_lowercase + string.digits, 32)
        self.csrf = self._text("", string.ascii_letters + string.digits, 64)
        self.link = f"https://social.example/p/{self._text('', URL_SAFE, 11)}"
        self.password = self._text("", string.ascii_letters + string.digits + "!$*", 14)

    def _text(self, prefix: str, alphabet: str, length: int) -> str:
        return prefix + "".join(self.chance.choices(alphabet, k=length))

    @property
    def with_a_form(self) -> list[str]:
        return [self.key, self.panel_key, self.webhook, self.reset, self.confirm, self.session, self.csrf, self.email]

    @property
    def fragments(self) -> list[str]:
        """Return what no line may have: the ends of long secrets, so that half of one is not overlooked."""
        long = (self.key, self.panel_key, self.webhook, self.reset, self.confirm, self.session, self.csrf)
        link = self.link.rpartition("/")[2]
        return [*(text[-16:] for text in long), RAW_KEY[-16:], self.email.partition("@")[0], link, self.password]


def send(secrets: Secrets) -> None:
    """Send a request with the secrets in all its fields. Every other form passes for one of ours."""
    chance = secrets.chance
    named = {
        "key": chance.choice([RAW_KEY, secrets.key, secrets.panel_key]),
        "action": chance.choice(["refill", "status", "services", "webhook.add", secrets.webhook]),
        "orders": f"1,2,{secrets.link},{secrets.email}",
        "url": f"https://hooks.example/{secrets.session}?t={secrets.password}",
        "username": chance.choice([secrets.email, secrets.password, secrets.key]),
        "password": secrets.password,
        "email": secrets.email,
        "new_password1": secrets.password,
        "csrfmiddlewaretoken": secrets.csrf,
    }
    form = chance.choice(secrets.with_a_form)
    headers = {
        "HTTP_AUTHORIZATION": chance.choice([f"Bearer {secrets.panel_key}", f"Basic {secrets.password}", secrets.key]),
        "HTTP_COOKIE": f"sessionid={secrets.session}; csrftoken={secrets.csrf}; x={secrets.password}",
        "HTTP_USER_AGENT": f"{secrets.email} {secrets.password}",
        "HTTP_REFERER": f"https://shop.example/{secrets.password}?{secrets.email}",
        "HTTP_X_CSRFTOKEN": secrets.csrf,
        "HTTP_X_FORWARDED_FOR": f"{secrets.password}, {secrets.email}",
        "HTTP_X_FORWARDED_PROTO": secrets.password,
        # A session looks like a random id.
        "HTTP_X_REQUEST_ID": chance.choice([secrets.key, secrets.webhook[:64], secrets.reset, secrets.email, "shop-1"]),
        "HTTP_HOST": chance.choice(["testserver"] * 9 + [secrets.key, secrets.email, secrets.password]),
    }
    if chance.random() < 0.5:
        headers["HTTP_ORIGIN"] = f"https://{secrets.password}"
    known = ("/api/v2", "/dashboard/sign-in/", "/dashboard/password/reset/", "/admin/login/", "/api/panel/orders")
    path = chance.choice(
        [
            *known,
            *known,
            f"/dashboard/password/reset/MQ/{secrets.reset}/",
            f"/dashboard/password/reset/MQ/{secrets.password}/",
            f"/dashboard/email/confirm/{secrets.confirm}/",
            f"/{secrets.link}",
            *(each.format(form) for each in _PATHS),
        ]
    )
    body = urlencode(named).encode()
    call(
        body,
        path,
        urlencode(named),
        REQUEST_METHOD=chance.choice(["POST", "POST", "POST", "GET", secrets.key, f"GET\n{secrets.email}"]),
        CONTENT_TYPE=chance.choice([FORM, FORM, "application/json", f"text/{secrets.password}"]),
        CONTENT_LENGTH=str(len(body)),
        **headers,
    )


def log(secrets: Secrets) -> None:
    """Write a record as a library would: with text, arguments, members or a traceback that have secrets."""
    logger = logging.getLogger(secrets.chance.choice(["waitress", "django.request", "procrastinate", "orders", "x"]))
    words = [*secrets.with_a_form, secrets.link]
    secrets.chance.shuffle(words)
    match secrets.chance.randrange(4):
        case 0:
            logger.error("Failed at %s: %s", words[0], words[1:])
        case 1:
            logger.error(f"GET /{words[0]}?key={words[1]}&x={words[2]}\r\n{words[3]}", extra={"said": words})
        case 2:
            logger.error("Failed: %r", dict(zip("abcdefgh", words, strict=False)))
        case 3:
            try:
                raise ValueError(f"duplicate key\nDETAIL:  Failing row contains ({secrets.password}).", *words)
            except ValueError:
                logger.exception("Failed")
