"""Which URLs and addresses are refused: when a caller gives them, and again when a connection is opened."""

import asyncio

import pytest
import uvloop

from app.core.http_client import protocol
from app.core.http_client.addresses import MAX_URL_CHARACTERS, is_public, malformed, refusal
from app.core.http_client.client import HttpClient
from tests.http_servers import FixedResolver, HttpServer, post, running

PUBLIC = "93.184.215.14"
OUTSIDE = pytest.mark.filterwarnings("ignore:A test tried to use")
"""For tests that try a public address, which their own net then blocks."""


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", PUBLIC, "100.63.255.255", "172.32.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1"],
)
def test_public_address_is_recognised(address):
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
def test_any_other_address_is_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        *("https://example.com", "http://example.com:8080/a?b=%20c", "https://1.1.1.1/", "https://[2606:4700::1111]/"),
        *(
            "https://xn--bcher-kva.example/",
            "https://0xcafe.example/",
            "https://EXAMPLE.com./",
            "https://a.b/" + "c" * (MAX_URL_CHARACTERS - 12),
        ),
    ],
)
def test_public_url_is_accepted(url):
    assert refusal(url, allow_private=False) is None


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("https://a.b/" + "c" * MAX_URL_CHARACTERS, "2048"),
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
def test_malformed_url_is_refused_with_the_reason(url, word):
    assert word in refusal(url, allow_private=True)


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LocalHost", "localhost.", "a.localhost", "127.0.0.1", "10.1.2.3", "169.254.169.254", "0.0.0.0"),
        *("[::1]", "[::ffff:127.0.0.1]", "[fe80::1%25eth0]", "[::]", "[64:ff9b::7f00:1]"),
    ],
)
def test_private_url_is_refused_unless_the_setting_allows_it(host):
    assert "ALLOW_PRIVATE_ADDRESSES" in refusal(f"http://{host}:8000/hook", allow_private=False)
    assert refusal(f"http://{host}:8000/hook", allow_private=True) is None


def test_url_is_judged_alike_on_input_and_on_call():
    assert malformed("http://2130706433/") == refusal("http://2130706433/", allow_private=True)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "a.localhost", "0.0.0.0", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
        *("[::127.0.0.1]", "2130706433", "0x7f000001", "0x7f.1", "017700000001", "0177.0.0.1", "127.1", "127.0.0.1."),
    ],
)
async def test_no_spelling_of_loopback_passes_the_guard(start_server, make_client, host):
    server = await start_server()

    with pytest.raises(protocol.NotSentError) as refused:
        await make_client().send(post(f"http://{host}:{server.port}/"))

    assert isinstance(refused.value, protocol.RefusedAddressError | protocol.InvalidRequestError)
    assert server.connections == 0


async def test_ipv6_loopback_is_refused(start_server, make_client):
    server = await start_server(host="::1")

    with pytest.raises(protocol.RefusedAddressError):
        await make_client().send(post(f"http://[::1]:{server.port}/"))

    assert server.connections == 0
    assert (await make_client().send(post(f"http://[::1]:{server.port}/", guarded=False))).status == 200


async def test_name_that_resolves_to_a_private_address_is_refused(start_server, make_client):
    server = await start_server()
    outgoing = make_client(resolver=lambda: FixedResolver(["127.0.0.1", "10.0.0.1"]))
    url = f"http://hooks.example:{server.port}/"

    with pytest.raises(protocol.RefusedAddressError, match=r"hooks\.example leads to a private") as refused:
        await outgoing.send(post(url))

    assert not refused.value.may_have_arrived
    assert "127.0.0.1" not in str(refused.value)
    assert server.connections == 0
    assert (await outgoing.send(post(url, guarded=False))).status == 200


@OUTSIDE
async def test_dns_rebinding_to_a_private_address_is_refused(start_server, make_client):
    server = await start_server()
    outgoing = make_client(resolver=lambda: FixedResolver([PUBLIC], ["127.0.0.1"]))

    with pytest.raises(protocol.ConnectError):
        await outgoing.send(post("http://rebinding.example:81/"))
    with pytest.raises(protocol.RefusedAddressError):
        await outgoing.send(post(f"http://rebinding.example:{server.port}/"))

    assert server.connections == 0


@OUTSIDE
@pytest.mark.parametrize("addresses", [["127.0.0.1", PUBLIC], [PUBLIC, "127.0.0.1"], ["::1", PUBLIC, "127.0.0.1"]])
async def test_only_public_addresses_of_a_name_are_tried(start_server, make_client, addresses):
    server = await start_server()

    with pytest.raises(protocol.ConnectError):
        await make_client(resolver=lambda: FixedResolver(addresses)).send(post(f"http://both.example:{server.port}/"))

    assert server.connections == 0


async def test_guarded_call_never_reuses_an_unguarded_connection(start_server, make_client):
    server, outgoing = await start_server(), make_client()
    await outgoing.send(post(server.url, keep_alive=True, guarded=False))

    with pytest.raises(protocol.RefusedAddressError):
        await outgoing.send(post(server.url, keep_alive=True))

    assert len(server.requests) == 1


async def test_allow_private_addresses_turns_the_guard_off(start_server, make_client):
    server = await start_server()

    answer = await make_client(allow_private_addresses=True).send(post(server.url))

    assert answer.body == b"ok"


async def test_guard_works_on_uvloop():
    async def call():
        async with running(HttpServer()) as server:
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
