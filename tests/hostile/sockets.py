"""Hostile connections to a running server: bytes that are hardly HTTP, in pieces, broken off, or left unread.

``Attack`` draws them; ``problems`` makes one and says what is wrong with the answers.
"""

import json
import random
import re
import socket
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tests.hostile.requests import FORM, RAW_KEY, UNFINISHED

KEY = RAW_KEY.encode()
T = TypeVar("T")
_TIMEOUT = 60  # seconds without a byte of an answer

_FORM = f"key={RAW_KEY}&action=".encode()
_BODIES = [_FORM + b"services", _FORM + b"status&order=1", _FORM + b"refill&orders=1,2,3", b"", b"x" * 70_000]
_PATHS = [
    b"/api/v2",
    b"/api/v2/",
    b"//api/v2",
    b"/API/V2",
    b"/api/v2?key=" + KEY,
    b"/api/v2/" + KEY,
    b"/api/%00%0d%0a",
    b"/api/%FF%ed%a0%80",
    b"http://localhost/api/v2",
    b"http://evil.example/api/v2",
    b"http://[::1/api/v2",
    b"http://" + KEY + b"@x/api/v2",
    b"api/v2",
    b"/./api/v2",
    b"/api/../api/v2",
    b"/api/v2#" + KEY,
    b"/api/v2;" + KEY,
    b"/api/" + b"a" * 9000,
    b"/api/v2?" + b"a=1&" * 9000,
    b"/api/" + b"%41" * 30_000,
    b"/api/v2?x=" + KEY * 7000,
]
_METHODS = [
    b"POST",
    b"GET",
    b"HEAD",
    b"OPTIONS",
    b"post",
    b"P\0ST",
    b"PRI",
    b"TRACE",
    KEY,
    b"",
    b"POST POST",
    b"\x16\x03\x01",
]
_VERSIONS = [
    b" HTTP/1.1",
    b" HTTP/1.0",
    b"",
    b" HTTP/0.9",
    b" HTTP/2.0",
    b" HTTP/1.10",
    b" http/1.1",
    b" HTTP/1.1 " + KEY,
    b" HTTPS/1.1",
]
_ENDS = [b"\r\n", b"\n", b"\r", b"\r\r\n", b"\0\r\n"]
_HEADERS = [
    b"X-Long: " + KEY * 1000,
    b"X-Huge: " + b"a" * 270_000,
    b"X_Forwarded_For: 10.0.0.1",
    b"Content_Length: 5",
    b"X-Forwarded-For: " + KEY,
    b"X-Request-ID: " + KEY,
    b"Authorization: Bearer " + KEY,
    b"Cookie: sessionid=" + KEY,
    b"Folded: a\r\n " + KEY,
    b" Folded-first: " + KEY,
    b"Nul: a\0" + KEY,
    b"Control: \x01\x7f\x1b[2J" + KEY,
    b"No colon " + KEY,
    b": no name " + KEY,
    b"Blank before : " + KEY,
    KEY + b": a",
    b"B\xe9: \xff\xfe",
    b"Host: localhost",
    b"Host: evil.example",
    b"Host: " + KEY,
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: Upgrade, HTTP2-Settings",
    b"Upgrade: h2c",
    b"Expect: 100-continue",
    b"Expect: " + KEY,
    b"Expect: 200-maybe",
    b"Content-Encoding: gzip",
    b"Content-Type: " + KEY,
    b"Content-Type: multipart/form-data; boundary=" + KEY,
    b"Content-Type: application/x-www-form-urlencoded; charset=zip",
    b"Range: bytes=0-",
    b"If-None-Match: *",
    b"TE: trailers",
    b"Trailer: Host",
    b"X-Forwarded-Proto: https",
    b"SCRIPT_NAME: /x",
    *[b"X-Many-%d: 1" % number for number in range(3)],
    b"\r\n".join([b"X: 1"] * 2000),
    b"Proxy: http://" + KEY,
]
_LENGTHS: list[Callable[[bytes], bytes]] = [
    lambda body: b"Content-Length: %d" % len(body),
    lambda body: b"Content-Length: %d\r\nContent-Length: %d" % (len(body), len(body)),
    lambda body: b"Content-Length: %d\r\nContent-Length: %d" % (len(body), len(body) + 1),
    lambda body: b"Content-Length: +%d" % len(body),
    lambda body: b"Content-Length: -1",
    lambda body: b"Content-Length: 0x10",
    lambda body: b"Content-Length: " + KEY,
    lambda body: b"Content-Length: " + b"9" * 5000,
    lambda body: b"Content-Length: 99999999999",
    lambda body: b"Content-Length: 5_0",
    lambda body: b"Content-Length:",
    lambda body: b"",
    lambda body: b"Content-Length: %d\r\nTransfer-Encoding: chunked" % len(body),
    lambda body: b"Transfer-Encoding: chunked\r\nContent-Length: %d" % len(body),
    lambda body: b"Content-Length: %d\r\nTransfer-Encoding: identity" % len(body),
    lambda body: b"Transfer-Encoding: chunked",
    lambda body: b"Transfer-Encoding: gzip, chunked",
    lambda body: b"Transfer-Encoding: chunked, " + KEY,
    lambda body: b"Transfer-Encoding: \x0bchunked",
    lambda body: b"Transfer-Encoding : chunked",
]
_CHUNKED = b"Transfer-Encoding: chunked"
_CHUNKS: list[Callable[[bytes], bytes]] = [
    lambda body: b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body),
    lambda body: b"%x\r\n%b0\r\n\r\n" % (len(body), body),
    lambda body: b"%x;a=%b\r\n%b\r\n0\r\n\r\n" % (len(body), KEY, body),
    lambda body: b"%x;%b" % (len(body), KEY * 100),
    lambda body: b"-5\r\n" + body,
    lambda body: b"0x5\r\n" + body,
    lambda body: KEY + b"\r\n" + body,
    lambda body: b"f" * 200 + b"\r\n" + body,
    lambda body: b"\r\n\r\n" + body,
    lambda body: b"%x\r\n%b\r\n0\r\nX: %b\r\n\r\n" % (len(body), body, KEY),
    lambda body: b"%x\r\n%b\r\n0\r\n%b" % (len(body), body, b"X: 1\r\n" * 3000),
    lambda body: b"%x\n%b\n0\n\n" % (len(body), body),
    lambda body: body,
]


