"""What the engine reads to do its work: plain functions, one statement each. Nothing here changes a row."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from app.core.database.pool import DatabasePool
from app.core.database.rows import Row
from app.jobs.sql import PROVIDER_OF, ROUTED, STREAM_LENGTHS
from app.jobs.states import HIGHEST_PRIORITY, SHELVED, MediaEvent, MediaStatus

# ruff: noqa: S608 - the statements are put together from constants; values are always arguments

MOST_AHEAD: Final = 1000
"""Where counting the media ahead in a queue ends."""


class Content(Row, frozen=True):
    """The status of a media item, and where one of its files is."""

    status: str
    key: str | None
    """In the bucket; None: there is no such file."""
    media_type: str | None
    bytes: int | None
    poster_key: str | None


class StreamLength(Row, frozen=True):
    """How many media of one owner, provider and rank are due, up to MOST_AHEAD."""

    owner_id: UUID
    provider: str
    rank: int
    waiting: int


class RoutedMedia(Row, frozen=True):
    """A media item that waits for a target of its route."""

    id: UUID
    fence: int
    model: str
    route: str
    route_input: str
    """JSON text."""


class _Reference(Row, frozen=True):
    reference: str | None


class _Copied(Row, frozen=True):
    copied: str | None


class _ExternalId(Row, frozen=True):
    external_id: str


class _Age(Row, frozen=True):
    age: timedelta | None


class HeldMedia(Row, frozen=True):
    """A media item that a worker holds, with the fencing token of its claim."""

    id: UUID
    fence: int


_CONTENT: Final = """SELECT m.status, f.key, f.media_type, f.bytes, f.poster_key
FROM media m LEFT JOIN files f ON f.media_id = m.id AND f.index = $3
WHERE m.id = $1 AND m.owner_id = $2"""

_ROUTED: Final = f"""SELECT m.id, m.fence, m.model, m.route, m.route_input FROM media m
WHERE {ROUTED} AND m.id > $3 AND m.rank BETWEEN {SHELVED} AND {HIGHEST_PRIORITY}
    AND (m.model = ANY($1::text[]) OR m.provider = ANY($2::text[])) ORDER BY m.id LIMIT $4"""

_TAKEN_PURCHASES: Final = f"""SELECT o.external_id FROM attempts a
JOIN attempts o ON {PROVIDER_OF.format("o")} = {PROVIDER_OF.format("a")} AND o.external_id = ANY($2::text[])
WHERE a.id = $1 AND o.id <> a.id"""

_RETURNED_FOR: Final = f"""SELECT now() - min(h.at) AS age FROM media_history h
WHERE h.media_id = $1 AND h.event = '{MediaEvent.RETURNED}' AND h.detail->>'reason' = $2
    AND h.id > coalesce((SELECT max(r.id) FROM media_history r
        WHERE r.media_id = $1 AND r.event = '{MediaEvent.RETRY_ASKED}'), 0)"""

_CANCEL_REQUESTED: Final = f"""SELECT id, fence FROM media
WHERE cancel_asked AND worker_id = $1 AND status = '{MediaStatus.PROCESSING}'"""


async def content(db: DatabasePool, media_id: UUID, owner_id: UUID, index: int) -> Content | None:
    """The status of a media item and the place of one of its files; None: the owner has no such media."""
    return await db.fetchrow_as(Content, _CONTENT, media_id, owner_id, index)


async def stream_lengths(db: DatabasePool, queue: str) -> list[StreamLength]:
    """How many media wait in each stream of a queue."""
    return await db.fetch_as(StreamLength, STREAM_LENGTHS, queue, MOST_AHEAD)


async def purchase_of(db: DatabasePool, attempt_id: UUID) -> str | None:
    """The purchase of an attempt as JSON text; None: none is known."""
    row = await db.fetchrow_as(_Reference, "SELECT reference FROM attempts WHERE id = $1", attempt_id)
    return None if row is None else row.reference


async def copied_outputs(db: DatabasePool, attempt_id: UUID) -> str | None:
    """The outputs of an attempt that are in the bucket already, as JSON text; None: none."""
    row = await db.fetchrow_as(_Copied, "SELECT copied::text AS copied FROM attempts WHERE id = $1", attempt_id)
    return None if row is None else row.copied


async def taken_purchases(db: DatabasePool, attempt_id: UUID, external_ids: Sequence[str]) -> set[str]:
    """Which of these ids of the provider of an attempt belong to other attempts."""
    rows = await db.fetch_as(_ExternalId, _TAKEN_PURCHASES, attempt_id, list(external_ids))
    return {row.external_id for row in rows}


async def returned_for(db: DatabasePool, media_id: UUID, reason: str) -> timedelta | None:
    """How long ago it was first returned to its queue for a reason, since its owner's last retry; None: never."""
    row = await db.fetchrow_as(_Age, _RETURNED_FOR, media_id, reason)
    return None if row is None else row.age


async def cancel_requests(db: DatabasePool, worker_id: UUID) -> list[HeldMedia]:
    """The media held by a worker that their owners want canceled."""
    return await db.fetch_as(HeldMedia, _CANCEL_REQUESTED, worker_id)


async def routed_waiting(
    db: DatabasePool, models: Sequence[str], providers: Sequence[str], *, after: UUID, limit: int
) -> list[RoutedMedia]:
    """Media that wait for a target of their route which is one of these models, or of these providers."""
    return await db.fetch_as(RoutedMedia, _ROUTED, models, providers, after, limit)
