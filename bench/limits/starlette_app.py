"""Bare Starlette on asyncpg's pool, for information: no validation, no documentation, one statement each."""

import json
import os
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import asyncpg
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.limits.statements import INSERT, OWNER, SELECT


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncGenerator[None]:
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=10, max_size=10) as pool:
        app.state.pool = pool
        yield


async def generate(request: Request) -> Response:
    body = msgspec.json.decode(await request.body())
    media_id, job_id = uuid.uuid4(), uuid.uuid4()
    given, metadata = json.dumps(body["input"]), json.dumps(body["metadata"])
    async with request.app.state.pool.acquire() as connection:
        await connection.fetchval(INSERT, media_id, job_id, OWNER, body["prompt"], body["model"], given, metadata)
    answer = msgspec.json.encode({"id": media_id, "job_id": job_id, "status": "IN_QUEUE", **body})
    return Response(answer, status_code=202, media_type="application/json")


async def status(request: Request) -> Response:
    async with request.app.state.pool.acquire() as connection:
        row = await connection.fetchrow(SELECT, request.path_params["job_id"], OWNER)
    if row is None:
        return Response(status_code=404)
    return Response(msgspec.json.encode(dict(row)), media_type="application/json")


app = Starlette(
    routes=[
        Route("/media/generate", generate, methods=["POST"]),
        Route("/media/status/{job_id:uuid}", status),
    ],
    lifespan=lifespan,
)
