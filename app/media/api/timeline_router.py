"""What happened to a media, as it was logged."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from app.auth.principal import DEFAULT_OWNER_ID
from app.core.problems import problems
from app.logs import queries
from app.media import service
from app.media.api.desk import desk_of

router = APIRouter(prefix="/media", tags=["media"])

MOST = 2**53


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
    next_cursor: str | None = Field(description="Give it as `cursor` for what follows; null: nothing more yet.")


@router.get("/{media_id:uuid}/logs", responses=problems(404, 422, 503), summary="A media's log")
async def logs(
    request: Request,
    media_id: UUID,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many at most.")] = 200,
    cursor: Annotated[int, Query(ge=0, le=MOST, description="`next_cursor` of the page before.")] = 0,
) -> LogPage:
    """The timeline of a media; events arrive here within about a second."""
    desk = desk_of(request)
    await service.media(desk.services, DEFAULT_OWNER_ID, media_id)
    rows = await queries.timeline(desk.services.hot, media_id, after=cursor, limit=limit + 1)
    items = [
        LogOut(
            at=row["at"],
            level=row["level"],
            event=row["event"],
            attempt=row["attempt"],
            fields=msgspec.json.decode(row["fields"]),
        )
        for row in rows[:limit]
    ]
    return LogPage(items=items, next_cursor=str(rows[limit - 1]["id"]) if len(rows) > limit else None)
