"""What happened to a media: its events, its tries, its log. Everything needed to explain it to a customer."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import msgspec
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from app.auth.principal import DEFAULT_OWNER_ID
from app.core.http_server.problems import problems
from app.jobs.states import AttemptStatus, MediaEvent, MediaStatus
from app.logs import queries as log_queries
from app.media import queries, service
from app.media.api.dependencies import MediaDependencies, media_dependencies
from app.media.api.schemas import ErrorOut
from app.media_generator.costs import CostBasis
from app.media_generator.errors import Sent

router = APIRouter(prefix="/media", tags=["timeline"])

NEXT = "Give it as `cursor` for what follows; null: nothing more yet."
Limit = Annotated[int, Query(ge=1, le=1000, description="How many at most.")]
Cursor = Annotated[int, Query(ge=0, le=2**53, description="`next_cursor` of the page before.")]


class EventOut(BaseModel):
    """One move from one state to another."""

    event: MediaEvent
    status: MediaStatus = Field(description="The state it led to.")
    at: datetime
    detail: dict[str, Any] | None = Field(description="What else there is to say, such as why.")


class EventPage(BaseModel):
    """Some events, oldest first."""

    items: list[EventOut]
    next_cursor: str | None = Field(description=NEXT)


class AttemptOut(BaseModel):
    """One try at a provider."""

    id: UUID
    number: int = Field(description="1 for the first.")
    status: AttemptStatus
    model: str
    model_version: str | None
    external_id: str | None = Field(description="The provider's own name for it.")
    sent: Sent | None = Field(description="After a failure: whether the request reached the provider.")
    error: ErrorOut | None
    cost: Decimal | None = Field(description="In `currency`; null: not known.")
    currency: str = Field(examples=["USD"])
    cost_basis: CostBasis | None = Field(
        description="Where the cost comes from: `reported` by the provider, or `computed` from units and price."
    )
    units: dict[str, float] | None = Field(
        description="What it was billed by, as the provider tells.", examples=[{"second": 1.25}]
    )
    estimate: Decimal | None = Field(description="What it was expected to cost, in `currency`; null: not known.")
    created_at: datetime = Field(description="When the intent was committed.")
    submitted_at: datetime | None = Field(description="When the purchase was known.")
    finished_at: datetime | None


class AttemptList(BaseModel):
    """Every try, first one first."""

    items: list[AttemptOut]


class LogOut(BaseModel):
    """One event."""

    at: datetime
    level: str = Field(examples=["info"])
    event: str = Field(examples=["output_stored"])
    attempt: int | None = Field(description="The number of the attempt; null: not of one.")
    fields: dict[str, Any]


class LogPage(BaseModel):
    """Some events, oldest first."""

    items: list[LogOut]
    next_cursor: str | None = Field(description=NEXT)


@router.get("/{media_id:uuid}/history", responses=problems(404, 422, 503), summary="A media's events")
async def history(request: Request, media_id: UUID, limit: Limit = 200, cursor: Cursor = 0) -> EventPage:
    """Every move from state to state, with its reason where there is one."""
    desk = await _owned(request, media_id)
    rows = await queries.history(desk.services.db, media_id, after=cursor, limit=limit + 1)
    items = [
        EventOut(event=MediaEvent(row.event), status=MediaStatus(row.status), at=row.at, detail=_json(row.detail))
        for row in rows[:limit]
    ]
    return EventPage(items=items, next_cursor=_next([row.id for row in rows], limit))


@router.get("/{media_id:uuid}/attempts", responses=problems(404, 422, 503), summary="A media's tries")
async def attempts(request: Request, media_id: UUID) -> AttemptList:
    """Each try at a provider: when, how it ended, under which id, and what it cost."""
    desk = await _owned(request, media_id)
    rows = await queries.attempts(desk.services.db, media_id)
    return AttemptList(
        items=[
            AttemptOut(**{**msgspec.structs.asdict(row), "error": _json(row.error), "units": _json(row.units)})
            for row in rows
        ]
    )


@router.get("/{media_id:uuid}/logs", responses=problems(404, 422, 503), summary="A media's log")
async def logs(request: Request, media_id: UUID, limit: Limit = 200, cursor: Cursor = 0) -> LogPage:
    """What was logged while it was worked on; events arrive here within about a second."""
    desk = await _owned(request, media_id)
    events = await log_queries.timeline(desk.services.db, media_id, after=cursor, limit=limit + 1)
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
    """The desk, once it is clear that the media is the caller's own."""
    desk = media_dependencies(request)
    await service.media(desk.services, DEFAULT_OWNER_ID, media_id)
    return desk


def _next(ids: Sequence[int], limit: int) -> str | None:
    return str(ids[limit - 1]) if len(ids) > limit else None


def _json(text: str | None) -> Any:
    return None if text is None else msgspec.json.decode(text)
