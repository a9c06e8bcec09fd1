"""The client for other services: what it refuses, what it says when a call fails, what it never does."""

import asyncio
import gzip
import re
import socket
import ssl
import struct
import subprocess
import sys
import tracemalloc
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress

import pytest
import trustme
import uvloop
from aiohttp import AsyncResolver
from aiohttp.abc import AbstractResolver

from app.core.database.migrations import ROOT
from app.core.http_client import protocol
from app.core.http_client.addresses import LONGEST_URL, is_public, malformed, refusal
from app.core.http_client.client import HttpClient
from app.core.http_client.protocol import Request
from app.runtime import open_runtime

PUBLIC = "93.184.215.14"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
NEVER = 60.0
OUTSIDE = pytest.mark.filterwarnings("ignore:A test tried to use")
"""For tests that try a public address, which their own net then blocks."""


class Server:
    """Answers each request with what the test says, and remembers what it saw."""

    def __init__(self, answer=OK):
        self.answer = answer
        self.connections = 0
        self.requests = []
        self.ended = asyncio.Queue()
        self.port = 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/"

    async def serve(self, reader, writer):
        self.connections += 1
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                length = int((re.search(r"content-length: (\d+)", head.lower()) or ["", "0"])[1])
                self.requests.append((head, await reader.readexactly(length)))
                if callable(self.answer):
                    await self.answer(writer)
                else:
                    writer.write(self.answer)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            self.ended.put_nowait(True)


@asynccontextmanager
async def running(server, host="127.0.0.1", tls=None):
    listening = await asyncio.start_server(server.serve, host, 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()


@pytest.fixture
async def serving():
    """Starts servers of the test's own."""
    async with AsyncExitStack() as stack:

        async def start(answer=OK, **options):
            return await stack.enter_async_context(running(Server(answer), **options))

        yield start


@pytest.fixture
async def client():
    """Makes clients; they are closed before the servers."""
    made = []

    def make(**options):
        made.append(HttpClient(**{"allow_private_addresses": False, **options}))
        return made[-1]

    yield make
    for each in made:
        await each.close()


class Names(AbstractResolver):
    """Answers each look-up with the next list of addresses, the last one for ever."""

    def __init__(self, *answers):
        self._answers = list(answers)

    async def resolve(self, host, port=0, family=socket.AF_UNSPEC):
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [
            {"hostname": host, "host": each, "port": port, "family": family, "proto": 0, "flags": 0} for each in answer
        ]

    async def close(self):
        pass


class NameServer(asyncio.DatagramProtocol):
    """A DNS server: `fast` names are at 127.0.0.1, `no` names do not exist, all others are never answered."""

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, place):
        name, end = [], 12
        while data[end]:
            name.append(data[end + 1 : end + 1 + data[end]])
            end += 1 + data[end]
        question = data[12 : end + 5]
        if name[0] not in {b"fast", b"no"}:
            return
        is_a = name[0] == b"fast" and struct.unpack("!H", question[-4:-2])[0] == 1
        head = data[:2] + struct.pack("!HHHHH", 0x8580 if name[0] == b"fast" else 0x8583, 1, int(is_a), 0, 0)
        record = struct.pack("!HHHIH4B", 0xC00C, 1, 1, 60, 4, 127, 0, 0, 1) if is_a else b""
        self.transport.sendto(head + question + record, place)


