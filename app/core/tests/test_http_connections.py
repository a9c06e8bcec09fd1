"""An answer belongs to its request: connections on which a server answers more than once are not reused."""

import asyncio
import itertools
import os
import random
import re
import socket
import ssl
import time

import pytest
import trustme
import uvloop

from app.core.http_client.client import HttpClient
from app.core.http_client.protocol import OutgoingError
from tests.http_servers import post


def said(word, *, chunked=False):
    body = word.encode()
    if chunked:
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


class TwiceServer:
    """Answers each request with its path, and some of them a second time, in the way that the test says."""

    def __init__(self, again, *, share=1.0, chunked=False):
        self._again = again
        self._chance = random.Random(7)
        self._share = share
        self._chunked = chunked
        self.connections = 0
        self.closed = asyncio.Event()
        self.port = 0

    async def serve(self, reader, writer):
        self.connections += 1
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                length = int((re.search(r"content-length: (\d+)", head.lower()) or ["", "0"])[1])
                await reader.readexactly(length)
                answer = said(head.split()[1], chunked=self._chunked)
                if self._chance.random() < self._share:
                    await self._again(writer, answer)
                else:
                    writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.closed.set()
            writer.close()


async def _same_segment(writer, answer):
    writer.write(answer + answer)


async def _at_once(writer, answer):
    writer.write(answer)
    await asyncio.sleep(0)
    writer.write(answer)


async def _late(writer, answer):
    writer.write(answer)
    await asyncio.sleep(0.005)
    writer.write(answer)


async def _head_cut(writer, answer):
    """The first segment ends within the second head."""
    writer.write(answer + answer[:9])
    await asyncio.sleep(0.005)
    writer.write(answer[9:])


async def _first_byte(writer, answer):
    writer.write(answer + answer[:1])
    await asyncio.sleep(0.005)
    writer.write(answer[1:])


async def _body_with_next_head(writer, answer):
    """The first body is completed by the segment that has the second head, whose body is missing."""
    end = answer.index(b"\r\n\r\n") + 5
    writer.write(answer[:end])
    await asyncio.sleep(0.005)
    writer.write(answer[end:] + answer[:end])
    await asyncio.sleep(0.005)
    writer.write(answer[end:])


async def _body_cut(writer, answer):
    writer.write(answer + answer[:-1])
    await asyncio.sleep(0.005)
    writer.write(answer[-1:])


async def _informational(writer, answer):
    writer.write(answer + b"HTTP/1.1 103 Early Hints\r\n\r\n")
    await asyncio.sleep(0.005)
    writer.write(answer)


async def _line_end(writer, answer):
    writer.write(answer + b"\r\n")


WAYS = [
    _same_segment,
    _at_once,
    _late,
    _head_cut,
    _first_byte,
    _body_with_next_head,
    _body_cut,
    _informational,
    _line_end,
]


async def _ask(client, server, scheme, number):
    answer = await client.send(
        post(f"{scheme}://127.0.0.1:{server.port}/{number}", method="GET", body=None, keep_alive=True, guarded=False)
    )
    return answer.body.decode()


async def _walk(server, *, pause, requests, server_tls=None, client_tls=None):
    """Ask one after the other; the answers that belong to another request."""
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=server_tls)
    server.port = listening.sockets[0].getsockname()[1]
    client, wrong = HttpClient(allow_private_addresses=True, tls=client_tls), []
    scheme = "http" if server_tls is None else "https"
    try:
        for number in range(requests):
            try:
                word = await _ask(client, server, scheme, number)
            except OutgoingError:
                continue
            if word != f"/{number}":
                wrong.append((number, word))
            await asyncio.sleep(pause)
    finally:
        await client.close()
        listening.close()
    return wrong


@pytest.fixture(scope="module")
def trust():
    """TLS of both sides."""
    authority, server, client = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    return {"server_tls": server, "client_tls": client}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("tls", [False, True])
async def test_second_answer_is_never_the_next_answer(trust, way, chunked, tls):
    """The second answer is complete before the next request is written."""
    server = TwiceServer(way, chunked=chunked)

    wrong = await _walk(server, pause=0.012, requests=3, **(trust if tls else {}))

    assert wrong == []
    assert server.connections == 3  # none was reused


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_third_of_answers_twice(loop):
    """As a worker polls, on both event loops."""

    ways = itertools.cycle(WAYS)

    async def one(writer, answer):
        await next(ways)(writer, answer)

    server = TwiceServer(one, share=0.3)
    with asyncio.Runner(loop_factory=loop) as runner:
        wrong = runner.run(_walk(server, pause=0.012, requests=80))

    assert wrong == []
    assert 10 < server.connections < 60  # others are reused


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("end", [b"", said("/stranger")])
def test_what_lies_unread_in_the_socket_is_seen(loop, end):
    """The event loop was busy while it arrived, and the next request is the first thing that it does."""
    writers = []

    async def keep(writer, answer):
        writers.append(writer)
        writer.write(answer)

    async def walk():
        server = TwiceServer(keep)
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        server.port = listening.sockets[0].getsockname()[1]
        client = HttpClient(allow_private_addresses=True)
        try:
            assert await _ask(client, server, "http", 1) == "/1"
            # Nothing but the kernel sees this before the next request is made.
            with socket.socket(fileno=os.dup(writers[0].get_extra_info("socket").fileno())) as raw:
                raw.sendall(end) if end else raw.shutdown(socket.SHUT_WR)
            time.sleep(0.01)  # noqa: ASYNC251 - the event loop is busy
            return await _ask(client, server, "http", 2), server.connections
        finally:
            await client.close()
            listening.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(walk()) == ("/2", 2)


async def test_idle_connection_that_receives_something_is_closed_at_once():
    """A server that pours into an idle connection fills no memory."""
    server = TwiceServer(_late)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    client = HttpClient(allow_private_addresses=True)
    try:
        await _ask(client, server, "http", 1)
        async with asyncio.timeout(3):  # an idle connection is kept for longer
            await server.closed.wait()
    finally:
        await client.close()
        listening.close()


async def test_connection_can_be_dropped_after_an_answer_about_something_else():
    server = TwiceServer(_late, share=0)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    client = HttpClient(allow_private_addresses=True)
    url = f"http://127.0.0.1:{server.port}/"
    try:
        answer = await client.send(post(url, keep_alive=True, guarded=False))
        answer.drop_connection()
        await client.send(post(url, keep_alive=True, guarded=False))
        await client.send(post(url, keep_alive=True, guarded=False))
        assert server.connections == 2
    finally:
        await client.close()
        listening.close()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("chunked", [False, True])
def test_connection_with_one_answer_for_each_request_is_reused(loop, tls, chunked, trust):
    server = TwiceServer(_late, share=0, chunked=chunked)
    with asyncio.Runner(loop_factory=loop) as runner:
        wrong = runner.run(_walk(server, pause=0.005, requests=4, **(trust if tls else {})))

    assert (wrong, server.connections) == ([], 1)