@dataclass(frozen=True)
class Attack:
    """The bytes of a connection, the pieces in which they are sent, and how it ends.

    ``ending`` is "half" (says that it sends no more, and reads on), "reset" or "close" (without reading anything).
    """

    sent: bytes
    pieces: int
    ending: str

    @classmethod
    def draw(cls, chance: random.Random) -> "Attack":
        """Return an attack that ``chance`` chooses."""
        requests = b"".join(_request(chance) for _ in range(chance.choice([1, 1, 1, 1, 2, 3])))
        match chance.randrange(10):
            case 0:
                requests = _breaks_off(chance)
            case 1:  # damaged somewhere, but not in its address, which would lead to another page
                requests = _request(chance)
                at = chance.randrange(requests.index(b"\n"), len(requests) + 1)
                requests = requests[:at] + chance.randbytes(chance.randrange(1, 5)) + requests[at + 2 :]
            case 2:
                requests = requests[: chance.randrange(len(requests) + 1)].replace(b"orders=1,2,3", b"orders=")
            case 3 if chance.random() < 0.3:
                requests = chance.randbytes(chance.randrange(300))
        ending = chance.choice(["half"] * 8 + ["reset", "close"])
        return cls(requests, chance.choice([1, 1, 1, 2, 7]), ending)


