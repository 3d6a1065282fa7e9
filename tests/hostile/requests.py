"""Hostile and careless requests, for Hypothesis to draw from: bodies, headers and addresses.

``problems`` calls the WSGI application with one and says what is wrong with the answer.
"""

import gzip
import hashlib
import json
from collections import Counter
from typing import Any
from urllib.parse import quote, urlencode

from hypothesis import strategies as st

from apikeys.keys import LENGTH_OF_PREFIX
from apikeys.models import ApiKey
from notpanel.kit.public_id import generate
from tests import factories
from tests.wsgi import call

RAW_KEY = "np_" + "SecretThatNobodyMayRead-0123456789_abcdefghi"[:43]
UNFINISHED = 123_456_789  # the number of an order that only unfinished requests name
FORM = "application/x-www-form-urlencoded"
CODECS = [
    "utf-8",
    "zip",
    "bz2",
    "hex",
    "rot13",
    "punycode",
    "idna",
    "uu",
    "base64",
    "utf-16",
    "utf-7",
    "undefined",
    "é",
]
OURS, ODD = "testserver", ["evil.example", "", "testserver:x", "[::1", "é", "testserver,evil", "a" * 300]

# Characters that bodies, headers and paths are likely to trip over, and any others.
TEXT = st.text(
    st.one_of(
        st.sampled_from("0123456789,;|[]{}()#\"'\\\0\r\n\t %&=+\u00a0\u200b\ufeff\u202e\ud800٣"), st.characters()
    ),
    max_size=40,
)
HEADER = TEXT.map(lambda text: text.encode("utf-8", "replace").decode("latin-1"))
IDS = st.one_of(
    TEXT,
    st.integers(-5, 10).map(str),
    st.sampled_from(["2,000,000,028", "9" * 30, "0", "ord_", generate("ord"), "[1, 2]", "#1", "1.0", "1e9"]),
)
SCALARS = st.one_of(IDS, st.integers(), st.floats(), st.booleans(), st.none())
VALUES = st.one_of(
    SCALARS, st.lists(SCALARS, max_size=5), st.dictionaries(TEXT, SCALARS, max_size=2), st.just("1," * 101)
)
NAMES = st.one_of(
    st.sampled_from(["key", "action", "order", "orders", "refill", "refills", "orders[]", "orders[0]", "order[]"]),
    TEXT,
)
ACTIONS = st.sampled_from(["refill", "refill_status", "status", "services", "nonsense", " refill\n", '"status"'])
PAIRS = st.tuples(
    st.just(("key", RAW_KEY)), ACTIONS.map(lambda action: ("action", action)), st.tuples(NAMES, VALUES)
).flatmap(lambda usual: st.lists(st.tuples(NAMES, VALUES), max_size=4).map(lambda more: [*usual, *more]))


