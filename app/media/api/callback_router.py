"""Where providers call back and upload files."""

from collections.abc import AsyncIterator
from typing import Final
from uuid import UUID

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.core import clock
from app.core.errors import InvalidInputError
from app.core.http_server.hot_route import TolerantHotRoute, limited
from app.core.http_server.problems import problems
from app.core.http_server.timed_body import RequestTimeoutError
from app.media.api.dependencies import media_dependencies
from app.media.errors import AnswerNotKeptError
from app.media_generator.callbacks import Callback, SentFile

# Providers may add parameters of their own; their signature may cover them.
router = APIRouter(prefix="/media/callbacks", tags=["callbacks"], route_class=TolerantHotRoute)

MAX_BYTES: Final = 8 * 1024 * 1024
"""Some providers include the whole result; it is ignored."""


@router.post(
    "/{provider}/{attempt_id}",
    status_code=204,
    response_class=Response,
    responses=problems(401, 404, 413, 422, 503),
    summary="Receive a provider's callback at a URL of an earlier release",
)
async def call_back(request: Request, provider: str, attempt_id: UUID) -> Response:
    """For providers only: releases before gave them URLs without a secret. The call carries the provider's signature.

    It is only a signal: the worker then polls the provider for the result. 204: it was recorded.
    """
    await media_dependencies(request).callbacks.take(provider, await _callback(request, attempt_id))
    return Response(status_code=204)


@router.post(
    "/{provider}/{attempt_id}/{secret}",
    status_code=204,
    response_class=Response,
    responses=problems(401, 404, 413, 422, 503),
    summary="Receive a provider's callback or result",
)
async def call_back_for_attempt(request: Request, provider: str, attempt_id: UUID, secret: str) -> Response:
    """For providers only: Fleek sends them this URL with each attempt; `secret` cannot be guessed.

    The call carries the provider's signature and is only a signal: the worker then polls the provider for the result.
    The body of a provider that cannot be polled and signs nothing is the result itself: it is stored unchanged, and the
    worker reads it. 204: it was recorded. After any other answer, call again.
    """
    callbacks = media_dependencies(request).callbacks
    if callbacks.brings_answers(provider):
        await callbacks.take_answer(provider, attempt_id, secret, _chunks(request))
    else:
        await callbacks.take(provider, await _callback(request, attempt_id), secret)
    return Response(status_code=204)


@router.put(
    "/{provider}/files/{key}/{name}",
    status_code=201,
    response_class=Response,
    responses={
        201: {"headers": {"Location": {"description": "Its name in the result.", "schema": {"type": "string"}}}},
        **problems(401, 404, 413, 422, 503),
    },
    summary="Receive a file of a provider's result",
)
async def bring_file(request: Request, provider: str, key: str, name: str) -> Response:
    """For providers only: a provider that uploads its files before its result sends each one here, as the body.

    `key` is the one the operator has configured, such as COG_UPLOAD_KEY; the header `X-Prediction-ID` is the attempt's
    id. 201: the file was stored, and `Location` is its name in the result.
    """
    try:
        attempt_id = UUID(request.headers.get("x-prediction-id", ""))
    except ValueError:
        raise InvalidInputError("the header X-Prediction-ID must be the id of an attempt") from None
    dependencies = media_dependencies(request)
    chunks = limited(_chunks(request), dependencies.max_output_bytes)
    stored = await dependencies.callbacks.take_file(provider, SentFile(attempt_id, key, name, chunks))
    # Without the key: the file is read from the bucket, never from this URL.
    location = f"{dependencies.public_url}/media/callbacks/{provider}/files/{stored}"
    return Response(status_code=201, headers={"Location": location})


async def _callback(request: Request, attempt_id: UUID) -> Callback:
    body = b"".join([chunk async for chunk in limited(_chunks(request), MAX_BYTES)])
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Callback(attempt_id, headers, body, clock.now(), dict(request.query_params))


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    """The body as it arrives.

    Raises:
        AnswerNotKeptError: It arrives too slowly. Not 408, after which few providers call again.
    """
    try:
        async for chunk in request.stream():
            yield chunk
    except RequestTimeoutError as error:
        raise AnswerNotKeptError(error.detail) from None