@pytest.fixture
async def name_server():
    """Makes a resolver that asks it."""
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(NameServer, local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    yield lambda: AsyncResolver(nameservers=["127.0.0.1"], udp_port=port, lookups="b")
    transport.close()


def post(url, **changes):
    return Request(**{"method": "POST", "url": url, "body": b"{}", "timeout": NEVER, **changes})


# What is public


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", PUBLIC, "100.63.255.255", "172.32.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1"],
)
def test_public_addresses_are_told(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254"),
        *("168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1"),
        *("192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1"),
        *("255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "::ffff:0:127.0.0.1"),
        *("64:ff9b::10.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1", "100::1", "2001::1", "2001:0:7f00:1::", "2001:2::1"),
        *("2001:db8::1", "2002:7f00:1::", "2002:101:101::", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254"),
        *("fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "4000::1"),
        *("", "localhost", "2130706433", "0x7f.1", "127.1", "0177.0.0.1", "1.1.1.1.", "1.1.1.1%1", " 1.1.1.1"),
    ],
)
def test_all_other_addresses_are_told(address):
    assert not is_public(address)


# What a caller may give


@pytest.mark.parametrize(
    "url",
    [
        *("https://example.com", "http://example.com:8080/a?b=%20c", "https://1.1.1.1/", "https://[2606:4700::1111]/"),
        *(
            "https://xn--bcher-kva.example/",
            "https://0xcafe.example/",
            "https://EXAMPLE.com./",
            "https://a.b/" + "c" * (LONGEST_URL - 12),
        ),
    ],
)
def test_a_public_url_is_taken(url):
    assert refusal(url, allow_private=False) is None


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("https://a.b/" + "c" * LONGEST_URL, "2048"),
        *((f"{scheme}//example.com/", "http://") for scheme in ("ftp:", "file:", "gopher:", "")),
        *(
            (url, "host")
            for url in ("http://", "http:///x", "http://:80/", "http://h:0/", "http://h:65536/", "http://[::1")
        ),
        *(
            (f"http://{host}/", "by its name or address")
            for host in ("127.0.0.%31", "%6cocalhost", ".com", "a..b", "a" * 64, "a." * 127 + "b", "[v1.x]", "a$b")
        ),
        *((url, "password") for url in ("http://me@example.com/", "http://me:secret@example.com/", "http://@h/")),
        ("https://example.com/#part", "fragment"),
        *((f"http://exa{sign}mple.com/", "ASCII") for sign in " \t\n\0\\\u00e9\uff0e"),
        *(
            (f"http://{host}/", "four decimal")
            for host in ("2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1")
        ),
        *((f"http://{host}/", "four decimal") for host in ("2130706433", "0x7f000001", "0x7f.1", "0")),
        *((f"http://{host}/", "four decimal") for host in ("0177.0.0.1", "127.1", "127.0.0.1.", "1.1.1.256")),
        *((f"http://{host}/", "four decimal") for host in ("example.0x1", "1.1.1.01", "1.2.3.4.5")),
    ],
)
def test_a_bad_url_is_refused_with_what_to_change(url, word):
    assert word in refusal(url, allow_private=True)


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LocalHost", "localhost.", "a.localhost", "127.0.0.1", "10.1.2.3", "169.254.169.254", "0.0.0.0"),
        *("[::1]", "[::ffff:127.0.0.1]", "[fe80::1%25eth0]", "[::]", "[64:ff9b::7f00:1]"),
    ],
)
def test_a_private_url_is_refused_unless_the_setting_allows_it(host):
    assert "ALLOW_PRIVATE_ADDRESSES" in refusal(f"http://{host}:8000/hook", allow_private=False)
    assert refusal(f"http://{host}:8000/hook", allow_private=True) is None


# The guard of connections


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "a.localhost", "0.0.0.0", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
        *("[::127.0.0.1]", "2130706433", "0x7f000001", "0x7f.1", "017700000001", "0177.0.0.1", "127.1", "127.0.0.1."),
    ],
)
async def test_no_spelling_leads_a_guarded_call_to_this_machine(serving, client, host):
    server = await serving()

    with pytest.raises(protocol.NotSentError) as refused:
        await client().send(post(f"http://{host}:{server.port}/"))

    assert isinstance(refused.value, protocol.RefusedAddressError | protocol.InvalidRequestError)
    assert server.connections == 0


async def test_ipv6_loopback_is_refused_as_well(serving, client):
    server = await serving(host="::1")

    with pytest.raises(protocol.RefusedAddressError):
        await client().send(post(f"http://[::1]:{server.port}/"))

    assert server.connections == 0
    assert (await client().send(post(f"http://[::1]:{server.port}/", guarded=False))).status == 200


async def test_a_name_is_judged_by_where_it_leads(serving, client):
    server = await serving()
    outgoing = client(resolver=lambda: Names(["127.0.0.1", "10.0.0.1"]))
    url = f"http://hooks.example:{server.port}/"

    with pytest.raises(protocol.RefusedAddressError, match=r"hooks\.example leads to a private") as refused:
        await outgoing.send(post(url))

    assert not refused.value.may_have_arrived
    assert "127.0.0.1" not in str(refused.value)
    assert server.connections == 0
    assert (await outgoing.send(post(url, guarded=False))).status == 200


@OUTSIDE
async def test_a_name_that_is_public_first_and_private_then_is_refused(serving, client):
    server = await serving()
    outgoing = client(resolver=lambda: Names([PUBLIC], ["127.0.0.1"]))

    with pytest.raises(protocol.ConnectError):
        await outgoing.send(post("http://rebinding.example:81/"))
    with pytest.raises(protocol.RefusedAddressError):
        await outgoing.send(post(f"http://rebinding.example:{server.port}/"))

    assert server.connections == 0


