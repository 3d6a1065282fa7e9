"""Find the address of a client, and tell whether an address is in a network."""

import ipaddress
import re
from collections.abc import Iterable

from django.conf import settings
from django.http import HttpRequest

from notpanel.kit import security_log

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_has_warned = False

# Some proxies add the port: 203.0.113.7:4711, [2001:db8::7]:4711
_MAYBE_WITH_PORT = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+))(?::\d+)?")


def client_address(request: HttpRequest) -> Address | None:
    """Return the address of the client, or None if it has none (a Unix socket).

    Each proxy appends the address that it was called from to X-Forwarded-For. So the header is read from its right
    end, and only while the address read last is one of ``TRUSTED_PROXIES``: anything further left may have been
    written by the client.
    """
    address = _peer(request)
    if not (forwarded := request.META.get("HTTP_X_FORWARDED_FOR")):
        return address
    if not _is_trusted(address):
        _warn_of(address)
        return address
    hops = forwarded.split(",")
    while hops and _is_trusted(address) and (hop := _parse_address(hops.pop())):
        address = hop
    return address


def peer_is_trusted(request: HttpRequest) -> bool:
    """Return whether one of ``TRUSTED_PROXIES`` sent us the request."""
    return _is_trusted(_peer(request))


def counted(address: Address | None) -> str:
    """Return the address that limits count a client by: its own, or the first of its /64 for IPv6.

    An IPv6 client commands a whole /64, and could use a new address for each request.
    """
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Address(int(address) >> 64 << 64))
    return str(address)


def is_within(address: Address | None, networks: Iterable[str]) -> bool:
    """Return whether the address is in one of the networks, written in CIDR notation. Skips malformed networks."""
    return address is not None and any(
        (network := parse_network(text)) is not None and address in network for text in networks
    )


def parse_network(text: str) -> Network | None:
    """Read an address or a network such as ``203.0.113.0/24``. Returns None if ``text`` is neither.

    Drops host bits. Returns IPv4 mapped into IPv6 as IPv4, as ``client_address`` does. An address with a scope
    (``fe80::1%eth0``) counts as malformed: it means something on one machine only.
    """
    try:
        network = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        return None
    if isinstance(network, ipaddress.IPv6Network):
        if network.network_address.scope_id is not None:
            return None
        if network.prefixlen >= 96 and (mapped := network.network_address.ipv4_mapped):
            return ipaddress.IPv4Network((mapped, network.prefixlen - 96))
    return network


def _warn_of(peer: Address | None) -> None:
    """Warn once per process that a proxy may be missing in ``TRUSTED_PROXIES``. Any client may send the header."""
    global _has_warned
    if not _has_warned:
        _has_warned = True
        security_log.report(
            "forwarded_header_untrusted",
            address=str(peer or "a Unix socket"),
            advice="X-Forwarded-For from this address was ignored, because it is not in TRUSTED_PROXIES. If that is "
            "your proxy, all clients behind it count as one address until you add it. This is logged once.",
        )


def _peer(request: HttpRequest) -> Address | None:
    """Return the address at the other end of the connection, or None for a Unix socket."""
    return _parse_address(request.META.get("REMOTE_ADDR", ""))


def _parse_address(text: str) -> Address | None:
    text = text.strip()
    if match := _MAYBE_WITH_PORT.fullmatch(text):
        text = match[1] or match[2]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_trusted(peer: Address | None) -> bool:
    if peer is None:  # only a proxy on this machine calls through a Unix socket
        return bool(settings.TRUSTED_PROXIES)
    return any(peer in network for network in settings.TRUSTED_PROXIES)
