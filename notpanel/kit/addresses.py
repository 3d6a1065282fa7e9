"""The address that a request came from, and the networks that one may be in."""

import ipaddress
import re
from collections.abc import Iterable

from django.conf import settings
from django.http import HttpRequest

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# As some proxies write it: 203.0.113.7:4711, [2001:db8::7]:4711
_WITH_PORT = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+))(?::\d+)?")


def client_address(request: HttpRequest) -> Address | None:
    """Return the address of the client, or None if it has none (a Unix socket).

    X-Forwarded-For is read from its right end, and only as long as the address it was told by is one of
    ``TRUSTED_PROXIES``: what stands further left was written by the client, who may write anything.
    """
    peer = _peer(request)
    hops = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    while hops and _is_trusted(peer) and (hop := _parse(hops.pop())):
        peer = hop
    return peer


def peer_is_trusted(request: HttpRequest) -> bool:
    """Return whether the request reached us through one of ``TRUSTED_PROXIES``."""
    return _is_trusted(_peer(request))


def counted(address: Address | None) -> str:
    """Return what limits count a client by: its address, or for IPv6 the first address of its /64."""
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Address(int(address) >> 64 << 64))
    return str(address)


def is_within(address: Address | None, networks: Iterable[str]) -> bool:
    """Return whether the address is in one of the networks, as CIDR writes them. One that cannot be read holds none."""
    return address is not None and any(
        (network := parse_network(text)) is not None and address in network for text in networks
    )


def parse_network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """Read an address or a network such as ``203.0.113.0/24``, of which host bits are dropped; None if it is none.

    What is IPv4 within IPv6 becomes IPv4, as the address of a client does. The scope of an address (``%eth0``) means
    something on its own machine only: such a one is none.
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


def _peer(request: HttpRequest) -> Address | None:
    return _parse(request.META.get("REMOTE_ADDR", ""))


def _parse(text: str) -> Address | None:
    text = text.strip()
    if match := _WITH_PORT.fullmatch(text):
        text = match[1] or match[2]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_trusted(peer: Address | None) -> bool:
    if peer is None:  # a Unix socket has no address: what speaks there is a proxy on this machine
        return bool(settings.TRUSTED_PROXIES)
    return any(peer in network for network in settings.TRUSTED_PROXIES)
