"""The media endpoints: wire in, one use case, wire out."""

from datetime import timedelta
from functools import partial
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from app.auth.principal import DEFAULT_OWNER_ID
from app.core.http_server.hot_route import HotRoute
from app.core.http_server.problems import problems
from app.core.pagination import decode_cursor
from app.idempotency.keys import HEADER, MAX_LENGTH, REPLAYED, read_key
from app.jobs.states import FINAL, CancelAnswer, MediaStatus, Rendition
from app.jobs.transitions.request import ClientColumns
from app.media import service
from app.media.api import render
from app.media.api.dependencies import MediaDependencies, media_dependencies
from app.media.api.long_poll import Wait
from app.media.api.response_cache import Answer
from app.media.api.schemas import CancelOut, ContentOut, JobOut, MediaIn, MediaOut, MediaPage
from app.media.intake.submit import MediaRequest, request_media
from app.media.queries import MediaRow

router = APIRouter(prefix="/media", tags=["media"], route_class=HotRoute)

JSON: Final = "application/json"
INDEX_LIMIT: Final = 1_000
_NOT_MODIFIED: Final[dict[int | str, dict[str, Any]]] = {304: {"description": "Unchanged since the ETag you sent."}}
_ACCEPTED: Final[dict[int | str, dict[str, Any]]] = {
    202: {
        "description": "Accepted; poll the address in `Location`.",
        "headers": {
            "Location": {"description": "Where its status is.", "schema": {"type": "string"}},
            REPLAYED: {"description": "`true` if the key was used before.", "schema": {"type": "string"}},
        },
    }
}
_KEY_PARAMETER: Final = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "A name of yours for this request. Asked again under the same name, it joins the first one.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_LENGTH, "pattern": "^[!-~]+$"},
}


@router.post(
    "/generate",
    status_code=202,
    response_model=MediaOut,
    responses={**_ACCEPTED, **problems(413, 415, 422, 503)},
    summary="Ask for a media",
    openapi_extra={"parameters": [_KEY_PARAMETER]},
)
async def generate(request: Request, body: MediaIn) -> Response:
    """It is generated in the background: poll `Location` until its status is final."""
    desk = media_dependencies(request)
    given = request.headers.get(HEADER)
    # Only with a key: dumping the request for its fingerprint costs the others nothing.
    key = None if given is None else read_key(given, body.model_dump(mode="json"))
    asked = MediaRequest(
        **{name: getattr(body, name) for name in ClientColumns.__struct_fields__},
        model=body.model,
        input=body.input,
        metadata=body.metadata,
        time_limit=None if body.deadline_seconds is None else timedelta(seconds=body.deadline_seconds),
        key=key,
        webhook_url=body.webhook_url,
        webhook_events=body.webhook_events,
    )
    requested = await request_media(desk.services, DEFAULT_OWNER_ID, asked)
    row = requested.media
    headers = {"location": _status_path(request, row.job_id)}
    if requested.replayed:
        headers[REPLAYED] = "true"
    wait = Wait.wanted(request)
    if wait is not None:
        row = await wait.until_news(desk, row, row.id, partial(service.media, desk.services, DEFAULT_OWNER_ID, row.id))
        headers |= wait.applied
    status_code = 200 if row.status in FINAL and wait is not None else 202
    # A client that did not wait is answered at once, without another read of the queue.
    waiting = None if wait is None else await service.waiting(desk.services, row)
    body_bytes = render.media_bytes(row, desk.public_url, waiting)
    return Response(body_bytes, status_code=status_code, media_type=JSON, headers=headers)


@router.get(
    "",
    response_model=MediaPage,
    responses=problems(422, 503),
    summary="List media, newest first",
)
async def list_media(
    request: Request,
    status: Annotated[MediaStatus | None, Query(description="Only media in this status.")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="How many at most.")] = 20,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.")] = None,
) -> Response:
    """Your media with the permanent addresses of their files."""
    desk = media_dependencies(request)
    before = decode_cursor(cursor) if cursor else None
    rows = await service.list_media(desk.services, DEFAULT_OWNER_ID, status=status, before=before, limit=limit)
    return Response(render.page_bytes(rows, limit, desk.public_url), media_type=JSON)


@router.get(
    "/status/{job_id}",
    response_model=MediaOut,
    responses={**_NOT_MODIFIED, **problems(404, 422, 503)},
    summary="The media of a job",
)
async def status(request: Request, job_id: UUID) -> Response:
    """The complete media by the job's id."""
    desk = media_dependencies(request)
    kept = desk.responses.get("job", DEFAULT_OWNER_ID, job_id)
    wait = Wait.wanted(request)
    if kept is None:
        row = await service.media_of_job(desk.services, DEFAULT_OWNER_ID, job_id)
        if wait is not None:
            read = partial(service.media, desk.services, DEFAULT_OWNER_ID, row.id)
            row = await wait.until_news(desk, row, row.id, read)
        kept = await _answer(desk, row, "job", job_id)
    return _respond(request, kept, wait)


