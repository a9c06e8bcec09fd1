"""Clients that drip heads and bodies are answered and closed; honest ones, however modest, are served."""

import asyncio
import contextlib
import json

import httpx2
import pytest
import structlog.testing
import uvicorn
from uvicorn.lifespan.on import LifespanOn

from app.core.http_server import slow_heads
from app.core.http_server.slow_heads import limit_heads
from app.core.ids import new_id
from app.media_generator.dummy_media_generator.png import png_of_about
from tests.support import Client, eventually, served

DRIPPERS = 300
SECONDS = 0.5
PAUSE = 0.15
"""Between two bytes: no pause is too long, only all of them together."""
RATE = 20_000
HEAD = b"POST /media/generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
FORM = b"Content-Type: multipart/form-data; boundary=x\r\n"
ENDLESS = b'{"prompt": "' + b"x" * 10_000
UNREAD = f"POST /media/{new_id()}/cancel HTTP/1.1\r\nHost: localhost\r\n".encode()


@pytest.fixture
async def server(settings, tmp_path):
    """A client of an API that is not patient."""
    limits = {"REQUEST_HEAD_SECONDS": str(SECONDS), "REQUEST_BODY_SECONDS": str(SECONDS)}
    with served(settings, tmp_path / "api.log", **limits, REQUEST_BODY_RATE=str(RATE)) as address:
        async with httpx2.AsyncClient(base_url=address, timeout=60, trust_env=False) as api:
            client = Client(api)
            await eventually(client.answers)
            yield client


async def drip(server, start, rest):
    """What the server sends until it closes the connection, to a client that sends `rest` byte by byte."""
    reader, writer = await asyncio.open_connection(server.api.base_url.host, server.api.base_url.port)

    async def send():
        with contextlib.suppress(OSError):
            writer.write(start)
            for position in range(len(rest)):
                await writer.drain()
                await asyncio.sleep(PAUSE)
                writer.write(rest[position : position + 1])
            await asyncio.Event().wait()

    sending = asyncio.create_task(send())
    received = b""
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(65_536):
            received += piece
    sending.cancel()
    writer.close()
    return received


def problem(answer):
    """Status and code of a response that ends its connection."""
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert b"connection: close" in lines, answer
    assert b"content-type: application/problem+json" in lines, answer
    return int(lines[0].split()[1]), json.loads(body)["code"]


TIMEOUT = (408, "request_timeout")


async def test_hundreds_of_dripping_clients_are_answered_and_closed_while_others_are_served(server):
    kinds = [
        (HEAD, b"X-Long: " + b"x" * 10_000),
        (HEAD + b"Content-Length: 20000\r\n\r\n", ENDLESS),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n{\r\n" * 10_000),
        (HEAD.replace(b"/media/generate", b"/webhooks") + b"Content-Length: 20000\r\n\r\n", ENDLESS),
        (b"POST /files HTTP/1.1\r\nHost: localhost\r\n" + FORM + b"Content-Length: 20000\r\n\r\n", ENDLESS),
    ]
    dripping = [asyncio.create_task(drip(server, *kinds[number % len(kinds)])) for number in range(DRIPPERS)]

    media = await server.generate()
    async with asyncio.timeout(60):
        answers = await asyncio.gather(*dripping)

    assert media["status"] == "IN_QUEUE"
    assert {problem(answer) for answer in answers} == {TIMEOUT}


async def test_body_that_no_route_reads_cannot_be_dripped_for_ever(server):
    length = b"Content-Length: 20000\r\n\r\n"
    kinds = [
        (UNREAD + length, ENDLESS),
        (b"POST /nothing HTTP/1.1\r\nHost: localhost\r\n" + length, ENDLESS),
        (b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n" + length, ENDLESS),
        (b"POST /media/generate HTTP/1.1\r\nHost: evil.example\r\n" + length, ENDLESS),
        (b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n" + length, b""),
    ]

    async with asyncio.timeout(60):
        answers = await asyncio.gather(*(drip(server, *kind) for kind in kinds))

    assert [problem(answer)[0] for answer in answers] == [404, 404, 404, 421, 404]


async def test_stream_ends_for_a_client_that_drips_a_body(server):
    media = await server.generate()
    start = f"GET /media/{media['id']}/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000\r\n\r\n"

    async with asyncio.timeout(60):
        answer = await drip(server, start.encode(), ENDLESS)

    assert answer.startswith(b"HTTP/1.1 200 OK")


async def test_silent_and_idling_connections_are_closed(server):
    complete = b"GET /tools/status HTTP/1.1\r\nHost: localhost\r\n\r\n"

    async with asyncio.timeout(60):
        silent, idling = await asyncio.gather(
            drip(server, b"", b""),
            drip(server, complete, b"\r\n" * 10_000),
        )

    assert silent == b""
    assert idling.startswith(b"HTTP/1.1 200 OK")


async def test_modest_client_is_served(server):
    picture = png_of_about(60_000)
    start = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'

    async def body():
        yield start
        for position in range(0, len(picture), 3_000):
            await asyncio.sleep(0.06)
            yield picture[position : position + 3_000]
        yield b"\r\n--x--\r\n"

    headers = {"content-type": "multipart/form-data; boundary=x"}
    sent = await server.api.post("/files", content=body(), headers=headers)

    assert sent.elapsed.total_seconds() > 2 * SECONDS
    assert (sent.status_code, sent.json()["bytes"]) == (201, len(picture))


async def test_response_may_take_longer_than_a_body(server):
    waited = await server.api.post("/media/generate", json={"prompt": "x"}, headers={"prefer": "wait=2"})

    assert (waited.status_code, waited.json()["status"]) == (202, "IN_QUEUE")


@pytest.mark.parametrize("http", ["httptools", "h11"])
async def test_server_without_a_limit_for_heads_is_reported(http, monkeypatch):
    # Whoever has logged before keeps the processors of that time.
    monkeypatch.setattr(slow_heads, "log", structlog.get_logger())
    config = uvicorn.Config("app.main:app", http=http)
    config.load()

    with structlog.testing.capture_logs() as logs:
        limit_heads(LifespanOn(config).receive, SECONDS)

    assert [entry["event"] for entry in logs] == (["request_heads_have_no_time_limit"] if http == "h11" else [])


async def test_small_body_that_no_route_reads_keeps_the_connection(server):
    answer = await server.api.post(f"/media/{new_id()}/cancel", json={})

    assert (answer.status_code, answer.headers.get("connection")) == (404, None)
