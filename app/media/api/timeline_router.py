"""What happened to a media item: its history, attempts and log. Everything needed to explain it to a customer."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import msgspec
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from app.auth.principal import DEFAULT_OWNER_ID
from app.core.http_server.problems import problems
from app.core.http_server.route import Route
from app.jobs.states import AttemptStatus, MediaEvent, MediaStatus
from app.logs import queries as log_queries
from app.media import queries, service
from app.media.api.dependencies import MediaDependencies, media_dependencies
from app.media.api.schemas import ErrorOut
from app.media_generator.costs import CostBasis
from app.media_generator.errors import Sent

router = APIRouter(prefix="/media", tags=["timeline"], route_class=Route)

NEXT = "Send it as `cursor` to read on; null: no more yet."
Limit = Annotated[int, Query(ge=1, le=1000, description="How many at most.")]
Number = Annotated[int, Path(ge=1, le=2**31 - 1, description="The attempt's `number`.")]
Cursor = Annotated[int, Query(ge=0, le=2**53, description="`next_cursor` of the previous page.")]


class EventOut(BaseModel):
    """A change of state."""

    event: MediaEvent
    status: MediaStatus = Field(description="The status after it.")
    at: datetime
    detail: dict[str, Any] | None = Field(description="Details, such as the reason.")


class EventPage(BaseModel):
    """Events, oldest first."""

    items: list[EventOut]
    next_cursor: str | None = Field(description=NEXT)


class AttemptOut(BaseModel):
    """One attempt at a provider."""

    id: UUID
    number: int = Field(description="1 for the first.")
    status: AttemptStatus
    model: str
    model_version: str | None
    external_id: str | None = Field(description="The provider's id of it.")
    sent: Sent | None = Field(description="After a failure: whether the request reached the provider.")
    error: ErrorOut | None
    cost: Decimal | None = Field(description="In `currency`; null: not known.")
    currency: str = Field(examples=["USD"])
    cost_basis: CostBasis | None = Field(
        description="Where the cost comes from: `reported` by the provider, or `computed` from units and price."
    )
    units: dict[str, float] | None = Field(
        description="What the provider billed, by unit.", examples=[{"second": 1.25}]
    )
    estimate: Decimal | None = Field(description="What it was expected to cost, in `currency`; null: not known.")
    created_at: datetime = Field(description="When it was recorded, before anything was sent.")
    submitted_at: datetime | None = Field(description="When the provider had accepted it.")
    finished_at: datetime | None
    answer_url: str | None = Field(
        description="What the provider answered, as it came, with secrets of this server masked; null: nothing is kept."
    )


class AttemptList(BaseModel):
    """Every attempt, oldest first."""

    items: list[AttemptOut]


class LogOut(BaseModel):
    """A log event."""

    at: datetime
    level: str = Field(examples=["info"])
    event: str = Field(examples=["output_stored"])
    attempt: int | None = Field(description="The number of the attempt; null: it belongs to none.")
    fields: dict[str, Any]


class LogPage(BaseModel):
    """Log events, oldest first."""

    items: list[LogOut]
    next_cursor: str | None = Field(description=NEXT)


@router.get("/{media_id:uuid}/history", responses=problems(404, 422, 503), summary="The history of a media item")
async def history(request: Request, media_id: UUID, limit: Limit = 200, cursor: Cursor = 0) -> EventPage:
    """Every change of state, with its reason if there is one."""
    dependencies = await _owned(request, media_id)
    rows = await queries.history(dependencies.services.db, media_id, after=cursor, limit=limit + 1)
    items = [
        EventOut(event=MediaEvent(row.event), status=MediaStatus(row.status), at=row.at, detail=_json(row.detail))
        for row in rows[:limit]
    ]
    return EventPage(items=items, next_cursor=_next([row.id for row in rows], limit))


@router.get("/{media_id:uuid}/attempts", responses=problems(404, 422, 503), summary="The attempts of a media item")
async def attempts(request: Request, media_id: UUID) -> AttemptList:
    """Every attempt at a provider: when, how it ended, the provider's id, and what it cost."""
    dependencies = await _owned(request, media_id)
    rows = await queries.attempts(dependencies.services.db, media_id)
    return AttemptList(items=[_attempt(row, media_id, dependencies.public_url) for row in rows])


@router.get(
    "/{media_id:uuid}/attempts/{number}/answer",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "The answer, as it came; secrets of this server in it are masked.",
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        },
        **problems(404, 422, 503),
    },
    summary="What the provider answered to an attempt",
)
async def answer(request: Request, media_id: UUID, number: Number) -> StreamingResponse:
    """It is kept where something that was paid for could not be: an attempt's `answer_url` says whether it is."""
    services = media_dependencies(request).services
    chunks = await service.raw_answer(services, DEFAULT_OWNER_ID, media_id, number)
    headers = {"cache-control": "private, no-store", "content-disposition": f'attachment; filename="answer-{number}"'}
    return StreamingResponse(chunks, media_type="application/octet-stream", headers=headers)


def _attempt(row: queries.AttemptRow, media_id: UUID, public_url: str) -> AttemptOut:
    columns: dict[str, Any] = msgspec.structs.asdict(row)
    url = None if columns.pop("answer") is None else f"{public_url}/media/{media_id}/attempts/{row.number}/answer"
    columns |= {"error": _json(row.error), "units": _json(row.units), "answer_url": url}
    return AttemptOut(**columns)


@router.get("/{media_id:uuid}/logs", responses=problems(404, 422, 503), summary="The log of a media item")
async def logs(request: Request, media_id: UUID, limit: Limit = 200, cursor: Cursor = 0) -> LogPage:
    """What was logged while it was in progress; events appear here within about a second."""
    dependencies = await _owned(request, media_id)
    events = await log_queries.timeline(dependencies.services.db, media_id, after=cursor, limit=limit + 1)
    items = [
        LogOut(
            at=event.at,
            level=event.level,
            event=event.event,
            attempt=event.attempt,
            fields=msgspec.json.decode(event.fields),
        )
        for event in events[:limit]
    ]
    return LogPage(items=items, next_cursor=_next([event.id for event in events], limit))


async def _owned(request: Request, media_id: UUID) -> MediaDependencies:
    """The endpoint's dependencies, after checking that the media is the caller's own."""
    dependencies = media_dependencies(request)
    await service.media(dependencies.services, DEFAULT_OWNER_ID, media_id)
    return dependencies


def _next(ids: Sequence[int], limit: int) -> str | None:
    return str(ids[limit - 1]) if len(ids) > limit else None


def _json(text: str | None) -> Any:
    return None if text is None else msgspec.json.decode(text)
