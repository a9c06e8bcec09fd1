"""The limit of a worker: uploads the same bytes with obstore and writes one minimal row for each, nothing else."""

import asyncio
import os
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg
import obstore
from obstore.store import S3Store
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.media_generator.dummy_media_generator.png import png_of_about

AT_ONCE: Final = 16
TABLE: Final = "CREATE TABLE IF NOT EXISTS limit_files (id uuid PRIMARY KEY, key text NOT NULL, bytes bigint NOT NULL)"
INSERT: Final = "INSERT INTO limit_files VALUES ($1, $2, $3)"


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncGenerator[None]:
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
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=1, max_size=10) as pool:
        app.state.pool = pool
        await pool.execute(TABLE)
        yield


async def upload(request: Request) -> Response:
    """`POST /upload/COUNT/BYTES`: that many objects of that size."""
    store, pool = request.app.state.store, request.app.state.pool
    file = png_of_about(request.path_params["size"])
    permits = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        file_id = uuid.uuid4()
        key = f"limit/{file_id}.png"
        async with permits:
            await obstore.put_async(store, key, file, attributes={"Content-Type": "image/png"}, use_multipart=False)
            await pool.execute(INSERT, file_id, key, len(file))

    async with asyncio.TaskGroup() as group:
        for _ in range(request.path_params["count"]):
            group.create_task(one())
    return Response(status_code=200)


app = Starlette(routes=[Route("/upload/{count:int}/{size:int}", upload, methods=["POST"])], lifespan=lifespan)
