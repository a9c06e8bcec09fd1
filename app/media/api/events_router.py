"""The event streams' endpoints."""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from app.auth.principal import DEFAULT_OWNER_ID
from app.core.errors import InvalidInputError
from app.core.http_server.hot_route import HotRoute
from app.core.http_server.problems import problems
from app.core.http_server.sse import LAST_EVENT_ID, EventStream, read_id
from app.jobs.states import FINAL, MediaStatus
from app.media import service
from app.media.api.dependencies import media_dependencies
from app.media.api.event_streams import MediaEvents, OwnerEvents, Wanted
from app.media.errors import MediaNotFoundError
from app.media.events.history import MediaLook

router = APIRouter(prefix="/media", tags=["events"], route_class=HotRoute)

_EXAMPLE: Final = """event: started
id: 17-0-0
data: {"type":"media.started","timestamp":"2026-11-22T09:30:00.1Z","sequence":17,"data":{"status":"PROCESSING"}}

event: progress
id: 17-0-0
data: {"media_id":"019c0a3e-0000-7000-8000-000000000001","status":"PROCESSING","progress":0.4}

"""
_EVENT: Final = {
    "type": "object",
    "properties": {
        "event": {"enum": ["queued", "started", "progress", "log", "retry", "completed", "failed", "canceled"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
        "id": {"type": "string", "description": "Send it back as Last-Event-ID to go on here."},
    },
}
_STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Server-sent events `queued, started, progress, log, retry, completed, failed, canceled`. "
        "The data of a state is what a webhook gets: `type, timestamp, sequence, data`, with the media in `data`.",
        "content": {"text/event-stream": {"schema": _EVENT, "example": _EXAMPLE}},
    },
    204: {"description": "Over, and all of it told before: do not come again."},
}
_LAST_EVENT_ID: Final = {
    "name": LAST_EVENT_ID,
    "in": "header",
    "required": False,
    "description": "The id of the last event you have; what came after it follows. Browsers send it by themselves.",
    "schema": {"type": "string", "maxLength": 60},
}


@router.get(
    "/{media_id:uuid}/events",
    response_class=Response,
    responses={**_STREAM, **problems(404, 422, 503)},
    summary="A media's events as they happen",
    openapi_extra={"parameters": [_LAST_EVENT_ID]},
)
async def media_events(request: Request, media_id: UUID) -> Response:
    """From its first event, or from the one after `Last-Event-ID`, to its final one; then the stream ends.

    States come at once, progress and log lines at most twice a second, a comment after 15 s of silence. Log lines
    that were written after its end are at `/media/{media_id}/logs`.
    """
    desk = media_dependencies(request)
    cursor = _cursor(request, 3) or (0, 0, 0)
    await service.media(desk.services, DEFAULT_OWNER_ID, media_id)
    if cursor[0] and not await desk.reads.has_event(media_id, cursor[0]):
        # Of another media, or of another database: what is to come might never lie behind it.
        raise _refused(request.headers[LAST_EVENT_ID])
    seen = await desk.reads.media(MediaLook(media_id, *cursor))
    if seen is None:
        raise MediaNotFoundError(f"there is no media {media_id}")
    if seen.status in FINAL and not seen.history:
        # The one answer after which a browser's EventSource does not connect again.
        return Response(status_code=204)
    return EventStream(MediaEvents(desk, media_id, cursor, seen))


@router.get(
    "/events",
    response_class=Response,
    responses={200: _STREAM[200], **problems(422, 503)},
    summary="The events of all your media as they happen",
    openapi_extra={"parameters": [_LAST_EVENT_ID]},
)
async def owner_events(
    request: Request,
    status: Annotated[MediaStatus | None, Query(description="Only events that lead to this status.")] = None,
    model: Annotated[str | None, Query(max_length=200, description="Only media of this model.")] = None,
    tag: Annotated[str | None, Query(max_length=64, description="Only media with this tag.")] = None,
) -> Response:
    """What happens from now on, or what came after `Last-Event-ID`; without end, and without log lines.

    An event comes when every transaction before it has ended, a few milliseconds after it happened.
    """
    desk = media_dependencies(request)
    now = await desk.reads.now()
    cursor = _cursor(request, 2) or now
    if cursor[0] > now[0]:
        # It is of another database, such as the one before a restore: nothing would ever come after it.
        raise _refused(request.headers[LAST_EVENT_ID])
    return EventStream(OwnerEvents(desk, DEFAULT_OWNER_ID, cursor, Wanted(status, model, tag)))


def _cursor(request: Request, count: int) -> tuple[int, ...] | None:
    given = request.headers.get(LAST_EVENT_ID)
    if not given:
        return None
    cursor = read_id(given, count)
    if cursor is None:
        raise _refused(given)
    return cursor


def _refused(given: str) -> InvalidInputError:
    message = "not the id of an event of this stream"
    wrong = {"field": LAST_EVENT_ID, "message": message, "given": given[:60], "allowed": "the id of an event"}
    return InvalidInputError(f"{LAST_EVENT_ID}: {message}", errors=[wrong])
