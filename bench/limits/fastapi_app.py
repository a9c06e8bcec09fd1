"""The limit: the same three operations as a short, well-written FastAPI application on asyncpg.

No history, no idempotency, no input schema, no cache, no bell: one statement for each request.
"""

import json
import os
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
import obstore
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, RedirectResponse
from obstore.store import S3Store
from pydantic import BaseModel, Field

from bench.limits.statements import CONTENT, INSERT, OWNER, SELECT


class MediaIn(BaseModel):
    prompt: str = Field(min_length=1, max_length=20_000)
    model: str = "dummy/faulty"
    input: dict[str, Any] = {}
    metadata: dict[str, Any] = {}


async def set_codecs(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    app.state.store = S3Store(
        "fleek-media",
        endpoint=os.environ["S3_ENDPOINT_URL"],
        region=os.environ["AWS_DEFAULT_REGION"],
        access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
        secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        virtual_hosted_style_request=False,
        client_options={
            "allow_http": True,
            "proxy_url": os.environ["S3_ENDPOINT_URL"],
            "proxy_excludes": "127.0.0.1",
        },
    )
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=10, max_size=10, init=set_codecs) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/media/generate", status_code=202)
async def generate(request: Request, body: MediaIn) -> JSONResponse:
    media_id, job_id = uuid.uuid4(), uuid.uuid4()
    async with request.app.state.pool.acquire() as connection:
        created_at = await connection.fetchval(
            INSERT, media_id, job_id, OWNER, body.prompt, body.model, body.input, body.metadata
        )
    return JSONResponse(
        {
            "id": str(media_id),
            "job_id": str(job_id),
            "status": "IN_QUEUE",
            "prompt": body.prompt,
            "model": body.model,
            "input": body.input,
            "metadata": body.metadata,
            "created_at": created_at.isoformat(),
        },
        status_code=202,
        headers={"location": f"/media/status/{job_id}"},
    )


@app.get("/media/status/{job_id}")
async def status(request: Request, job_id: uuid.UUID) -> JSONResponse:
    async with request.app.state.pool.acquire() as connection:
        row = await connection.fetchrow(SELECT, job_id, OWNER)
    if row is None:
        raise HTTPException(404, "no such job")
    return JSONResponse(
        {
            "id": str(row["id"]),
            "job_id": str(row["job_id"]),
            "status": row["status"],
            "prompt": row["prompt"],
            "model": row["model"],
            "input": row["input"],
            "metadata": row["metadata"],
            "progress": row["progress"],
            "number_of_tries": row["number_of_tries"],
            "error": row["error"],
            "next_run": row["next_run"].isoformat(),
            "created_at": row["created_at"].isoformat(),
            "updated_at": row["updated_at"].isoformat(),
            "started_at": row["started_at"] and row["started_at"].isoformat(),
            "completed_at": row["completed_at"] and row["completed_at"].isoformat(),
        }
    )


@app.get("/media/content/{media_id}")
async def content(request: Request, media_id: uuid.UUID, index: int = 0) -> RedirectResponse:
    async with request.app.state.pool.acquire() as connection:
        key = await connection.fetchval(CONTENT, media_id, OWNER, index)
    if key is None:
        raise HTTPException(404, "no such file")
    url = obstore.sign(request.app.state.store, "GET", key, timedelta(hours=1))
    return RedirectResponse(url)