@router.get(
    "/jobs/{job_id}",
    response_model=JobOut,
    responses={**_NOT_MODIFIED, **problems(404, 422, 503)},
    summary="The light status of a job",
)
async def job(request: Request, job_id: UUID) -> Response:
    """Only what changes; send the ETag back as If-None-Match and an unchanged status costs you a 304."""
    desk = media_dependencies(request)
    kept = desk.responses.get("light", DEFAULT_OWNER_ID, job_id)
    wait = Wait.wanted(request)
    if kept is None:
        row = await service.job(desk.services, DEFAULT_OWNER_ID, job_id)
        if wait is not None:
            read = partial(service.job, desk.services, DEFAULT_OWNER_ID, job_id)
            row = await wait.until_news(desk, row, row.media_id, read)
        waiting = await service.waiting(desk.services, row)
        kept = Answer(render.job_bytes(row, waiting), render.etag(row, waiting))
        if row.status == MediaStatus.COMPLETED:
            desk.responses.keep("light", DEFAULT_OWNER_ID, job_id, kept)
    return _respond(request, kept, wait)


@router.get(
    "/content/{media_id}",
    status_code=307,
    response_class=Response,
    responses={
        307: {
            "description": "To a signed URL of the file.",
            "headers": {"Location": {"description": "The signed URL.", "schema": {"type": "string"}}},
        },
        200: {"description": "For `Accept: application/json`.", "model": ContentOut},
        **problems(404, 409, 422, 503),
    },
    summary="The file of a media",
)
async def content(
    request: Request,
    media_id: UUID,
    index: Annotated[int, Query(ge=0, lt=INDEX_LIMIT, description="Which output; 0 is the first.")] = 0,
    rendition: Annotated[Rendition | None, Query(description="`poster`: one picture of a video.")] = None,
) -> Response:
    """The permanent address of a file. It leads to a URL that lives for a while; do not store that one."""
    desk = media_dependencies(request)
    signed = await service.content_url(desk.services, DEFAULT_OWNER_ID, media_id, index, rendition)
    if JSON in request.headers.get("accept", ""):
        return Response(
            msgspec.json.encode({"url": signed.url, "expires_at": signed.expires_at}),
            media_type=JSON,
            headers={"cache-control": "private, no-store", "vary": "accept"},
        )
    headers = {"location": signed.url, "cache-control": "private, no-store", "vary": "accept"}
    return Response(status_code=307, headers=headers)


@router.get(
    "/{media_id:uuid}",  # so that GET /media/generate is a wrong method, not a wrong id
    response_model=MediaOut,
    responses={**_NOT_MODIFIED, **problems(404, 422, 503)},
    summary="A media",
)
async def media(request: Request, media_id: UUID) -> Response:
    """The complete media by its own id."""
    desk = media_dependencies(request)
    kept = desk.responses.get("media", DEFAULT_OWNER_ID, media_id)
    if kept is None:
        kept = await _answer(desk, await service.media(desk.services, DEFAULT_OWNER_ID, media_id), "media", media_id)
    return _respond(request, kept)


@router.post(
    "/{media_id:uuid}/retry",
    status_code=202,
    response_model=MediaOut,
    responses=problems(404, 409, 422, 503),
    summary="Try a failed media again",
)
async def retry(request: Request, media_id: UUID) -> Response:
    """A new attempt, knowing what became of the last. After `outcome_unknown` it may be paid a second time."""
    desk = media_dependencies(request)
    row = await service.retry_media(desk.services, DEFAULT_OWNER_ID, media_id)
    headers = {"location": _status_path(request, row.job_id)}
    return Response(render.media_bytes(row, desk.public_url), status_code=202, media_type=JSON, headers=headers)


@router.post(
    "/{media_id:uuid}/cancel",
    response_model=CancelOut,
    responses={
        202: {"description": "Its provider is asked; its status shows the result.", "model": CancelOut},
        **problems(404, 409, 422, 503),
    },
    summary="Cancel a media",
)
async def cancel(request: Request, media_id: UUID) -> Response:
    """At once while it waits (200). While it is worked on, its provider is asked (202): read `cancel` in its status.

    What is over, or cannot be stopped by its provider, answers 409 `cancel_too_late`. Every answer says whether
    money was spent.
    """
    desk = media_dependencies(request)
    canceling = await service.cancel_media(desk.services, DEFAULT_OWNER_ID, media_id)
    asked = canceling.answer is CancelAnswer.REQUESTED
    headers = {"location": _status_path(request, canceling.media.job_id)} if asked else None
    body = render.cancel_bytes(canceling)
    return Response(body, status_code=202 if asked else 200, media_type=JSON, headers=headers)


def _status_path(request: Request, job_id: UUID) -> str:
    """Below the prefix that a proxy puts in front, if there is one."""
    return f"{request.scope.get('root_path', '')}/media/status/{job_id}"


async def _answer(desk: MediaDependencies, row: MediaRow, kind: str, key: UUID) -> Answer:
    waiting = await service.waiting(desk.services, row)
    answer = Answer(render.media_bytes(row, desk.public_url, waiting), render.etag(row, waiting))
    if row.status == MediaStatus.COMPLETED:
        desk.responses.keep(kind, DEFAULT_OWNER_ID, key, answer)
    return answer


def _respond(request: Request, answer: Answer, wait: Wait | None = None) -> Response:
    headers = {"etag": answer.etag, "cache-control": "private, no-cache", **(wait.applied if wait else {})}
    known = request.headers.get("if-none-match", "")
    if known.strip() == "*" or answer.etag in known:
        return Response(status_code=304, headers=headers)
    return Response(answer.body, media_type=JSON, headers=headers)