def _request(chance: random.Random) -> bytes:
    """Return a request with a fault or two. The first item of each list is the correct one."""
    faults = chance.sample(
        ["method", "path", "version", "length", "chunks", "end", "header", "header"], chance.choice([0, 1, 1, 2])
    )

    def choose(values: Sequence[T], fault: str) -> T:
        return chance.choice(values) if fault in faults else values[0]

    body = chance.choice(_BODIES)
    length = _CHUNKED if "chunks" in faults else choose(_LENGTHS, "length")(body)
    if _CHUNKED in length:
        body = choose(_CHUNKS, "chunks")(body)
    first = choose(_METHODS, "method") + b" " + choose(_PATHS, "path") + choose(_VERSIONS, "version")
    headers = [b"Host: localhost", b"Content-Type: " + FORM.encode(), *([length] if length else [])]
    headers += chance.sample(_HEADERS, 2 * faults.count("header"))
    chance.shuffle(headers)
    lines = [first, *headers]
    ends = [_ENDS[0]] * len(lines)
    ends[chance.randrange(len(lines))] = choose(_ENDS, "end")
    return b"".join(line + end for line, end in zip(lines, ends, strict=True)) + b"\r\n" + body


def _breaks_off(chance: random.Random) -> bytes:
    """Return a request for a refill that its client does not finish."""
    body = _FORM + b"refill&order=%d" % UNFINISHED
    if chance.random() < 0.5:
        end = b"Content-Length: %d\r\n\r\n%b" % (len(body) + chance.randrange(1, 50), body)
    else:
        end = _CHUNKED + b"\r\n\r\n%x\r\n%b" % (len(body), body)
        end += chance.choice([b"", b"\r\n", b"\r\n0", b"\r\n0\r\n", b"\r\n5\r\nx"])
    return b"POST /api/v2 HTTP/1.1\r\nHost: localhost\r\nContent-Type: " + FORM.encode() + b"\r\n" + end


def problems(attack: Attack, port: int, statuses: Counter[int]) -> list[str]:
    """Make an attack on the server at ``port``, and count its answers by status. Returns what is wrong with them."""
    received = b""
    is_closed = True
    with socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT) as connection:
        try:
            size = len(attack.sent) // attack.pieces + 1
            for at in range(0, len(attack.sent), size):
                connection.sendall(attack.sent[at : at + size])
            if attack.ending == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if attack.ending != "half":
                return []
            connection.shutdown(socket.SHUT_WR)
        except ConnectionError:
            pass  # the server has refused it, and has answered
        try:
            while data := connection.recv(65_536):
                received += data
        except ConnectionError:
            pass
        except TimeoutError:
            is_closed = False
    found = [] if is_closed else ["no end"]
    if KEY in received:
        found.append("a key in the answer")
    is_asked = bool(attack.sent.lstrip())
    if is_asked and not received:
        found.append("no answer")
    while received:
        header, is_whole, rest = received.partition(b"\r\n\r\n")
        first, *lines = header.decode("latin-1").split("\r\n")
        if not is_whole or not re.fullmatch(r"HTTP/1\.[01] \d{3} [A-Za-z -]+", first):
            return [*found, f"an answer that is no HTTP: {received[:300]!r}"]
        status = int(first.split()[1])
        if status == 100:
            received = rest
            continue
        statuses[status] += 1
        answered = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        length = int(answered.get("content-length", 0))
        # The answer to HEAD has a length and no content; it ends the connection, or another answer follows.
        body = b"" if rest[:5] in (b"", b"HTTP/") else rest[:length]
        received = rest[len(body) :]
        found += _wrong(status, answered, body)
    return found


def _wrong(status: int, answered: dict[str, str], body: bytes) -> list[str]:
    found = []
    if status >= 500 and answered.get("x-error-code") != "unsupported_transfer_encoding":
        found.append(f"status {status}")
    if status != 304 and answered.get("content-type") != "application/json":
        found.append(f"Content-Type {answered.get('content-type')}")
    elif status >= 400 and body and set(json.loads(body)) != {"error"}:
        found.append("an error that is more than an error")
    if "x-request-id" not in answered:
        found.append("no X-Request-ID")
    if status >= 400 and "x-error-code" not in answered:
        found.append("no X-Error-Code")
    return found
