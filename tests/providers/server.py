"""A test server for failures that simulators cannot produce: dropped connections, silence, huge bodies."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Self

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class ReceivedRequest:
    """One request, as received."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Server:
    """Answers each path prefix with its handler, and records all requests."""

    def __init__(self, **answers: Handler) -> None:
        self.answers: dict[str, Handler] = dict(answers)
        self.requests: list[ReceivedRequest] = []
        self.url = ""
        self._released = asyncio.Event()
        self._runner: web.AppRunner | None = None

    async def silence(self, request: web.Request) -> web.StreamResponse:
        """Accept the request, and never answer."""
        await self._released.wait()
        return web.Response(status=500)

    async def drop(self, request: web.Request) -> web.StreamResponse:
        """Accept the request, and close the connection."""
        request.transport.abort()
        return web.Response()

    async def _receive(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append(ReceivedRequest(request.method, request.path_qs, headers, await request.read()))
        for prefix, answer in sorted(self.answers.items(), key=lambda item: -len(item[0])):
            if request.path.startswith(prefix):
                return await answer(request)
        return web.json_response({"error": {"message": "no such path"}}, status=404)

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=10**8)
        app.router.add_route("*", "/{tail:.*}", self._receive)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._released.set()
        if self._runner is not None:
            await self._runner.cleanup()


def respond_with(body: bytes, *, status: int = 200, **headers: str) -> Handler:
    """A handler with a fixed response; underscores in header names stand for hyphens."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        header_names = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(body=body, status=status, headers=header_names)

    return answer


def truncated_response(body: bytes, *, promised: int) -> Handler:
    """A handler whose connection is closed before the promised body is complete."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(promised)})
        await response.prepare(request)
        await response.write(body)
        request.transport.close()
        return response

    return answer
