"""The outbound client: which addresses it never connects to, and that nothing can mislead it or hold it up."""

import asyncio
import contextlib
import ipaddress
import socket
import sys
import threading
import time

import pytest

from notpanel.kit import outbound
from notpanel.kit.outbound import BadUrl, Client, NoAnswer, is_public, parse_url
from tests.coroutines import run
from tests.receiver import answer, certificates, receiver

NAME = "hooks.example"

# Never connected to, in the forms in which a name server may give them.
FORBIDDEN = [
    *("0.0.0.0", "0.1.2.3", "0.255.255.255", "10.0.0.0", "10.0.0.1", "10.1.2.3", "10.255.255.255"),
    *("100.64.0.0", "100.64.0.1", "100.100.100.200", "100.127.255.255"),
    *("127.0.0.0", "127.0.0.1", "127.0.0.53", "127.1.2.3", "127.255.255.255"),
    *("169.254.0.0", "169.254.169.253", "169.254.169.254", "169.254.170.2", "169.254.255.255"),
    *("172.16.0.0", "172.16.0.1", "172.17.0.1", "172.20.1.1", "172.31.255.255"),
    *("192.0.0.0", "192.0.0.1", "192.0.0.8", "192.0.0.170", "192.0.0.192", "192.0.0.255", "192.0.2.0", "192.0.2.255"),
    *("192.31.196.1", "192.52.193.1", "192.88.99.1", "192.88.99.255", "192.175.48.1"),
    *("192.168.0.0", "192.168.0.1", "192.168.1.1", "192.168.255.255"),
    *("198.18.0.0", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.0", "203.0.113.255"),
    *("224.0.0.0", "224.0.0.1", "224.0.0.251", "239.255.255.250", "239.255.255.255"),
    *("240.0.0.0", "240.0.0.1", "250.1.2.3", "255.255.255.254", "255.255.255.255"),
    *("::", "::1", "::2", "::7f00:1", "::127.0.0.1", "::10.0.0.1", "::8.8.8.8"),
    *("::ffff:0.0.0.0", "::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:10.0.0.1", "::ffff:169.254.169.254"),
    *("::ffff:192.168.1.1", "::ffff:100.64.0.1", "::ffff:8.8.8.8", "::ffff:0:127.0.0.1"),
    *("64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::8.8.8.8", "64:ff9b:1::1"),
    *("64:ff9b:1:ffff::10.0.0.1", "100::1", "100:0:0:1::1", "200::1", "400::1", "1000::1"),
    *("2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:1::1", "2001:2::1", "2001:10::1", "2001:20::1"),
    *("2001:1ff:ffff::1", "2001:db8::1", "2001:db8:ffff::1", "2002::1", "2002:7f00:1::1", "2002:a00:1::1"),
    *("2002:c0a8:101::1", "2620:4f:8000::1", "3fff::1", "3fff:fff::1", "4000::1", "5f00::1", "8000::1", "c000::1"),
    *("fc00::1", "fd00::1", "fd00:ec2::254", "fdff:ffff::1", "fe00::1", "fe80::1", "fe80::1%lo", "febf::1"),
    *("fec0::1", "feff::1", "ff00::1", "ff02::1", "ff05::2", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
]
PUBLIC = [
    *("1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255"),
    *("128.0.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.1", "192.0.3.1"),
    *("192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255"),
    *("2000::1", "2001:200::1", "2001:4860:4860::8888", "2003::1", "2606:4700::1111", "2a00:1450::1", "3ffe::1"),
]

_connected: list[object] = []
_watching = threading.Event()
_others: set[threading.Thread] = set()  # threads of other tests: one may still be looking for its Redis


def _audit(event, arguments):
    if event != "socket.connect" or not _watching.is_set() or threading.current_thread() in _others:
        return
    if arguments[0].family != socket.AF_UNIX:
        _connected.append(arguments[1][0])


sys.addaudithook(_audit)


@pytest.fixture
def connected():
    """Return the addresses to which this process connects from now on, as Python itself reports them."""
    _connected.clear()
    _others.clear()
    _others.update(set(threading.enumerate()) - {threading.current_thread()})
    _watching.set()
    yield _connected
    _watching.clear()


@contextlib.contextmanager
def client(**options):
    client = Client(**options)
    try:
        yield client
    finally:
        client.close()


def post(url, *, body=b"{}", in_all=5.0, **options):
    with client(**options) as each:
        return run(each.post(url, {"Content-Type": "application/json"}, body, in_all=in_all))


def local(address):
    """Treat one address of this machine as public."""
    return address == ipaddress.ip_address("127.0.0.2")


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tls")
    return directory, certificates(directory, NAME)


@pytest.fixture
def hooks(tls):
    """Return a receiver at 127.0.0.2 whose certificate is that of NAME, and the options of a client that reaches it."""
    directory, context = tls
    with receiver("127.0.0.2", tls=directory) as found:
        found.url = found.url.replace("127.0.0.2", NAME)
        yield found, {"resolve": lambda host, port: ["127.0.0.2"], "is_allowed": local, "tls": context}


# ---- Addresses


def test_there_are_enough_forbidden_addresses():
    assert len(set(FORBIDDEN)) >= 100


@pytest.mark.parametrize("address", FORBIDDEN)
def test_a_forbidden_address_is_never_connected_to(address, connected):
    with pytest.raises(NoAnswer, match="not public"):
        post(f"https://{NAME}/", resolve=lambda host, port: [address])

    assert connected == []


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_allowed(address):
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("others", [["1.1.1.1", "127.0.0.1"], ["10.0.0.1", "1.1.1.1"], ["2606:4700::1111", "::1"]])
def test_a_single_address_that_is_not_public_forbids_all(others, connected):
    with pytest.raises(NoAnswer, match="not public"):
        post(f"https://{NAME}/", resolve=lambda host, port: others)

    assert connected == []


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001"),
        *(
            "0",
            "10.0.0.1",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:a9fe:a9fe]",
            "[64:ff9b::7f00:1]",
            "169.254.169.254",
        ),
    ],
)
def test_no_way_of_writing_an_address_leads_inside(host, connected):
    with pytest.raises(NoAnswer, match=r"not public|has no address|not allowed"):
        post(f"https://{host}/")

    assert connected == []


