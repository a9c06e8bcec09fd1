"""The endpoints of the event streams."""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from app.auth.principal import DEFAULT_OWNER_ID
from app.core.errors import InvalidInputError
from app.core.http_server.hot_route import HotRoute
from app.core.http_server.problems import problems
from app.core.http_server.route import SEVERAL, several
from app.core.http_server.sse import LAST_EVENT_ID, EventStream, read_id
from app.jobs.states import FINAL, MediaStatus
from app.media import service
from app.media.api.dependencies import media_dependencies
from app.media.api.event_streams import EventFilter, MediaEvents, OwnerEvents
from app.media.errors import MediaNotFoundError
from app.media.events.history_reads import MediaPosition

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
        "id": {"type": "string", "description": "Send it as Last-Event-ID to resume after this event."},
    },
}
_STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Server-sent events `queued, started, progress, log, retry, completed, failed, canceled`. "
        "The data of a state change is what a webhook receives: `type, timestamp, sequence, data`, with the media item "
        "in `data`.",
        "content": {"text/event-stream": {"schema": _EVENT, "example": _EXAMPLE}},
    },
    204: {"description": "Complete: nothing follows the event you have. Do not reconnect."},
}
_LAST_EVENT_ID: Final = {
    "name": LAST_EVENT_ID,
    "in": "header",
    "required": False,
    "description": "The id of the last event you received; the stream resumes after it. Browsers send it for you.",
    "schema": {"type": "string", "maxLength": 60},
}


@router.get(
    "/{media_id:uuid}/events",
    response_class=Response,
    responses={**_STREAM, **problems(404, 422, 503)},
    summary="Stream the events of a media item",
    openapi_extra={"parameters": [_LAST_EVENT_ID]},
)
async def media_events(request: Request, media_id: UUID) -> Response:
    """From the first event, or the one after `Last-Event-ID`, to the final one; then the stream ends.

    State changes are sent at once, progress and log lines at most twice a second, a comment after 15 s of silence. Log
    lines written after the final event are at `/media/{media_id}/logs`.
    """
    dependencies = media_dependencies(request)
    cursor = _cursor(request, 3) or (0, 0, 0)
    await service.media(dependencies.services, DEFAULT_OWNER_ID, media_id)
    if cursor[0] and not await dependencies.reads.has_event(media_id, cursor[0]):
        # Of another media or another database: later events might never come after it.
        raise _refused(request.headers[LAST_EVENT_ID])
    update = await dependencies.reads.media(MediaPosition(media_id, *cursor))
    if update is None:
        raise MediaNotFoundError(f"there is no media {media_id}")
    if update.status in FINAL and not update.history:
        # The only response after which a browser's EventSource does not reconnect.
        return Response(status_code=204)
    return EventStream(MediaEvents(dependencies, media_id, cursor, update))


@router.get(
    "/events",
    response_class=Response,
    responses={200: _STREAM[200], **problems(422, 503)},
    summary="Stream the events of all your media",
    openapi_extra={"parameters": [_LAST_EVENT_ID]},
)
async def owner_events(
    request: Request,
    status: Annotated[
        list[MediaStatus] | None,
        Query(description=f"Only events that lead to this status. {SEVERAL}"),
        several(MediaStatus),
    ] = None,
    model: Annotated[str | None, Query(max_length=200, description="Only media of this model.")] = None,
    tag: Annotated[str | None, Query(max_length=64, description="Only media with this tag.")] = None,
) -> Response:
    """What happens from now on, or after `Last-Event-ID`. It never ends, and has no log lines.

    Events are sent a few milliseconds after they happen, once every earlier transaction has ended.
    """
    dependencies = media_dependencies(request)
    now = await dependencies.reads.now()
    cursor = _cursor(request, 2) or now
    if cursor[0] > now[0]:
        # Of another database, such as before a restore: no event would ever come after it.
        raise _refused(request.headers[LAST_EVENT_ID])
    return EventStream(
        OwnerEvents(dependencies, DEFAULT_OWNER_ID, cursor, EventFilter(frozenset(status or ()), model, tag))
    )


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
