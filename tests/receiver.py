"""A receiver of webhooks on a real port, with an answer that the test chooses."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Self

import msgspec
from aiohttp import web


@dataclass
class Got:
    """One request that was received."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def payload(self) -> dict[str, Any]:
        return msgspec.json.decode(self.body)


class Receiver:
    """`answer` is called for each request; the default answers 204."""

    def __init__(self, answer: Callable[[Got], Awaitable[web.StreamResponse]] | None = None) -> None:
        self.got: list[Got] = []
        self.at_once = 0
        self.most_at_once = 0
        self.answer = answer or answering(204)
        self.url = ""
        self._runner: web.AppRunner | None = None
        self._port = 0

    def types(self) -> list[str]:
        return [got.payload["type"] for got in self.got]

    async def _take(self, request: web.Request) -> web.StreamResponse:
        got = Got(
            request.path_qs, {name.lower(): value for name, value in request.headers.items()}, await request.read()
        )
        self.got.append(got)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self.answer(got)
        except ConnectionAbortedError:
            request.transport.abort()
            return web.Response()
        finally:
            self.at_once -= 1

    async def open(self) -> None:
        """Listen; again on the same port after `close`."""
        app = web.Application(client_max_size=10**7)
        app.router.add_route("*", "/{tail:.*}", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}/hook"

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()


def answering(status: int, text: str = "", **headers: str) -> Callable[[Got], Awaitable[web.Response]]:
    async def answer(_got: Got) -> web.Response:
        return web.Response(status=status, text=text, headers=headers)

    return answer


async def dropping(_got: Got) -> web.Response:
    """Reads the request and closes the connection without a word."""
    raise ConnectionAbortedError


def hanging(until: asyncio.Event) -> Callable[[Got], Awaitable[web.Response]]:
    async def answer(_got: Got) -> web.Response:
        await until.wait()
        return web.Response(status=204)

    return answer
