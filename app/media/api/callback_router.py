"""Where providers call back."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.core.errors import InvalidInputError
from app.core.http_server.hot_route import HotRoute, limited, read_body
from app.core.http_server.problems import problems
from app.media.api.dependencies import media_dependencies
from app.media.errors import AnswerNotKeptError
from app.media_generator.callbacks import Callback, SentFile

router = APIRouter(prefix="/media/callbacks", tags=["callbacks"], route_class=HotRoute)

MAX_BYTES: Final = 8 * 1024 * 1024
"""Some providers send the whole result along; it is not looked at."""
SILENCE: Final = 30.0
"""Seconds without a byte of an answer."""


@router.post(
    "/{provider}/{attempt_id}",
    status_code=204,
    response_class=Response,
    responses=problems(401, 404, 413, 422, 503),
    summary="A provider calls back",
)
async def call_back(request: Request, provider: str, attempt_id: UUID) -> Response:
    """Not for you: providers are given this address with each attempt. The call is signed as the provider signs.

    A callback only rings: the worker asks the provider what became of the attempt. 204: it has been noted.
    """
    body = await read_body(request, MAX_BYTES)
    headers = {name.lower(): value for name, value in request.headers.items()}
    callback = Callback(attempt_id, headers, body, datetime.now(UTC), dict(request.query_params))
    await media_dependencies(request).callbacks.take(provider, callback)
    return Response(status_code=204)


@router.post(
    "/{provider}/{attempt_id}/{secret}",
    status_code=204,
    response_class=Response,
    responses=problems(401, 404, 422, 503),
    summary="A provider calls back with its answer",
)
async def bring_answer(request: Request, provider: str, attempt_id: UUID, secret: str) -> Response:
    """Not for you: a provider that cannot be asked afterwards, and signs nothing, is given this address.

    Nobody can guess `secret`. The answer in the body is stored as it comes; the worker reads it. 204: it is stored.
    Any other answer means: call again.
    """
    await media_dependencies(request).callbacks.take_answer(provider, attempt_id, secret, _coming(request))
    return Response(status_code=204)


@router.put(
    "/{provider}/files/{key}/{name}",
    status_code=201,
    response_class=Response,
    responses={
        201: {"headers": {"Location": {"description": "How the answer names it.", "schema": {"type": "string"}}}},
        **problems(401, 404, 413, 422, 503),
    },
    summary="A provider hands over a file of its answer",
)
async def bring_file(request: Request, provider: str, key: str, name: str) -> Response:
    """Not for you: a provider that sends its files before its answer sends them here, the bytes as the body.

    `key` is what the operator has told it, such as COG_UPLOAD_KEY; the header `X-Prediction-ID` is the attempt's id.
    201: the file is stored, and `Location` is its name in the answer.
    """
    try:
        attempt_id = UUID(request.headers.get("x-prediction-id", ""))
    except ValueError:
        raise InvalidInputError("the header X-Prediction-ID must be the id of an attempt") from None
    desk = media_dependencies(request)
    chunks = limited(_coming(request), desk.largest_file)
    kept = await desk.callbacks.take_file(provider, SentFile(attempt_id, key, name, chunks))
    # Without the key: what is named by it is read in the bucket, never here.
    return Response(status_code=201, headers={"Location": f"{desk.public_url}/media/callbacks/{provider}/files/{kept}"})


async def _coming(request: Request) -> AsyncIterator[bytes]:
    """The body as it comes.

    Raises:
        AnswerNotKeptError: It ceases to come.
    """
    source = aiter(request.stream())
    try:
        while True:
            async with asyncio.timeout(SILENCE):
                chunk = await anext(source)
            yield chunk
    except StopAsyncIteration:
        return
    except TimeoutError:
        raise AnswerNotKeptError(f"no byte came for {SILENCE:.0f} seconds") from None