@OUTSIDE
@pytest.mark.parametrize("addresses", [["127.0.0.1", PUBLIC], [PUBLIC, "127.0.0.1"], ["::1", PUBLIC, "127.0.0.1"]])
async def test_of_a_name_with_both_kinds_only_the_public_address_is_tried(serving, client, addresses):
    server = await serving()

    with pytest.raises(protocol.ConnectError):
        await client(resolver=lambda: Names(addresses)).send(post(f"http://both.example:{server.port}/"))

    assert server.connections == 0


async def test_a_connection_that_was_opened_unguarded_serves_no_guarded_call(serving, client):
    server, outgoing = await serving(), client()
    await outgoing.send(post(server.url, keep_alive=True, guarded=False))

    with pytest.raises(protocol.RefusedAddressError):
        await outgoing.send(post(server.url, keep_alive=True))

    assert len(server.requests) == 1


async def test_the_setting_turns_the_guard_off(serving, client):
    server = await serving()

    answer = await client(allow_private_addresses=True).send(post(server.url))

    assert answer.body == b"ok"


async def test_the_guard_holds_on_the_event_loop_of_the_workers():
    async def call():
        async with running(Server()) as server:
            outgoing = HttpClient(allow_private_addresses=False)
            try:
                answer = await outgoing.send(post(server.url, guarded=False))
                for host in ("127.0.0.1", "localhost"):
                    with pytest.raises(protocol.RefusedAddressError):
                        await outgoing.send(post(f"http://{host}:{server.port}/"))
                return answer.body, server.connections
            finally:
                await outgoing.close()

    def run():
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(call())

    assert await asyncio.to_thread(run) == (b"ok", 1)


# What is sent, what comes back


async def test_a_call_sends_what_it_is_given_and_gives_what_comes(serving, client):
    server = await serving(b"HTTP/1.1 418 Teapot\r\nX-Kind: pot\r\nContent-Length: 5\r\n\r\nshort")
    url = f"{server.url}a%2Fb/%7e?sig=%2B+x%20"

    answer = await client().send(post(url, headers={"X-Key": "k"}, body=b'{"a": 1}', guarded=False))

    (head, body) = server.requests[0]
    assert head.startswith("POST /a%2Fb/%7e?sig=%2B+x%20 HTTP/1.1\r\n")
    assert "x-key: k" in head.lower()
    assert "user-agent: fleek/" in head.lower()
    assert "content-type" not in head.lower()
    assert body == b'{"a": 1}'
    assert (answer.status, answer.headers["x-kind"], answer.body, answer.truncated) == (418, "pot", b"short", False)
    assert answer.seconds > 0


async def test_a_redirect_is_an_answer(serving, client):
    other = await serving()
    server = await serving(b"HTTP/1.1 307 Moved\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % other.url.encode())

    answer = await client().send(Request(method="GET", url=server.url, guarded=False))

    assert (answer.status, answer.headers["Location"]) == (307, other.url)
    assert other.connections == 0


async def test_a_huge_answer_is_cut_and_the_rest_is_not_fetched(serving, client):
    sent = []

    async def pour(writer):
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(2000):
            writer.write(b"x" * 100_000)
            await writer.drain()
            sent.append(100_000)

    server, outgoing = await serving(pour), client()
    await outgoing.send(post((await serving()).url, guarded=False))  # what a first call loads
    tracemalloc.start()
    try:
        answer = await outgoing.send(post(server.url, most_bytes=250_000, keep_alive=True, guarded=False))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert answer.truncated
    assert answer.body == b"x" * 250_000
    assert peak < 8 * 1024 * 1024
    assert await server.ended.get()
    assert sum(sent) < 100_000_000


@pytest.mark.parametrize(("most", "truncated"), [(2, False), (1, True)])
async def test_an_answer_of_just_the_allowed_size_is_whole(serving, client, most, truncated):
    server = await serving()

    answer = await client().send(post(server.url, most_bytes=most, guarded=False))

    assert (answer.body, answer.truncated) == (b"ok"[:most], truncated)


async def test_nothing_is_decompressed(serving, client):
    bomb = gzip.compress(b"\0" * 10_000_000)
    server = await serving(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(bomb), bomb)
    )

    answer = await client().send(post(server.url, guarded=False))

    assert answer.body == bomb
    assert "accept-encoding: identity" in server.requests[0][0].lower()


