"""Reading what was logged of a job."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import asyncpg

from app.core.database.pool import DatabasePool

_TIMELINE: Final = """SELECT id, at, level, event, attempt, fields FROM logs
WHERE media_id = $1 AND id > $2 ORDER BY id LIMIT $3"""

_NEWEST: Final = """SELECT * FROM (
    SELECT id, at, level, event, attempt, fields FROM logs WHERE media_id = $1 ORDER BY id DESC LIMIT $2
) newest ORDER BY id"""


async def newest(db: DatabasePool, media_id: UUID, *, limit: int) -> Sequence[asyncpg.Record]:
    """The newest `limit` events of a media, oldest first; `fields` is a JSON text."""
    return await db.fetch(_NEWEST, media_id, limit)


async def timeline(db: DatabasePool, media_id: UUID, *, after: int, limit: int) -> Sequence[asyncpg.Record]:
    """Up to `limit` events of a media, oldest first, after the event `after`; `fields` is a JSON text."""
    return await db.fetch(_TIMELINE, media_id, after, limit)