# ---- What connects


def test_the_name_is_in_the_handshake_and_the_host_header(hooks):
    found, options = hooks

    assert post(found.url + "?a=b", body=b'{"a": 1}', **options).status == 204

    [request] = found.got
    assert found.names == [NAME]
    assert request.headers["host"] == found.url.split("/")[2]
    assert (request.path, request.body) == ("/hook?a=b", b'{"a": 1}')


def test_an_answer_of_the_name_server_that_changes_after_the_check_changes_nothing(hooks, monkeypatch, connected):
    """DNS rebinding: the first answer passes the check, every later one is loopback, where a server listens as well."""
    found, options = hooks
    asked = []
    real = socket.getaddrinfo

    def rebinding(host, *args, **kwargs):
        if host != NAME:
            return real(host, *args, **kwargs)
        asked.append(host)
        return real("127.0.0.2" if len(asked) == 1 else "127.0.0.1", *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    with receiver(port=int(found.url.split(":")[2].split("/")[0])) as inside:
        status = post(found.url, is_allowed=local, tls=options["tls"]).status

    assert (status, asked, connected) == (204, [NAME], ["127.0.0.2"])
    assert inside.connections == 0


def test_the_address_is_looked_up_and_checked_at_each_request(hooks):
    found, options = hooks
    answers = iter([["127.0.0.2"], ["127.0.0.1"]])
    options["resolve"] = lambda host, port: next(answers)

    with client(**options) as each:
        assert run(each.post(found.url, {}, b"")).status == 204
        with pytest.raises(NoAnswer, match="not public"):
            run(each.post(found.url, {}, b""))

    assert len(found.got) == 1


def test_a_certificate_of_another_name_is_refused(hooks):
    found, options = hooks

    with pytest.raises(NoAnswer, match="certificate is not valid"):
        post(found.url.replace(NAME, "other.example"), **options)

    assert found.got == []


def test_a_certificate_of_an_unknown_authority_is_refused(hooks):
    found, options = hooks
    del options["tls"]

    with pytest.raises(NoAnswer, match="certificate is not valid"):
        post(found.url, **options)


def test_the_next_address_is_tried_when_one_does_not_answer(hooks):
    found, options = hooks
    options |= {"resolve": lambda host, port: ["127.0.0.3", "127.0.0.2"], "is_allowed": lambda address: True}

    assert post(found.url, **options).status == 204


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(hooks, status, connected):
    found, options = hooks
    with receiver() as inside:
        found.answer = answer(status, Location=inside.url)

        assert post(found.url, **options).status == status

    assert (inside.connections, connected) == (0, ["127.0.0.2"])


# ---- How long and how much


def stalling(*pieces, pause=30.0):
    def write(handler):
        for piece in pieces:
            handler.wfile.write(piece)
            handler.wfile.flush()
        time.sleep(pause)

    return write


def dripping(handler):
    with contextlib.suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            handler.wfile.write(b"X: y\r\n")
            time.sleep(0.05)


@pytest.mark.parametrize("behaviour", [stalling(), stalling(b"HTTP/1.1 200"), dripping])
def test_the_whole_exchange_has_one_deadline(hooks, behaviour):
    found, options = hooks
    found.answer = behaviour
    begun = time.monotonic()

    with pytest.raises(NoAnswer, match="no answer within"):
        post(found.url, in_all=0.5, **options)

    assert time.monotonic() - begun < 2


def test_a_look_up_that_hangs_ends_with_the_deadline():
    asked = threading.Event()
    begun = time.monotonic()

    with client(resolve=lambda host, port: asked.wait(3) and []) as each:
        with pytest.raises(NoAnswer, match="no answer within"):
            run(each.post(f"https://{NAME}/", {}, b"", in_all=0.3))
        assert time.monotonic() - begun < 2
        asked.set()


def test_a_handshake_that_hangs_ends_with_the_deadline(hooks):
    _, options = hooks
    with socket.create_server(("127.0.0.2", 0)) as silent, pytest.raises(NoAnswer, match="no answer within"):
        post(f"https://{NAME}:{silent.getsockname()[1]}/", in_all=0.5, **options)


def test_the_status_counts_even_if_the_body_never_ends(hooks):
    found, options = hooks
    found.answer = stalling(b"HTTP/1.1 202 Accepted\r\nContent-Length: 10\r\n\r\nhello")

    found_answer = post(found.url, in_all=0.5, **options)

    assert (found_answer.status, found_answer.body) == (202, b"hello")


def test_only_the_beginning_of_a_long_answer_is_read(hooks):
    found, options = hooks
    found.answer = answer(500, b"x" * 5_000_000)

    found_answer = post(found.url, **options)

    assert found_answer.status == 500
    assert 32 * 1024 < len(found_answer.body) <= outbound.LARGEST_ANSWER


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"", "closed before"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000, "not HTTP|too long"),
    ],
)
def test_what_is_not_an_answer_is_explained(hooks, sent, words):
    found, options = hooks
    found.answer = stalling(sent, pause=0)

    with pytest.raises(NoAnswer, match=words):
        post(found.url, **options)