async def test_no_cookie_is_kept(serving, client):
    server = await serving(OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: a=b; Path=/\r\n\r\n"))
    outgoing = client(resolver=lambda: Names(["127.0.0.1"]))  # a cookie jar takes none from a bare address

    for _ in range(2):
        await outgoing.send(post(f"http://shop.example:{server.port}/", keep_alive=True, guarded=False))

    assert len(server.requests) == 2
    assert not [head for head, _ in server.requests if "cookie" in head.lower()]


async def test_proxies_of_the_environment_are_not_used(serving, client, monkeypatch):
    server, proxy = await serving(), await serving()
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("http_proxy", proxy.url)

    await client().send(post(server.url, guarded=False))

    assert (server.connections, proxy.connections) == (1, 0)


async def test_a_connection_is_used_again_only_where_that_is_asked_for(serving, client):
    server, outgoing = await serving(), client()

    for _ in range(3):
        await outgoing.send(post(server.url, keep_alive=True, guarded=False))
    assert server.connections == 1

    for _ in range(2):
        await outgoing.send(post(server.url, guarded=False))
        assert await server.ended.get()
    assert server.connections == 3
    assert "connection: close" in server.requests[-1][0].lower()


async def test_a_cancelled_call_closes_its_connection(serving, client):
    arrived = asyncio.Event()

    async def hang(_writer):
        arrived.set()

    server = await serving(hang)
    call = asyncio.create_task(client().send(post(server.url, keep_alive=True, guarded=False)))
    await arrived.wait()
    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    assert await server.ended.get()


# How a call fails


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "ftp://example.com/"},
        {"url": "http://exam ple.com/"},
        {"url": "http://me:secret@example.com/"},
        {"headers": {"X-A": "b\r\nX-C: d"}},
        {"headers": {"X-A\r\nX-C": "d"}},
        {"headers": {"X-A": "\u20ac"}},
    ],
)
async def test_what_cannot_be_sent_is_refused_before_anything_happens(client, changes):
    with pytest.raises(protocol.InvalidRequestError) as refused:
        await client().send(post(**{"url": "http://example.com/", **changes}))

    assert not refused.value.may_have_arrived
    assert "secret" not in str(refused.value)


async def test_a_closed_port_is_not_reached(client):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        port = taken.getsockname()[1]
        url = f"http://127.0.0.1:{port}/secret"
        told = rf"^no connection to 127\.0\.0\.1, port {port}: Connection refused$"

        with pytest.raises(protocol.ConnectError, match=told) as failed:
            await client().send(post(url, guarded=False))

    assert not failed.value.may_have_arrived


async def test_a_name_without_address_is_told(client, name_server):
    with pytest.raises(
        protocol.NameResolutionError, match=r"^the name no\.test was not resolved: .*not found"
    ) as failed:
        await client(resolver=name_server).send(post("http://no.test/"))

    assert not failed.value.may_have_arrived


@pytest.mark.parametrize("method", ["POST", "GET", "PUT", "DELETE"])
@pytest.mark.parametrize("keep_alive", [False, True])
async def test_a_request_whose_connection_is_lost_is_sent_once(serving, client, method, keep_alive):
    async def hang_up(writer):
        writer.transport.abort()

    server = await serving(hang_up)

    with pytest.raises(protocol.ConnectionLostError) as failed:
        await client().send(post(server.url, method=method, keep_alive=keep_alive, guarded=False))

    assert failed.value.may_have_arrived
    assert len(server.requests) == server.connections == 1


async def test_a_lost_connection_that_was_used_before_is_not_replaced(serving, client):
    server, outgoing = await serving(), client()
    await outgoing.send(post(server.url, keep_alive=True, guarded=False))

    async def hang_up(writer):
        writer.transport.abort()

    server.answer = hang_up
    with pytest.raises(protocol.ConnectionLostError):
        await outgoing.send(post(server.url, method="GET", keep_alive=True, guarded=False))

    assert (len(server.requests), server.connections) == (2, 1)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", protocol.ConnectionLostError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n", protocol.ConnectionLostError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n", protocol.MaybeSentError),
        (b"HTTP/1.1 200 OK\r\nConte", protocol.MaybeSentError),
        (b"SSH-2.0-OpenSSH_10.0\r\n\r\n", protocol.InvalidAnswerError),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", protocol.InvalidAnswerError),
    ],
)
async def test_half_an_answer_is_none(serving, client, answer, error):
    async def say(writer):
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await serving(say)

    with pytest.raises(error) as failed:
        await client().send(post(server.url, guarded=False))

    assert failed.value.may_have_arrived


async def test_the_time_out_covers_the_name(client, name_server):
    with pytest.raises(protocol.NameResolutionError, match="within") as failed:
        await client(resolver=name_server).send(post("http://slow.test/", timeout=0.2))

    assert not failed.value.may_have_arrived


async def test_the_time_out_covers_the_connection(client):
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # the kernel drops what comes when its queue is full
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())

        with pytest.raises(protocol.ConnectError, match="within") as failed:
            await client(resolver=lambda: Names(["127.0.0.1"])).send(
                post(f"http://full.example:{full.getsockname()[1]}/", timeout=0.2, guarded=False)
            )

    assert not failed.value.may_have_arrived


