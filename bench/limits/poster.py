"""The limit of webhooks: posts a body that is there already with aiohttp, as many at once, and nothing else."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import ClientSession, TCPConnector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

AT_ONCE: Final = 160
"""What a worker sends at the same time to twenty endpoints."""
_HEADERS: Final = {"content-type": "application/json"}


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncGenerator[None]:
    async with ClientSession(connector=TCPConnector(limit=AT_ONCE, ssl=False), trust_env=False) as session:
        app.state.session = session
        yield


async def post(request: Request) -> Response:
    """`POST /post/COUNT?to=URL` with the body: that many times."""
    session: ClientSession = request.app.state.session
    body, url = await request.body(), request.query_params["to"]
    left = iter(range(request.path_params["count"]))

    async def some() -> None:
        for _ in left:
            async with session.post(url, data=body, headers=_HEADERS, allow_redirects=False) as answer:
                await answer.read()

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(some())
    return Response(status_code=200)


app = Starlette(routes=[Route("/post/{count:int}", post, methods=["POST"])], lifespan=lifespan)
