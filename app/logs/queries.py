"""Reads the log events of a job."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from app.core.database.pool import DatabasePool
from app.core.database.rows import Row

# ruff: noqa: S608 - put together from constants; values are always arguments


class LogEvent(Row, frozen=True):
    """One log event of a job."""

    id: int
    at: datetime
    level: str
    event: str
    attempt: int | None
    """The attempt's number; None: it belongs to no attempt."""
    fields: str
    """A JSON object."""


_TIMELINE: Final = f"""SELECT {LogEvent.columns()} FROM logs
WHERE media_id = $1 AND id > $2 ORDER BY id LIMIT $3"""

_NEWEST: Final = f"""SELECT * FROM (
    SELECT {LogEvent.columns()} FROM logs WHERE media_id = $1 ORDER BY id DESC LIMIT $2
) newest ORDER BY id"""


async def newest(db: DatabasePool, media_id: UUID, *, limit: int) -> Sequence[LogEvent]:
    """The newest `limit` events of a media item, oldest first."""
    return await db.fetch_as(LogEvent, _NEWEST, media_id, limit)


async def timeline(db: DatabasePool, media_id: UUID, *, after: int, limit: int) -> Sequence[LogEvent]:
    """Up to `limit` events of a media item, oldest first, after the event with the id `after`."""
    return await db.fetch_as(LogEvent, _TIMELINE, media_id, after, limit)