async def test_the_time_out_covers_tls(client):
    async def hang(reader, writer):
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(hang, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{silent.sockets[0].getsockname()[1]}/"
    try:
        with pytest.raises(protocol.ConnectError, match="within") as failed:
            await client().send(post(url, timeout=0.3, guarded=False))
    finally:
        silent.close()

    assert not failed.value.may_have_arrived


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 100 Continue\r\n\r\n", OK[:-1]])
@pytest.mark.parametrize("keep_alive", [False, True])
async def test_the_time_out_covers_the_answer(serving, client, start, keep_alive):
    server = await serving(start)

    with pytest.raises(protocol.AnswerTimeoutError, match="within") as failed:
        await client().send(post(server.url, timeout=0.3, keep_alive=keep_alive, guarded=False))

    assert failed.value.may_have_arrived
    assert await server.ended.get()


async def test_a_time_out_on_a_connection_that_was_used_before_is_one_of_the_answer(serving, client):
    server, outgoing = await serving(), client()
    await outgoing.send(post(server.url, keep_alive=True, guarded=False))

    server.answer = b""
    with pytest.raises(protocol.AnswerTimeoutError):
        await outgoing.send(post(server.url, timeout=0.2, keep_alive=True, guarded=False))

    assert server.connections == 1


async def test_slow_names_delay_nobody(serving, client, name_server):
    server, outgoing = await serving(), client(resolver=name_server)
    slow = [
        asyncio.create_task(outgoing.send(post(f"http://slow{number}.test/", guarded=False))) for number in range(60)
    ]
    await asyncio.sleep(0)

    answer = await outgoing.send(post(f"http://fast.test:{server.port}/", guarded=False))

    assert answer.body == b"ok"
    assert not [call for call in slow if call.done()]
    for call in slow:
        call.cancel()
    assert {type(end) for end in await asyncio.gather(*slow, return_exceptions=True)} == {asyncio.CancelledError}


# TLS


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def certified(authority):
    """The server's side of TLS, with a certificate for this name."""

    def make(name):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(context)
        return context

    return make


async def test_a_certificate_is_verified_against_the_system(serving, client, certified):
    server = await serving(tls=certified("127.0.0.1"))

    with pytest.raises(protocol.TlsError, match=r"certificate of 127\.0\.0\.1 is not trusted") as failed:
        await client().send(post(server.url.replace("http", "https"), guarded=False))

    assert not failed.value.may_have_arrived
    assert server.requests == []


@pytest.mark.parametrize(("name", "trusted"), [("127.0.0.1", True), ("other.example", False)])
async def test_a_certificate_must_carry_the_name(serving, client, certified, authority, name, trusted):
    server = await serving(tls=certified(name))
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    call = client(tls=trust).send(post(server.url.replace("http", "https"), guarded=False))

    if trusted:
        assert (await call).body == b"ok"
    else:
        with pytest.raises(protocol.TlsError):
            await call


async def test_who_speaks_no_tls_gets_nothing(client):
    received = []

    async def greet(reader, writer):
        writer.write(b"220 mail.example ESMTP\r\n")
        received.append(await reader.read())
        writer.close()

    plain = await asyncio.start_server(greet, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{plain.sockets[0].getsockname()[1]}/"
    try:
        with pytest.raises(protocol.TlsError, match="no TLS connection") as failed:
            await client().send(post(url, headers={"X-Key": "secret"}, guarded=False))
    finally:
        plain.close()

    assert not failed.value.may_have_arrived
    assert b"secret" not in b"".join(received)


# Its life


async def test_a_closed_client_makes_no_calls(client):
    outgoing = client()
    await outgoing.close()

    with pytest.raises(RuntimeError, match="closed"):
        await outgoing.send(post("http://example.com/"))


async def test_the_runtime_closes_the_client_that_it_was_given(settings, client):
    outgoing = client()

    async with open_runtime(settings, outgoing=outgoing) as runtime:
        assert runtime.outgoing is outgoing

    with pytest.raises(RuntimeError, match="closed"):
        await outgoing.send(post("http://example.com/"))


def test_the_api_does_not_load_the_client():
    modules = "app.main, app.core.http_client.protocol, app.core.http_client.addresses"
    check = f"import sys, {modules}; sys.exit('aiohttp' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=False).returncode == 0


def test_a_url_is_judged_alike_when_given_and_when_called():
    assert malformed("http://2130706433/") == refusal("http://2130706433/", allow_private=True)