def test_a_port_where_nobody_listens():
    with socket.create_server(("127.0.0.2", 0)) as taken:
        port = taken.getsockname()[1]

    with pytest.raises(NoAnswer, match="No connection"):
        post(f"https://{NAME}:{port}/", resolve=lambda host, port: ["127.0.0.2"], is_allowed=local)


# ---- URLs


@pytest.mark.parametrize(
    "url",
    [
        *("http://hooks.example/", "ftp://hooks.example/", "//hooks.example/", "hooks.example", "", "https:///x"),
        *("https://user@hooks.example/", "https://user:word@hooks.example/", "https://@hooks.example/"),
        *("https://hooks.example:22/", "https://hooks.example:80/", "https://hooks.example:1023/"),
        *("https://hooks.example:0/", "https://hooks.example:65536/", "https://hooks.example:x/"),
        *("https://hooks.example/#part", "https://hooks.example/a b", "https://hooks.example\\@inside/"),
        *("https://hooks.example/\r\nX: y", "https://hooks\t.example/", "https://häuser.example/", "https://a..b/"),
        *("https://[::1/", "https://[hooks.example]/", "https://[fe80::1%25lo]/", "https://%31%32%37.0.0.1/"),
        *("https://hooks.example./", "https://" + "a" * 64 + ".example/", "https://hooks.example/" + "x" * 500),
    ],
)
def test_a_url_that_is_never_requested(url):
    with pytest.raises(BadUrl):
        parse_url(url)


