"""The client for other services: what it sends, what it reads, what it keeps, TLS."""

import asyncio
import gzip
import ssl
import tracemalloc

import pytest
import trustme

from app.core.http_client import protocol
from app.core.http_client.protocol import Request
from app.runtime import open_runtime
from tests.http_servers import OK, FixedResolver, post


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


async def test_request_and_answer_pass_unchanged(start_server, make_client):
    server = await start_server(b"HTTP/1.1 418 Teapot\r\nX-Kind: pot\r\nContent-Length: 5\r\n\r\nshort")
    url = f"{server.url}a%2Fb/%7e?sig=%2B+x%20"

    answer = await make_client().send(post(url, headers={"X-Key": "k"}, body=b'{"a": 1}', guarded=False))

    (head, body) = server.requests[0]
    assert head.startswith("POST /a%2Fb/%7e?sig=%2B+x%20 HTTP/1.1\r\n")
    assert "x-key: k" in head.lower()
    assert "user-agent: fleek/" in head.lower()
    assert "content-type" not in head.lower()
    assert body == b'{"a": 1}'
    assert (answer.status, answer.headers["x-kind"], answer.body, answer.truncated) == (418, "pot", b"short", False)
    assert answer.seconds > 0


async def test_redirect_is_returned_not_followed(start_server, make_client):
    other = await start_server()
    server = await start_server(b"HTTP/1.1 307 Moved\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % other.url.encode())

    answer = await make_client().send(Request(method="GET", url=server.url, guarded=False))

    assert (answer.status, answer.headers["Location"]) == (307, other.url)
    assert other.connections == 0


async def test_answer_over_the_size_limit_is_truncated_and_not_read_further(start_server, make_client):
    sent = []

    async def pour(writer):
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(2000):
            writer.write(b"x" * 100_000)
            await writer.drain()
            sent.append(100_000)

    server, outgoing = await start_server(pour), make_client()
    await outgoing.send(post((await start_server()).url, guarded=False))  # what a first call loads
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
async def test_answer_of_exactly_the_size_limit_is_complete(start_server, make_client, most, truncated):
    server = await start_server()

    answer = await make_client().send(post(server.url, most_bytes=most, guarded=False))

    assert (answer.body, answer.truncated) == (b"ok"[:most], truncated)


async def test_compressed_answer_is_not_decompressed(start_server, make_client):
    bomb = gzip.compress(b"\0" * 10_000_000)
    server = await start_server(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(bomb), bomb)
    )

    answer = await make_client().send(post(server.url, guarded=False))

    assert answer.body == bomb
    assert "accept-encoding: identity" in server.requests[0][0].lower()


async def test_cookies_are_not_kept(start_server, make_client):
    server = await start_server(OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: a=b; Path=/\r\n\r\n"))
    outgoing = make_client(resolver=lambda: FixedResolver(["127.0.0.1"]))  # a cookie jar takes none from a bare address

    for _ in range(2):
        await outgoing.send(post(f"http://shop.example:{server.port}/", keep_alive=True, guarded=False))

    assert len(server.requests) == 2
    assert not [head for head, _ in server.requests if "cookie" in head.lower()]


async def test_proxy_variables_are_ignored(start_server, make_client, monkeypatch):
    server, proxy = await start_server(), await start_server()
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("http_proxy", proxy.url)

    await make_client().send(post(server.url, guarded=False))

    assert (server.connections, proxy.connections) == (1, 0)


async def test_connection_is_reused_only_with_keep_alive(start_server, make_client):
    server, outgoing = await start_server(), make_client()

    for _ in range(3):
        await outgoing.send(post(server.url, keep_alive=True, guarded=False))
    assert server.connections == 1

    for _ in range(2):
        await outgoing.send(post(server.url, guarded=False))
        assert await server.ended.get()
    assert server.connections == 3
    assert "connection: close" in server.requests[-1][0].lower()


async def test_cancelled_call_closes_its_connection(start_server, make_client):
    arrived = asyncio.Event()

    async def hang(_writer):
        arrived.set()

    server = await start_server(hang)
    call = asyncio.create_task(make_client().send(post(server.url, keep_alive=True, guarded=False)))
    await arrived.wait()
    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    assert await server.ended.get()


async def test_slow_dns_lookups_do_not_delay_others(start_server, make_client, dns_resolver):
    server, outgoing = await start_server(), make_client(resolver=dns_resolver)
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


async def test_untrusted_certificate_is_refused(start_server, make_client, certified):
    server = await start_server(tls=certified("127.0.0.1"))

    with pytest.raises(protocol.TlsError, match=r"certificate of 127\.0\.0\.1 is not trusted") as failed:
        await make_client().send(post(server.url.replace("http", "https"), guarded=False))

    assert not failed.value.may_have_arrived
    assert server.requests == []


@pytest.mark.parametrize(("name", "trusted"), [("127.0.0.1", True), ("other.example", False)])
async def test_certificate_must_match_the_host(start_server, make_client, certified, authority, name, trusted):
    server = await start_server(tls=certified(name))
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    call = make_client(tls=trust).send(post(server.url.replace("http", "https"), guarded=False))

    if trusted:
        assert (await call).body == b"ok"
    else:
        with pytest.raises(protocol.TlsError):
            await call


async def test_nothing_is_sent_to_a_server_without_tls(make_client):
    received = []

    async def greet(reader, writer):
        writer.write(b"220 mail.example ESMTP\r\n")
        received.append(await reader.read())
        writer.close()

    plain = await asyncio.start_server(greet, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{plain.sockets[0].getsockname()[1]}/"
    try:
        with pytest.raises(protocol.TlsError, match="no TLS connection") as failed:
            await make_client().send(post(url, headers={"X-Key": "secret"}, guarded=False))
    finally:
        plain.close()

    assert not failed.value.may_have_arrived
    assert b"secret" not in b"".join(received)


async def test_closed_client_refuses_calls(make_client):
    outgoing = make_client()
    await outgoing.close()

    with pytest.raises(RuntimeError, match="closed"):
        await outgoing.send(post("http://example.com/"))


async def test_runtime_closes_the_client_it_was_given(settings, make_client):
    outgoing = make_client()

    async with open_runtime(settings, outgoing=outgoing) as runtime:
        assert runtime.outgoing is outgoing

    with pytest.raises(RuntimeError, match="closed"):
        await outgoing.send(post("http://example.com/"))
