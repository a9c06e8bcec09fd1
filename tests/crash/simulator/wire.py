"""Answers as broken networks and gateways give them: cut, doubled, dripping, garbled, or not at all."""

import asyncio
import json
from typing import Final

from aiohttp import web

from tests.crash.simulator.books import Purchase

SILENCE_SECONDS: Final = 30.0
DRIPS: Final = 12
DRIP_SECONDS: Final = 0.25
GARBAGE: Final = (
    b"",
    b'{"id": "r00',
    b"[]",
    b"null",
    b'"ok"',
    b"{}",
    b"\xff\xfe\x00",
    b"<html>bad gateway</html>",
    b"17",
)
HTML: Final = b"<!DOCTYPE html><html><body><h1>Please try again</h1></body></html>"


def broken_off(request: web.Request) -> web.Response:
    """The connection is closed in place of an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def garbage(nth: int, status: int = 200) -> web.Response:
    """A success that says nothing."""
    return web.Response(body=GARBAGE[nth % len(GARBAGE)], status=status, content_type="application/json")


def refused(status: int, detail: str, *, retry_after: float | None = None) -> web.Response:
    headers = {} if retry_after is None else {"Retry-After": str(max(1, round(retry_after)))}
    return web.json_response({"title": "Refused", "detail": detail, "status": status}, status=status, headers=headers)


def say_again(request: web.Request, response: web.Response, *, after: float) -> None:
    """Send the same answer a second time: on a kept connection it would be taken for that of the next request."""
    transport = request.transport
    if transport is None or not isinstance(response.body, bytes):
        return
    given = {**response.headers, "Content-Length": str(len(response.body))}
    lines = [f"HTTP/1.1 {response.status} {response.reason}", *(f"{name}: {value}" for name, value in given.items())]
    raw = "\r\n".join([*lines, "", ""]).encode() + response.body

    def send() -> None:
        if not transport.is_closing():
            transport.write(raw)

    asyncio.get_running_loop().call_later(after, send)


async def deliver(request: web.Request, bought: Purchase) -> web.StreamResponse:
    """The picture of a purchase, with the trouble of its first fetches."""
    bought.fetches += 1
    trouble = bought.fate.output if bought.fetches <= bought.fate.output_times else ""
    picture = bought.picture
    if trouble == "output_html":
        return web.Response(body=HTML, content_type="text/html")
    if not trouble:
        return web.Response(body=picture, content_type="image/png")
    transport = request.transport
    if transport is None:
        return web.Response()
    # Every other time nobody is promised a length, and the end of the connection is the end of the picture.
    length = f"Content-Length: {len(picture)}\r\n" if bought.fetches % 2 else ""
    transport.write(f"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n{length}Connection: close\r\n\r\n".encode())
    if trouble == "output_cut":
        transport.write(picture[: len(picture) // 2])
    else:
        await _drip(transport, picture)
    transport.close()
    return web.Response()


async def _drip(transport: asyncio.Transport, picture: bytes) -> None:
    part = len(picture) // DRIPS + 1
    for start in range(0, len(picture), part):
        if transport.is_closing():
            return
        transport.write(picture[start : start + part])
        await asyncio.sleep(DRIP_SECONDS)


def as_json(found: object) -> bytes:
    return json.dumps(found).encode()