@pytest.mark.parametrize(
    ("url", "authority", "path"),
    [
        ("https://hooks.example", "hooks.example", "/"),
        ("https://HOOKS.example:443/a?b=c&d", "hooks.example", "/a?b=c&d"),
        ("https://xn--hser-loa.example:8443/", "xn--hser-loa.example:8443", "/"),
        ("https://[2606:4700::1111]:1024/", "[2606:4700::1111]:1024", "/"),
        ("https://a_b.example/?", "a_b.example", "/"),
    ],
)
def test_a_url_that_is_requested(url, authority, path):
    target = parse_url(url)

    assert (target.authority, target.path) == (authority, path)


# ---- Loopback, for demonstrations


def test_http_leads_to_this_machine_if_it_is_switched_on():
    with receiver() as found:
        assert post(found.url, loopback=True).status == 204
        with pytest.raises(NoAnswer, match="not allowed"):
            post(found.url)

    assert len(found.got) == 1


@pytest.mark.parametrize("addresses", [["1.1.1.1"], ["10.0.0.1"], ["169.254.169.254"], ["127.0.0.1", "10.0.0.1"]])
def test_http_leads_nowhere_else(addresses, connected):
    with pytest.raises(NoAnswer, match="not public"):
        post("http://hooks.example/", loopback=True, resolve=lambda host, port: addresses)

    assert connected == []


# ---- Through a proxy


@contextlib.contextmanager
def proxy(status=200):
    """Run a proxy that takes CONNECT. Yields its URL, and the heads of the requests that it got."""
    heads = []

    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        heads.append(head.decode())
        address, _, port = head.split()[1].decode().rpartition(":")
        writer.write(f"HTTP/1.1 {status} Whatever\r\n\r\n".encode())
        if status != 200:
            writer.close()
            return
        theirs = await asyncio.open_connection(address, int(port))

        async def pipe(source, sink):
            while piece := await source.read(4096):
                sink.write(piece)
            sink.close()

        with contextlib.suppress(OSError):
            await asyncio.gather(pipe(reader, theirs[1]), pipe(theirs[0], writer))

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(asyncio.start_server(serve, "127.0.0.1", 0), loop).result()
    try:
        yield server.sockets[0].getsockname()[1], heads
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def test_a_proxy_is_told_the_address_that_was_checked(hooks, connected):
    found, options = hooks
    with proxy() as (port, heads):
        assert post(found.url, proxy=f"http://us:p%40ss@127.0.0.1:{port}", **options).status == 204

    lines = heads[0].split("\r\n")
    assert lines[0] == f"CONNECT 127.0.0.2:{found.url.split(':')[2].split('/')[0]} HTTP/1.1"
    assert "Proxy-Authorization: Basic dXM6cEBzcw==" in lines
    assert found.names == [NAME]


def test_a_proxy_does_not_replace_the_check(connected):
    with pytest.raises(NoAnswer, match="not public"):
        post(f"https://{NAME}/", proxy="http://127.0.0.1:9", resolve=lambda host, port: ["10.0.0.1"])

    assert connected == []


def test_a_proxy_that_refuses(hooks):
    found, options = hooks
    with proxy(403) as (port, _), pytest.raises(NoAnswer, match="No connection"):
        post(found.url, proxy=f"http://127.0.0.1:{port}", **options)