def _mostly(usual: str, odd: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Return a strategy that draws ``usual`` four times out of five."""
    return st.sampled_from([st.just(usual)] * 4 + [odd]).flatmap(lambda drawn: drawn)


def _form(pairs: list[tuple[str, Any]]) -> bytes:
    return urlencode([(name, str(value)) for name, value in pairs], errors="replace").encode()


def _json(pairs: list[tuple[str, Any]]) -> bytes:
    return ("{" + ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in pairs) + "}").encode()


def _multipart(pairs: list[tuple[str, Any]]) -> bytes:
    parts = (f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in pairs)
    return ("".join(parts) + "--b--\r\n").encode("utf-8", "replace")


def _damaged(body: bytes, at: int, by: bytes) -> bytes:
    at %= len(body) + 1
    return body[:at] + by + body[at + len(by) :]


WRITTEN = st.builds(lambda write, pairs: write(pairs), st.sampled_from([_form, _json, _multipart]), PAIRS)
BODIES = st.one_of(
    WRITTEN,
    WRITTEN,
    st.builds(_damaged, WRITTEN, st.integers(0, 500), st.binary(max_size=4)),
    WRITTEN.map(gzip.compress),
    WRITTEN.map(lambda body: b"\xef\xbb\xbf" + body),
    st.binary(max_size=200),
    st.sampled_from([b"", b"[" * 60_000, b"{" * 60_000, b'{"a":' * 10_000, b"a=1&" * 3000, b"x" * 70_000]),
)
TYPES = st.one_of(
    st.sampled_from([FORM, FORM, "application/json", "multipart/form-data; boundary=b", "text/plain", ""]),
    st.builds(
        "{}; {}={}".format,
        st.sampled_from([FORM, "application/json", "multipart/form-data", "text/html"]),
        st.sampled_from(["charset", "charset*", "x*", "x*0*", "boundary", "boundary*"]),
        st.one_of(st.sampled_from(CODECS), st.sampled_from(CODECS).map(lambda codec: f"{codec}''%41"), HEADER),
    ),
    HEADER,
)
BY_NAME: dict[str, st.SearchStrategy[str]] = {
    "CONTENT_TYPE": TYPES,
    "CONTENT_LENGTH": st.one_of(st.integers(-10, 100_000).map(str), st.sampled_from(["+5", "1_0", "9" * 5000]), HEADER),
    "HTTP_HOST": st.sampled_from([OURS] * 8 + ODD),
    "HTTP_CONTENT_ENCODING": st.one_of(st.sampled_from(["gzip", "identity", "br"]), HEADER),
    "HTTP_TRANSFER_ENCODING": st.one_of(st.just("chunked"), HEADER),
    "HTTP_X_REQUEST_ID": st.one_of(st.just(RAW_KEY), HEADER),
    "HTTP_X_FORWARDED_FOR": HEADER,
    "HTTP_X_FORWARDED_PROTO": HEADER,
    "HTTP_X_FORWARDED_HOST": HEADER,
    "HTTP_AUTHORIZATION": st.just(f"Bearer {RAW_KEY}"),
    "HTTP_COOKIE": HEADER,
    "HTTP_ACCEPT": HEADER,
    "HTTP_ACCEPT_ENCODING": HEADER,
    "HTTP_IF_NONE_MATCH": HEADER,
    "HTTP_EXPECT": HEADER,
    "HTTP_RANGE": HEADER,
    "REMOTE_ADDR": st.one_of(st.sampled_from(["", "127.0.0.1", "::1", "fe80::1%eth0"]), HEADER),
}
HEADERS = st.lists(st.one_of([st.tuples(st.just(name), values) for name, values in BY_NAME.items()]), max_size=3).map(
    dict
)
_ADDRESSES = [
    "/api/v2/",
    "//api/v2",
    "/API/V2",
    "/./api/v2",
    "/api",
    "/api/",
    f"/api/v2/{RAW_KEY}",
    "/api/openapi.json",
]
PATHS = _mostly(
    "/api/v2",
    st.one_of(
        st.sampled_from(_ADDRESSES),
        HEADER.map(lambda text: "/api/" + text),
        HEADER.map(lambda text: "//Api//" + text),
    ),
)
METHODS = _mostly("POST", st.sampled_from(["GET", "HEAD", "OPTIONS", "PUT", "PROPFIND", "get", "x\n"]))
QUERIES = st.sampled_from(["", f"key={RAW_KEY}", "a=%FF&b=%00", "format=html"])
REQUESTS = st.tuples(BODIES, PATHS, QUERIES, METHODS, HEADERS)
Request = tuple[bytes, str, str, str, dict[str, str]]


def make_customer() -> None:
    """Make a customer whose key is RAW_KEY, and orders that may be refilled, so that requests get past the key."""
    customer: Any = factories.Account(tier="agency")
    digest = hashlib.sha256(RAW_KEY.encode()).hexdigest()
    ApiKey.objects.create(account=customer, prefix=RAW_KEY[:LENGTH_OF_PREFIX], digest=digest)
    for number in (*range(1, 10), UNFINISHED):
        factories.Order(account=customer, number=number)


def problems(request: Request, statuses: Counter[int]) -> list[str]:
    """Send a request, and count the status of its answer. Returns what is wrong with the answer, [] if nothing is."""
    body, path, query, method, headers = request
    length = {} if "HTTP_TRANSFER_ENCODING" in headers else {"CONTENT_LENGTH": str(len(body))}
    status, answered, content = call(body, path, query, REQUEST_METHOD=method, **{**length, **headers})
    statuses[status] += 1
    found = []
    if status >= 500:
        found.append(f"status {status}")
    if RAW_KEY.encode() in content or any(RAW_KEY in value for value in answered.values()):
        found.append("a key in the answer")
    if status != 304 and answered.get("Content-Type") != "application/json":
        found.append(f"Content-Type {answered.get('Content-Type')} at {quote(path, errors='replace')}")
    if status >= 400 and "X-Error-Code" not in answered:
        found.append("no X-Error-Code")
    if status >= 400 and content and set(json.loads(content)) != {"error"}:
        found.append("an error that is more than an error")
    if "X-Request-ID" not in answered:
        found.append("no X-Request-ID")
    return found
