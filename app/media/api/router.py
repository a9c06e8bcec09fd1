"""The media endpoints: each parses its request, runs one use case and renders the result."""

from datetime import timedelta
from functools import partial
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from app.auth.principal import DEFAULT_OWNER_ID
from app.core.http_server.hot_route import HotRoute
from app.core.http_server.prefer import HEADER as PREFER
from app.core.http_server.problems import problems
from app.core.pagination import decode_cursor
from app.idempotency.keys import EXPIRES, HEADER, MAX_LENGTH, REPLAYED, expires, read_key
from app.jobs.states import FINAL, CancelAnswer, MediaStatus
from app.jobs.transitions.request import ClientColumns
from app.media import resource, service
from app.media.api.dependencies import MediaDependencies, media_dependencies
from app.media.api.long_poll import Wait
from app.media.api.response_cache import CachedResponse, is_known
from app.media.api.schemas import CancelOut, JobOut, MediaIn, MediaOut, MediaPage, Statuses, identity
from app.media.intake.submit import MediaRequest, request_media
from app.media.queries import MediaRow

router = APIRouter(prefix="/media", tags=["media"], route_class=HotRoute)

JSON: Final = "application/json"
_NOT_MODIFIED: Final[dict[int | str, dict[str, Any]]] = {304: {"description": "Unchanged since the ETag you sent."}}
_ACCEPTED: Final[dict[int | str, dict[str, Any]]] = {
    202: {
        "description": "Accepted; poll the URL in `Location`.",
        "headers": {
            "Location": {"description": "The URL of its status.", "schema": {"type": "string"}},
            REPLAYED: {"description": "`true` if the key was used before.", "schema": {"type": "string"}},
            EXPIRES: {
                "description": "An HTTP date: until then the key is kept whatever happens, and after it as long as its "
                "media item exists.",
                "schema": {"type": "string"},
            },
        },
    }
}
_KEY_PARAMETER: Final = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "A name for this request. Repeating it with the same name returns the first request's media item, "
    "as long as that exists.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_LENGTH, "pattern": "^[!-~]+$"},
}


@router.post(
    "/generate",
    status_code=202,
    response_model=MediaOut,
    responses={**_ACCEPTED, **problems(409, 413, 415, 422, 503)},
    summary="Request a media item",
    openapi_extra={"parameters": [_KEY_PARAMETER]},
)
async def generate(request: Request, body: MediaIn) -> Response:
    """It is generated in the background: poll `Location` until its status is final."""
    dependencies = media_dependencies(request)
    given = request.headers.get(HEADER)
    # Only with a key: dumping the request for its fingerprint costs the others nothing.
    key = None if given is None else read_key(given, identity(body))
    requested = MediaRequest(
        **{name: getattr(body, name) for name in ClientColumns.__struct_fields__},
        model=body.model,
        input=body.input,
        metadata=body.metadata,
        time_limit=None if body.deadline_seconds is None else timedelta(seconds=body.deadline_seconds),
        key=key,
        webhook_url=body.webhook_url,
        webhook_events=body.webhook_events,
    )
    result = await request_media(dependencies.services, DEFAULT_OWNER_ID, requested)
    row = result.media
    headers = {"location": _status_path(request, row.job_id)}
    if key is not None:
        headers[EXPIRES] = expires(row.created_at, dependencies.services.key_lifetime)
    if result.replayed:
        headers[REPLAYED] = "true"
    wait = Wait.requested(request) if PREFER in request.headers else None
    if wait is not None:
        read = partial(service.media, dependencies.services, DEFAULT_OWNER_ID, row.id)
        row = await wait.until_changed(dependencies, row, row.id, read)
        headers |= wait.applied
    status_code = 200 if row.status in FINAL and wait is not None else 202
    # A client that did not wait is answered without another read of the queue.
    waiting = None if wait is None else await service.waiting(dependencies.services, row)
    body_bytes = resource.media_bytes(row, dependencies.public_url, waiting)
    return Response(body_bytes, status_code=status_code, media_type=JSON, headers=headers)


@router.get(
    "",
    response_model=MediaPage,
    responses=problems(422, 503),
    summary="List media, newest first",
)
async def list_media(
    request: Request,
    status: Statuses = None,
    limit: Annotated[int, Query(ge=1, le=100, description="How many at most.")] = 20,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.")] = None,
) -> Response:
    """Your media with the permanent URLs of their files."""
    dependencies = media_dependencies(request)
    before = decode_cursor(cursor) if cursor else None
    rows = await service.list_media(
        dependencies.services, DEFAULT_OWNER_ID, statuses=status or [], before=before, limit=limit
    )
    return Response(resource.page_bytes(rows, limit, dependencies.public_url), media_type=JSON)


