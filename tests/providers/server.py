"""A server of the tests, for what a simulator of others cannot do: break off, keep silent, send what is huge."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Self

from aiohttp import web

Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Came:
    """One request, as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Server:
    """Answers each path as it is told; it remembers what came."""

    def __init__(self, **answers: Answering) -> None:
        self.answers: dict[str, Answering] = dict(answers)
        self.came: list[Came] = []
        self.url = ""
        self._released = asyncio.Event()
        self._runner: web.AppRunner | None = None

    async def silence(self, request: web.Request) -> web.StreamResponse:
        """Take it, and say nothing until the end."""
        await self._released.wait()
        return web.Response(status=500)

    async def drop(self, request: web.Request) -> web.StreamResponse:
        """Take it, and close the connection."""
        request.transport.abort()
        return web.Response()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.came.append(Came(request.method, request.path_qs, headers, await request.read()))
        for beginning, answer in sorted(self.answers.items(), key=lambda item: -len(item[0])):
            if request.path.startswith(beginning):
                return await answer(request)
        return web.json_response({"error": {"message": "no such path"}}, status=404)

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=10**8)
        app.router.add_route("*", "/{tail:.*}", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._released.set()
        if self._runner is not None:
            await self._runner.cleanup()


def saying(body: bytes, *, status: int = 200, **headers: str) -> Answering:
    """Always the same; underscores in names of headers stand for hyphens."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(body=body, status=status, headers=given)

    return answer


def breaking_off(body: bytes, *, promised: int) -> Answering:
    """Success, and then the connection ends before all of it came."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(promised)})
        await response.prepare(request)
        await response.write(body)
        request.transport.close()
        return response

    return answer
