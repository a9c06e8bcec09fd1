"""A provider that takes money and makes trouble, as a server of its own: `python -m tests.crash.simulator`.

It keeps the books: every purchase with the attempt and the media it was made for, so that what was bought twice
can be told without asking the system under test. It is never killed. How a submission is treated stands in its
input:

- `mode`: `ok`; `refused` (costs nothing); `busy` (the first `busy_times` get a 429 and cost nothing); `slow` (taken and
  answered only after `accept_after` seconds, whether or not the caller still waits); `accept_then_drop`,
  `accept_then_500`, `accept_then_silence` (taken, but the answer is lost); `fail_late` (taken, and fails);
- `delay`: seconds until there is a result; `size`: bytes of it;
- `findable`: whether the provider can say later what became of the submission; `stoppable`: whether it can be canceled.

The same attempt submitted twice is bought twice: nothing here is idempotent.
"""

import argparse
import asyncio
import hashlib
import itertools
import socket
import struct
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.media_generator.dummy_media_generator.png import png_of_about

SILENCE_SECONDS = 30.0
END_OF_PNG = 12
"""Bytes of the chunk that ends a PNG."""


@dataclass
class Purchase:
    """What somebody pays for."""

    id: str
    attempt_id: str
    media: str
    plan: dict[str, Any]
    at: float = field(default_factory=time.monotonic)
    canceled: bool = False

    @property
    def state(self) -> str:
        if self.canceled:
            return "canceled"
        if time.monotonic() < self.at + self.plan["delay"]:
            return "running"
        return "failed" if self.plan["mode"] == "fail_late" else "done"

    @property
    def picture(self) -> bytes:
        """A PNG that no other purchase has: its name stands in a text chunk."""
        plain = png_of_about(self.plan["size"])
        text = b"tEXt" + b"purchase\x00" + self.id.encode()
        chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
        return plain[:-END_OF_PNG] + chunk + plain[-END_OF_PNG:]


class Books:
    """Everything that was bought, and how often the provider was asked."""

    def __init__(self) -> None:
        self.purchases: dict[str, Purchase] = {}
        self.calls: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        """How often, by media."""
        self._numbers = itertools.count(1)

    def buy(self, order: dict[str, Any]) -> Purchase:
        bought = Purchase(f"p-{next(self._numbers)}", order["attempt_id"], order["media"], order["input"])
        self.purchases[bought.id] = bought
        return bought


class Dropped(Response):
    """An answer that breaks off: uvicorn closes the connection, as the promised bytes never come."""

    async def __call__(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100")]})


async def submit(request: Request) -> Response:
    books: Books = request.app.state.books
    order: dict[str, Any] = await request.json()
    plan, media = order["input"], order["media"]
    books.calls["submit"] += 1
    if plan["mode"] == "refused":
        return JSONResponse({"error": "not with me"}, 422)
    if plan["mode"] == "busy" and books.refused[media] < plan["busy_times"]:
        books.refused[media] += 1
        return JSONResponse({"error": "busy"}, 429, headers={"retry-after": "1"})
    if plan["mode"] == "slow":
        await asyncio.sleep(plan["accept_after"])
    bought = books.buy(order)
    match plan["mode"]:
        case "accept_then_drop":
            return Dropped()
        case "accept_then_500":
            return JSONResponse({"error": "out of order"}, 500)
        case "accept_then_silence":
            await asyncio.sleep(SILENCE_SECONDS)
    return JSONResponse({"id": bought.id}, 201)


async def poll(request: Request) -> Response:
    books: Books = request.app.state.books
    books.calls["poll"] += 1
    bought = books.purchases.get(request.path_params["id"])
    if bought is None:
        return JSONResponse({"error": "no such purchase"}, 404)
    return JSONResponse({"state": bought.state})


async def find(request: Request) -> Response:
    """Look an attempt up; a plan may say that the provider cannot tell."""
    books: Books = request.app.state.books
    books.calls["find"] += 1
    order: dict[str, Any] = await request.json()
    if not order["input"]["findable"]:
        return JSONResponse({"error": "nobody can say"}, 409)
    found = [one.id for one in books.purchases.values() if one.attempt_id == order["attempt_id"]]
    return JSONResponse({"id": found[0] if found else None})


async def cancel(request: Request) -> Response:
    books: Books = request.app.state.books
    books.calls["cancel"] += 1
    bought = books.purchases[request.path_params["id"]]
    if bought.state == "running" and bought.plan["stoppable"]:
        bought.canceled = True
    return JSONResponse({"state": bought.state})


async def output(request: Request) -> Response:
    books: Books = request.app.state.books
    books.calls["output"] += 1
    bought = books.purchases.get(request.path_params["id"])
    if bought is None or bought.state != "done":
        return JSONResponse({"error": "no such output"}, 404)
    return Response(bought.picture, media_type="image/png")


async def stats(request: Request) -> Response:
    """The books."""
    books: Books = request.app.state.books
    purchases = [
        {
            "id": one.id,
            "attempt_id": one.attempt_id,
            "media": one.media,
            "mode": one.plan["mode"],
            "sha256": hashlib.sha256(one.picture).hexdigest(),
        }
        for one in books.purchases.values()
    ]
    return JSONResponse({"calls": books.calls, "refused": books.refused, "purchases": purchases})


def make_app() -> Starlette:
    app = Starlette(
        routes=[
            Route("/submit", submit, methods=["POST"]),
            Route("/poll/{id}", poll),
            Route("/find", find, methods=["POST"]),
            Route("/cancel/{id}", cancel, methods=["POST"]),
            Route("/output/{id}", output),
            Route("/stats", stats),
        ]
    )
    app.state.books = Books()
    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fd", type=int, help="a socket to listen on; without it, a port that is free")
    given = parser.parse_args().fd
    with socket.socket(fileno=given) if given is not None else socket.create_server(("127.0.0.1", 0)) as listening:
        print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)  # noqa: T201 - where it is found
        config = uvicorn.Config(make_app(), log_level="critical", access_log=False, timeout_graceful_shutdown=1)
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
