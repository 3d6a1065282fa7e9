"""POST to addresses that strangers choose, so that nothing inside our network can be reached through us.

The host is resolved anew for each request. Every address that it has must be public, and the connection is made to an
address that was checked: no second look-up can lead elsewhere. Redirects are not followed, the whole exchange has a
deadline, and only the beginning of the answer is read.
"""

import asyncio
import base64
import contextlib
import functools
import ipaddress
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

import certifi
import h11

from notpanel.kit.addresses import Address

IN_ALL = 10.0  # seconds for the look-up, the connection, the request and the answer together
CONNECTING = 4.0  # of them for one of several addresses
LARGEST_ANSWER = 64 * 1024  # bytes that are read, headers included
LONGEST_URL = 500  # characters
_LOOKUPS = 64  # at once; a name server that does not answer holds one of them for a long time
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*")

# What is not public although it looks like it, by IANA's registries of special-purpose addresses. Written out, because
# ``is_global`` differs between the releases of Python.
_SPECIAL_IPV4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # carrier-grade NAT
            "127.0.0.0/8",  # loopback
            "169.254.0.0/16",  # link-local, with the metadata of clouds
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocol assignments
            "192.0.2.0/24",  # documentation
            "192.31.196.0/24",  # AS112
            "192.52.193.0/24",  # AMT
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",  # private
            "192.175.48.0/24",  # AS112
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/3",  # multicast, reserved, broadcast
        ),
    )
)
# All of IPv6 that is assigned to the public. Outside are loopback, link-local, unique local and site-local addresses,
# multicast, IPv4 in its mapped and compatible forms, and both prefixes of NAT64.
_PUBLIC_IPV6 = ipaddress.IPv6Network("2000::/3")
_SPECIAL_IPV6 = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4, which holds an IPv4 address
            "2620:4f:8000::/48",  # AS112
            "3fff::/20",  # documentation
        ),
    )
)


class BadUrl(ValueError):
    """A URL that is never requested. The text says what is wrong with it."""


class NoAnswer(Exception):
    """There was no answer. The text says why, and reveals nothing about our own network."""


@dataclass(frozen=True)
class Target:
    """Where a request goes, as its URL says."""

    scheme: str
    host: str
    port: int
    path: str  # with the query

    @property
    def authority(self) -> str:
        """Return the value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True)
class Answer:
    """What came back: the status, the headers by their names in lower case, and the beginning of the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


_PORTS = {"https": 443, "http": 80}

Resolve = Callable[[str, int], Sequence[str]]


def parse_url(url: str, *, loopback: bool = False) -> Target:
    """Return where a URL leads. Raises BadUrl.

    ``loopback`` also allows http, which then may lead to this machine alone.
    """
    if len(url) > LONGEST_URL or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise BadUrl(f"it must have {LONGEST_URL} visible ASCII characters at most")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise BadUrl("it cannot be read") from error
    if parts.scheme not in ({"https", "http"} if loopback else {"https"}):
        raise BadUrl("it must begin with https://")
    if parts.username is not None or parts.password is not None:
        raise BadUrl("it must not have a user name or a password")
    if "#" in url:
        raise BadUrl("it must not have a fragment")
    if not (_is_ipv6(host) if "[" in parts.netloc else _HOST.fullmatch(host)):
        raise BadUrl("it must name a host")
    port = _PORTS[parts.scheme] if port is None else port
    if not (port == _PORTS[parts.scheme] or 1024 <= port <= 65535):
        raise BadUrl("its port must be 443, or 1024 or above")
    return Target(parts.scheme, host, port, f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}")


def check_written_address(target: Target) -> None:
    """Raise BadUrl if the host is an address that is never connected to. Names are looked up when connecting."""
    try:
        address = ipaddress.ip_address(target.host)
    except ValueError:
        return
    if not (is_public(address) if target.scheme == "https" else _is_loopback(address)):
        raise BadUrl("it must lead to a public address")


