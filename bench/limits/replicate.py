"""A service that speaks like Replicate, for measurements: takes everything, is done after DELAY, calls back signed."""

import asyncio
import base64
import hashlib
import hmac
import os
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.media_generator.dummy_media_generator.png import png_of_about

DELAY: Final = float(os.environ.get("DELAY", "30"))
FILE: Final = png_of_about(200_000)
KEY: Final = b"a key of the measurement, not of anybody"
CALLS_AT_ONCE: Final = 100


class Books:
    """What was sold, and what was asked."""

    def __init__(self) -> None:
        self.sold: dict[str, dict[str, Any]] = {}
        self.polls = 0
        self.called: dict[str, float] = {}
        """When each was called back, in seconds since 1970."""
        self.tasks: set[asyncio.Task[None]] = set()


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncGenerator[None]:
    app.state.books = Books()
    app.state.places = asyncio.Semaphore(CALLS_AT_ONCE)
    async with aiohttp.ClientSession() as client:
        app.state.client = client
        yield
        for task in app.state.books.tasks:
            task.cancel()


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")


def _now(prediction: dict[str, Any]) -> dict[str, Any]:
    done = time.time() >= prediction["done_at"]
    shown = {name: value for name, value in prediction.items() if name != "done_at"}
    return shown | ({"status": "succeeded"} if done else {"status": "processing", "output": None})


async def create(request: Request) -> Response:
    books: Books = request.app.state.books
    body = msgspec.json.decode(await request.body())
    number = f"p{len(books.sold):024d}"
    base = str(request.base_url).rstrip("/")
    prediction = {
        "id": number,
        "model": "bench/image",
        "version": "hidden",
        "input": body["input"],
        "output": [f"{base}/files/{number}.png"],
        "logs": "",
        "error": None,
        "created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "metrics": {"predict_time": DELAY},
        "urls": {"get": f"{base}/v1/predictions/{number}", "cancel": f"{base}/v1/predictions/{number}/cancel"},
        "done_at": time.time() + DELAY,
    }
    books.sold[number] = prediction
    if webhook := body.get("webhook"):
        task = asyncio.create_task(_call_back(request.app, number, webhook))
        books.tasks.add(task)
        task.add_done_callback(books.tasks.discard)
    return _json(_now(prediction), 201)


async def _call_back(app: Starlette, number: str, webhook: str) -> None:
    books: Books = app.state.books
    await asyncio.sleep(max(books.sold[number]["done_at"] - time.time(), 0.0))
    body = msgspec.json.encode(_now(books.sold[number]))
    sign, stamp = f"msg_{number}", str(int(time.time()))
    digest = hmac.new(KEY, f"{sign}.{stamp}.".encode() + body, hashlib.sha256).digest()
    headers = {
        "content-type": "application/json",
        "webhook-id": sign,
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }
    async with app.state.places:
        books.called[number] = time.time()
        async with app.state.client.post(webhook, data=body, headers=headers) as answer:
            if answer.status >= 300:
                print(f"callback answered {answer.status}", flush=True)


async def get(request: Request) -> Response:
    books: Books = request.app.state.books
    books.polls += 1
    found = books.sold.get(request.path_params["number"])
    return _json({"detail": "not found"}, 404) if found is None else _json(_now(found))


async def file(_request: Request) -> Response:
    return Response(FILE, media_type="image/png")


async def secret(_request: Request) -> Response:
    return _json({"key": "whsec_" + base64.b64encode(KEY).decode()})


async def books(request: Request) -> Response:
    kept: Books = request.app.state.books
    return _json({"sold": len(kept.sold), "polls": kept.polls, "called": kept.called})


app = Starlette(
    routes=[
        Route("/v1/models/{owner}/{name}/predictions", create, methods=["POST"]),
        Route("/v1/predictions", create, methods=["POST"]),
        Route("/v1/predictions/{number}", get),
        Route("/v1/webhooks/default/secret", secret),
        Route("/files/{name}", file),
        Route("/books", books),
    ],
    lifespan=lifespan,
)
