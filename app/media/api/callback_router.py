"""Where providers call back."""

from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.core.hot_route import HotRoute, read_body
from app.core.problems import problems
from app.media.api.desk import desk_of
from app.media_generator.callbacks import Callback

router = APIRouter(prefix="/media/callbacks", tags=["callbacks"], route_class=HotRoute)

MAX_BYTES: Final = 8 * 1024 * 1024
"""Some providers send the whole result along; it is not looked at."""


@router.post(
    "/{provider}/{attempt_id}",
    status_code=204,
    response_class=Response,
    responses=problems(401, 404, 413, 422, 503),
    summary="A provider calls back",
)
async def call_back(request: Request, provider: str, attempt_id: UUID) -> Response:
    """Not for you: providers are given this address with each attempt. It is signed as the provider signs.

    A callback only rings: the worker asks the provider what became of the attempt.
    """
    body = await read_body(request, MAX_BYTES)
    headers = {name.lower(): value for name, value in request.headers.items()}
    callback = Callback(attempt_id, headers, body, datetime.now(UTC), dict(request.query_params))
    await desk_of(request).callbacks.take(provider, callback)
    return Response(status_code=204)
