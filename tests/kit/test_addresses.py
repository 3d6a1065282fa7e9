"""The address of a client behind proxies, and networks as staff and customers write them."""

import ipaddress

import pytest
from django.test import RequestFactory

from notpanel.kit import addresses
from notpanel.kit.addresses import client_address, counted, is_within, parse_network, peer_is_trusted


@pytest.fixture(autouse=True)
def _proxies(settings):
    settings.TRUSTED_PROXIES = [ipaddress.ip_network(network) for network in ("10.0.0.0/8", "2001:db8::/32")]


def request(peer, forwarded=None):
    extra = {} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded}
    return RequestFactory().get("/", REMOTE_ADDR=peer, **extra)


def address(peer, forwarded=None):
    return str(client_address(request(peer, forwarded)))


def test_no_proxy_is_trusted_by_default(settings):
    settings.TRUSTED_PROXIES = []

    assert address("10.0.0.1", "203.0.113.7") == "10.0.0.1"


def test_a_trusted_proxy_is_believed():
    assert address("10.0.0.1", "203.0.113.7") == "203.0.113.7"


def test_a_client_cannot_pick_its_own_address():
    assert address("203.0.113.7", "198.51.100.1") == "203.0.113.7"
    assert address("10.0.0.1", "198.51.100.1, 203.0.113.7") == "203.0.113.7"
    assert address("10.0.0.1", "198.51.100.1, 10.9.9.9, 203.0.113.7, 10.0.0.2") == "203.0.113.7"


def test_if_every_hop_is_trusted_the_first_one_is_the_client():
    assert address("10.0.0.1", "10.0.0.3, 10.0.0.2") == "10.0.0.3"


def test_a_malformed_hop_ends_the_chain():
    assert address("10.0.0.1", "198.51.100.1, unknown, 10.0.0.2") == "10.0.0.2"
    assert address("10.0.0.1", "") == "10.0.0.1"
    assert address("10.0.0.1") == "10.0.0.1"


def test_an_ipv4_mapped_address_is_ipv4():
    assert address("::ffff:203.0.113.7") == "203.0.113.7"
    assert address("::ffff:10.0.0.1", "::ffff:203.0.113.7") == "203.0.113.7"


def test_a_unix_socket_is_a_proxy_of_this_machine(settings):
    assert address("", "203.0.113.7") == "203.0.113.7"
    settings.TRUSTED_PROXIES = []
    assert address("", "203.0.113.7") == "None"


@pytest.mark.parametrize(
    ("peer", "expected"),
    [("203.0.113.7", "203.0.113.7"), ("2a00:1:2:3:4:5:6:7", "2a00:1:2:3::"), ("fe80::1%eth0", "fe80::"), ("", "None")],
)
def test_limits_count_an_ipv6_client_by_its_64(settings, peer, expected):
    settings.TRUSTED_PROXIES = []

    assert counted(client_address(request(peer))) == expected


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        ("203.0.113.7:4711", "203.0.113.7"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("2001:db8::7", "2001:db8::7"),
        (" 203.0.113.7 ", "203.0.113.7"),
        ("[::ffff:203.0.113.7]:4711", "203.0.113.7"),
        ("203.0.113.7, 10.0.0.2:4711", "203.0.113.7"),
    ],
)
def test_a_proxy_may_add_the_port(forwarded, expected):
    assert address("10.0.0.1", forwarded) == expected


@pytest.mark.parametrize("forwarded", ["203.0.113.7:", "203.0.113.7:x", "203.0.113.7:1:2", "[203.0.113.7", "1.2.3"])
def test_malformed_text_is_not_an_address(forwarded):
    assert address("10.0.0.1", forwarded) == "10.0.0.1"


def test_the_peer_alone_decides_whether_the_request_came_through_a_proxy():
    assert peer_is_trusted(request("10.0.0.1", "203.0.113.7"))
    assert not peer_is_trusted(request("203.0.113.7", "10.0.0.1"))


def test_a_unix_socket_is_trusted_if_any_proxy_is(settings):
    assert peer_is_trusted(request(""))
    settings.TRUSTED_PROXIES = []
    assert not peer_is_trusted(request(""))


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("203.0.113.7", "203.0.113.7/32"),
        (" 203.0.113.7/24 ", "203.0.113.0/24"),
        ("2001:db8::7", "2001:db8::7/128"),
        ("2001:db8::7/64", "2001:db8::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7/32"),
        ("::ffff:203.0.113.0/120", "203.0.113.0/24"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/95", "::/95"),
    ],
)
def test_text_is_parsed_as_a_network(text, network):
    assert parse_network(text) == ipaddress.ip_network(network)


@pytest.mark.parametrize("text", ["", "example.com", "203.0.113.0/33", "203.0.113", "fe80::1%eth0", "10.0.0.0/8,"])
def test_text_that_is_not_a_network(text):
    assert parse_network(text) is None


def test_an_address_is_within_the_networks_that_hold_it():
    inside, outside = map(ipaddress.ip_address, ("203.0.113.7", "203.0.114.7"))
    networks = ["nonsense", "198.51.100.1", "203.0.113.0/24"]

    assert is_within(inside, networks)
    assert not is_within(outside, networks)
    assert not is_within(ipaddress.ip_address("2001:db8::7"), networks)
    assert not is_within(inside, [])
    assert not is_within(None, ["0.0.0.0/0", "::/0"])


def test_a_proxy_that_is_not_trusted_is_named_once(log, monkeypatch):
    monkeypatch.setattr(addresses, "_has_warned", False)

    address("10.0.0.1", "203.0.113.7")
    address("203.0.113.7")
    assert not log.security
    for peer in ("203.0.113.7", "203.0.113.8"):
        address(peer, "198.51.100.1\nforged")

    [event] = log.security
    assert (event["event"], event["address"]) == ("forwarded_header_untrusted", "203.0.113.7")
    assert "TRUSTED_PROXIES" in event["advice"]
    assert "forged" not in log.text