@router.get(
    "/status/{job_id}",
    response_model=MediaOut,
    responses={**_NOT_MODIFIED, **problems(404, 422, 503)},
    summary="The media item of a job",
)
async def status(request: Request, job_id: UUID) -> Response:
    """The complete media item, by the id of its job."""
    dependencies = media_dependencies(request)
    cached = dependencies.responses.get("job", DEFAULT_OWNER_ID, job_id)
    wait = Wait.requested(request)
    if cached is None:
        row = await service.media_of_job(dependencies.services, DEFAULT_OWNER_ID, job_id)
        if wait is not None:
            read = partial(service.media, dependencies.services, DEFAULT_OWNER_ID, row.id)
            row = await wait.until_changed(dependencies, row, row.id, read)
        cached = await _response_of(dependencies, row, "job", job_id)
    return _respond(request, cached, wait)


@router.get(
    "/jobs/{job_id}",
    response_model=JobOut,
    responses={**_NOT_MODIFIED, **problems(404, 422, 503)},
    summary="The light status of a job",
)
async def job(request: Request, job_id: UUID) -> Response:
    """Only what changes. Send the ETag back as If-None-Match: an unchanged status is answered with 304."""
    dependencies = media_dependencies(request)
    cached = dependencies.responses.get("light", DEFAULT_OWNER_ID, job_id)
    wait = Wait.requested(request)
    if cached is None:
        row = await service.job(dependencies.services, DEFAULT_OWNER_ID, job_id)
        if wait is not None:
            read = partial(service.job, dependencies.services, DEFAULT_OWNER_ID, job_id)
            row = await wait.until_changed(dependencies, row, row.media_id, read)
        waiting = await service.waiting(dependencies.services, row)
        cached = CachedResponse(resource.job_bytes(row, waiting), resource.etag(row, waiting))
        if row.status == MediaStatus.COMPLETED:
            dependencies.responses.put("light", DEFAULT_OWNER_ID, job_id, cached)
    return _respond(request, cached, wait)


@router.get(
    "/{media_id:uuid}",  # so that GET /media/generate is a wrong method, not a wrong id
    response_model=MediaOut,
    responses={**_NOT_MODIFIED, **problems(404, 422, 503)},
    summary="A media item",
)
async def media(request: Request, media_id: UUID) -> Response:
    """The complete media item, by its own id."""
    dependencies = media_dependencies(request)
    cached = dependencies.responses.get("media", DEFAULT_OWNER_ID, media_id)
    if cached is None:
        row = await service.media(dependencies.services, DEFAULT_OWNER_ID, media_id)
        cached = await _response_of(dependencies, row, "media", media_id)
    return _respond(request, cached)


@router.post(
    "/{media_id:uuid}/retry",
    status_code=202,
    response_model=MediaOut,
    responses=problems(404, 409, 422, 503),
    summary="Retry a failed media item",
)
async def retry(request: Request, media_id: UUID) -> Response:
    """Starts a new attempt. After `outcome_unknown` or `output_gone` it may be charged a second time.

    After `output_invalid` the result that was bought is fetched again, without another purchase.
    """
    dependencies = media_dependencies(request)
    row = await service.retry_media(dependencies.services, DEFAULT_OWNER_ID, media_id)
    headers = {"location": _status_path(request, row.job_id)}
    body = resource.media_bytes(row, dependencies.public_url)
    return Response(body, status_code=202, media_type=JSON, headers=headers)


@router.post(
    "/{media_id:uuid}/cancel",
    response_model=CancelOut,
    responses={
        202: {"description": "Sent to its provider; `cancel` in the status shows the result.", "model": CancelOut},
        **problems(404, 409, 422, 503),
    },
    summary="Cancel a media item",
)
async def cancel(request: Request, media_id: UUID) -> Response:
    """A waiting media item is canceled at once (200). For one in progress, the request goes to its provider (202).

    One that has finished, or that its provider cannot stop, is answered with 409 `cancel_too_late`. Every answer says
    whether money was spent.
    """
    dependencies = media_dependencies(request)
    canceling = await service.cancel_media(dependencies.services, DEFAULT_OWNER_ID, media_id)
    pending = canceling.answer is CancelAnswer.REQUESTED
    headers = {"location": _status_path(request, canceling.media.job_id)} if pending else None
    body = resource.cancel_bytes(canceling.media, canceling.answer, canceling.money_spent)
    return Response(body, status_code=202 if pending else 200, media_type=JSON, headers=headers)


def _status_path(request: Request, job_id: UUID) -> str:
    """Includes the prefix that a proxy adds, if any."""
    return f"{request.scope.get('root_path', '')}/media/status/{job_id}"


async def _response_of(dependencies: MediaDependencies, row: MediaRow, kind: str, key: UUID) -> CachedResponse:
    waiting = await service.waiting(dependencies.services, row)
    response = CachedResponse(resource.media_bytes(row, dependencies.public_url, waiting), resource.etag(row, waiting))
    if row.status == MediaStatus.COMPLETED:
        dependencies.responses.put(kind, DEFAULT_OWNER_ID, key, response)
    return response


def _respond(request: Request, response: CachedResponse, wait: Wait | None = None) -> Response:
    headers = {"etag": response.etag, "cache-control": "private, no-cache", **(wait.applied if wait else {})}
    if is_known(request, response.etag):
        return Response(status_code=304, headers=headers)
    return Response(response.body, media_type=JSON, headers=headers)