def is_public(address: Address) -> bool:
    """Return whether the address, in the form in which it is connected to, belongs to the public internet."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _SPECIAL_IPV4)
    if address.scope_id is not None or address not in _PUBLIC_IPV6:
        return False
    return not any(address in network for network in _SPECIAL_IPV6)


def system_resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host, in the order in which to try them. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


@functools.cache
def _public_authorities() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certifi.where())


@dataclass
class Client:
    """Sends requests. ``proxy`` is the URL of a proxy that takes CONNECT; ``loopback`` also lets http to this machine.

    Close it when it is no longer needed.
    """

    proxy: str = ""
    loopback: bool = False
    resolve: Resolve = system_resolve
    is_allowed: Callable[[Address], bool] = is_public
    tls: ssl.SSLContext = field(default_factory=_public_authorities)

    def __post_init__(self) -> None:
        # Threads of its own, because a look-up cannot be cancelled: it must keep no other work waiting.
        self._lookups = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="lookup")

    def close(self) -> None:
        self._lookups.shutdown(wait=False, cancel_futures=True)

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, *, in_all: float = IN_ALL) -> Answer:
        """Send a request and return its answer. Raises NoAnswer, also if the URL is not, or no longer, allowed."""
        try:
            target = parse_url(url, loopback=self.loopback)
        except BadUrl as error:
            raise NoAnswer(f"The URL is not allowed: {error}.") from error
        exchange = _Exchange()
        try:
            async with asyncio.timeout(in_all):
                addresses = await self._checked_addresses(target)
                async with self._connected(target, addresses) as (reader, writer):
                    await exchange.run(reader, writer, _request(target, headers, body), body)
        except TimeoutError:
            if not exchange.head:
                raise NoAnswer(f"There was no answer within {in_all:.0f} seconds.") from None
        except ssl.SSLCertVerificationError as error:
            raise NoAnswer(f"The certificate is not valid: {error.verify_message}.") from error
        except ssl.SSLError as error:
            raise NoAnswer("The encrypted connection failed.") from error
        except (OSError, EOFError) as error:
            if not exchange.head:
                raise NoAnswer("The connection was closed before there was an answer.") from error
        except h11.RemoteProtocolError as error:
            if not exchange.head:
                raise NoAnswer("The answer is not HTTP.") from error
        # Once the status is known, what goes wrong with the body changes nothing.
        return exchange.answer()

    async def _checked_addresses(self, target: Target) -> list[str]:
        """Look the host up. Returns its addresses, all of which may be connected to. Raises NoAnswer."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._lookups, self.resolve, target.host, target.port)
            addresses = [ipaddress.ip_address(text) for text in found]
        except (OSError, ValueError) as error:  # an invalid name raises UnicodeError, a ValueError
            raise NoAnswer("The host name has no address.") from error
        if not addresses:
            raise NoAnswer("The host name has no address.")
        is_allowed = self.is_allowed if target.scheme == "https" else _is_loopback
        if not all(is_allowed(address) for address in addresses):
            raise NoAnswer("The host name has an address that is not public.")
        return [str(address) for address in addresses]

    @contextlib.asynccontextmanager
    async def _connected(
        self, target: Target, addresses: Sequence[str]
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Connect to the first of ``addresses`` that takes the connection."""
        connect = self._connect_through_proxy if self.proxy and target.scheme == "https" else _connect
        reader, writer = await _first(connect, addresses, target.port)
        try:
            if target.scheme == "https":
                await writer.start_tls(self.tls, server_hostname=target.host)
            yield reader, writer
        finally:
            writer.transport.abort()  # nothing is left to say; waiting for a polite end would take a peer's time

    async def _connect_through_proxy(
        self, address: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        proxy = urlsplit(self.proxy)
        reader, writer = await _connect(proxy.hostname or "", proxy.port or 3128)
        authority = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        headers = [("Host", authority)]
        if proxy.username is not None:
            credentials = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
            headers.append(("Proxy-Authorization", f"Basic {base64.b64encode(credentials).decode()}"))
        request = h11.Request(method="CONNECT", target=authority, headers=headers)
        exchange = _Exchange()
        try:
            await exchange.run(reader, writer, request, b"", only_head=True)
            if not 200 <= exchange.answer().status < 300:
                raise ConnectionRefusedError
        except BaseException:
            writer.transport.abort()
            raise
        return reader, writer


def _is_loopback(address: Address) -> bool:
    return address.is_loopback


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.IPv6Address(text).scope_id is None
    except ValueError:
        return False


async def _connect(address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(address, port, limit=LARGEST_ANSWER)


async def _first(
    connect: Callable[[str, int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]],
    addresses: Sequence[str],
    port: int,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    for address in addresses[:-1]:
        with contextlib.suppress(OSError):  # TimeoutError is one
            async with asyncio.timeout(CONNECTING):
                return await connect(address, port)
    try:
        return await connect(addresses[-1], port)
    except TimeoutError:
        raise
    except (OSError, h11.RemoteProtocolError) as error:
        raise NoAnswer("No connection could be made.") from error


def _request(target: Target, headers: Mapping[str, str], body: bytes) -> h11.Request:
    own = {
        "Host": target.authority,
        "User-Agent": "NotPanel",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    return h11.Request(method="POST", target=target.path, headers=[*own.items(), *headers.items()])


class _Exchange:
    """One request and what is read of its answer."""

    def __init__(self) -> None:
        self.head: h11.Response | None = None
        self.body = b""

    async def run(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        request: h11.Request,
        body: bytes,
        *,
        only_head: bool = False,
    ) -> None:
        """Send the request, and read until the answer ends, or LARGEST_ANSWER bytes were read."""
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=LARGEST_ANSWER)
        for event in (request, h11.Data(data=body), h11.EndOfMessage()):
            writer.write(http.send(event) or b"")
        await writer.drain()
        left = LARGEST_ANSWER
        while True:
            match http.next_event():
                case h11.NEED_DATA:
                    if not left:
                        return
                    piece = await reader.read(min(left, 16 * 1024))
                    if not piece and left == LARGEST_ANSWER:
                        raise EOFError
                    left -= len(piece)
                    http.receive_data(piece)
                case h11.Response() as response:
                    self.head = response
                    if only_head:
                        return
                case h11.Data(data=data):
                    self.body += data
                case h11.EndOfMessage() | h11.ConnectionClosed() | h11.PAUSED:
                    return

    def answer(self) -> Answer:
        """Return what was read. Raises NoAnswer if that is less than a whole head."""
        if self.head is None:
            raise NoAnswer("The answer is too long to be read.")
        headers = {name.decode().lower(): value.decode("latin-1") for name, value in self.head.headers}
        return Answer(self.head.status_code, headers, self.body)
