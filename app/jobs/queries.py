"""What the engine reads to do its work: plain functions, one statement each. Nothing here changes a row."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import asyncpg

from app.core.database.pool import DatabasePool
from app.jobs.sql import LINE, ROUTED
from app.jobs.states import HIGHEST_PRIORITY, SHELVED, MediaStatus

# ruff: noqa: S608 - the statements are put together from constants; values are always arguments

MOST_AHEAD: Final = 1000
"""Where counting who is ahead in a queue ends."""

_CONTENT: Final = """SELECT m.status, f.key, f.media_type, f.bytes, f.poster_key
FROM media m LEFT JOIN files f ON f.media_id = m.id AND f.index = $3
WHERE m.id = $1 AND m.owner_id = $2"""

_ROUTED: Final = f"""SELECT m.id, m.fence, m.model, m.route, m.route_input FROM media m
WHERE {ROUTED} AND m.id > $3 AND m.rank BETWEEN {SHELVED} AND {HIGHEST_PRIORITY}
    AND (m.model = ANY($1::text[]) OR m.provider = ANY($2::text[])) ORDER BY m.id LIMIT $4"""

_TO_CANCEL: Final = f"""SELECT id, fence FROM media
WHERE cancel_asked AND worker_id = $1 AND status = '{MediaStatus.PROCESSING}'"""


async def content(db: DatabasePool, media_id: UUID, owner_id: UUID, index: int) -> asyncpg.Record | None:
    """The status of a media and the place of one of its files; `key` is null where there is no such file."""
    return await db.fetchrow(_CONTENT, media_id, owner_id, index)


async def line(db: DatabasePool, queue: str) -> list[asyncpg.Record]:
    """Who waits in a queue: owner, provider, rank, and how many are due, up to MOST_AHEAD."""
    return await db.fetch(LINE, queue, MOST_AHEAD)


async def reference(db: DatabasePool, attempt_id: UUID) -> str | None:
    """The purchase of an attempt as a JSON text; None: none is known."""
    row = await db.fetchrow("SELECT reference FROM attempts WHERE id = $1", attempt_id)
    return None if row is None else row["reference"]


async def to_cancel(db: DatabasePool, worker_id: UUID) -> list[tuple[UUID, int]]:
    """The media in a worker's hands that their owners want stopped, with their fencing numbers."""
    return [(row["id"], row["fence"]) for row in await db.fetch(_TO_CANCEL, worker_id)]


async def routed_waiting(
    db: DatabasePool, models: Sequence[str], providers: Sequence[str], *, after: UUID, limit: int
) -> list[asyncpg.Record]:
    """Media that wait at a target of their route, of these models or providers: `id`, `fence`, `model`, the route."""
    return await db.fetch(_ROUTED, models, providers, after, limit)
