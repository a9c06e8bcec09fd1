"""How a call of another service fails: which error, whether the request may have arrived, what the time-out covers."""

import asyncio
import socket
from contextlib import ExitStack

import pytest

from app.core.http_client import protocol
from tests.http_servers import OK, FixedResolver, post


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
async def test_invalid_request_is_refused_before_it_is_sent(make_client, changes):
    with pytest.raises(protocol.InvalidRequestError) as refused:
        await make_client().send(post(**{"url": "http://example.com/", **changes}))

    assert not refused.value.may_have_arrived
    assert "secret" not in str(refused.value)


async def test_closed_port_raises_connect_error(make_client):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        port = taken.getsockname()[1]
        url = f"http://127.0.0.1:{port}/secret"
        message = rf"^no connection to 127\.0\.0\.1, port {port}: Connection refused$"

        with pytest.raises(protocol.ConnectError, match=message) as failed:
            await make_client().send(post(url, guarded=False))

    assert not failed.value.may_have_arrived


async def test_unknown_name_raises_name_resolution_error(make_client, dns_resolver):
    with pytest.raises(
        protocol.NameResolutionError, match=r"^the name no\.test was not resolved: .*not found"
    ) as failed:
        await make_client(resolver=dns_resolver).send(post("http://no.test/"))

    assert not failed.value.may_have_arrived


@pytest.mark.parametrize("method", ["POST", "GET", "PUT", "DELETE"])
@pytest.mark.parametrize("keep_alive", [False, True])
async def test_request_is_not_resent_after_a_lost_connection(start_server, make_client, method, keep_alive):
    async def hang_up(writer):
        writer.transport.abort()

    server = await start_server(hang_up)

    with pytest.raises(protocol.ConnectionLostError) as failed:
        await make_client().send(post(server.url, method=method, keep_alive=keep_alive, guarded=False))

    assert failed.value.may_have_arrived
    assert len(server.requests) == server.connections == 1


async def test_request_is_not_resent_after_a_lost_reused_connection(start_server, make_client):
    server, outgoing = await start_server(), make_client()
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
async def test_incomplete_or_invalid_answer_is_an_error(start_server, make_client, answer, error):
    async def say(writer):
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await start_server(say)

    with pytest.raises(error) as failed:
        await make_client().send(post(server.url, guarded=False))

    assert failed.value.may_have_arrived


async def test_timeout_covers_name_resolution(make_client, dns_resolver):
    with pytest.raises(protocol.NameResolutionError, match="within") as failed:
        await make_client(resolver=dns_resolver).send(post("http://slow.test/", timeout=0.2))

    assert not failed.value.may_have_arrived


async def test_timeout_covers_the_connection(make_client):
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # the kernel drops what comes when its queue is full
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())

        with pytest.raises(protocol.ConnectError, match="within") as failed:
            await make_client(resolver=lambda: FixedResolver(["127.0.0.1"])).send(
                post(f"http://full.example:{full.getsockname()[1]}/", timeout=0.2, guarded=False)
            )

    assert not failed.value.may_have_arrived


async def test_timeout_covers_tls(make_client):
    async def hang(reader, writer):
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(hang, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{silent.sockets[0].getsockname()[1]}/"
    try:
        with pytest.raises(protocol.ConnectError, match="within") as failed:
            await make_client().send(post(url, timeout=0.3, guarded=False))
    finally:
        silent.close()

    assert not failed.value.may_have_arrived


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 100 Continue\r\n\r\n", OK[:-1]])
@pytest.mark.parametrize("keep_alive", [False, True])
async def test_timeout_covers_the_answer(start_server, make_client, start, keep_alive):
    server = await start_server(start)

    with pytest.raises(protocol.AnswerTimeoutError, match="within") as failed:
        await make_client().send(post(server.url, timeout=0.3, keep_alive=keep_alive, guarded=False))

    assert failed.value.may_have_arrived
    assert await server.ended.get()


async def test_timeout_on_a_reused_connection_is_an_answer_timeout(start_server, make_client):
    server, outgoing = await start_server(), make_client()
    await outgoing.send(post(server.url, keep_alive=True, guarded=False))

    server.answer = b""
    with pytest.raises(protocol.AnswerTimeoutError):
        await outgoing.send(post(server.url, timeout=0.2, keep_alive=True, guarded=False))

    assert server.connections == 1
