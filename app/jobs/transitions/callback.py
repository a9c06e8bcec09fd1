"""A provider calls back: the note of it at the attempt, which the worker that holds the job picks up."""

from typing import Final
from uuid import UUID

from app.core.database.pool import DatabasePool
from app.core.database.rows import Row
from app.jobs.sql import OPEN_STATUSES, UNSETTLED
from app.jobs.states import RESUMED, MediaStatus, MoneySpent

# ruff: noqa: S608 - the statements are put together from constants; values are always arguments


class CalledBack(Row, frozen=True):
    """The attempt that a callback is about."""

    media_id: UUID
    owner_id: UUID
    unbound: bool
    """Its purchase is not known yet."""


class _MediaId(Row, frozen=True):
    id: UUID


# A late attempt, whose media has ended, is due for a check at once.
_RECORD: Final = f"""
UPDATE attempts a SET called_back = a.status IN ({OPEN_STATUSES}) AND a.look_at IS NULL,
    look_at = CASE WHEN a.look_at IS NULL THEN NULL ELSE least(a.look_at, now()) END
FROM media m
WHERE a.id = $1 AND m.id = a.media_id AND split_part(a.model, '/', 1) = $2
    AND {UNSETTLED}
RETURNING m.id AS media_id, m.owner_id, a.reference IS NULL AS unbound"""

# It no longer waits for the pause between two attempts. Two statements: locking an attempt before its media could
# deadlock with statements that lock the media first.
_MARK_CALLED_BACK: Final = f"""
UPDATE attempts a SET called_back = true WHERE a.id = $1 AND a.status IN ({OPEN_STATUSES})"""
_EXPEDITE: Final = f"""
UPDATE media m SET rank = {RESUMED}, next_run = now() FROM attempts a
WHERE a.id = $1 AND a.status IN ({OPEN_STATUSES}) AND m.id = a.media_id
    AND m.status = '{MediaStatus.IN_QUEUE}' AND m.rank < {RESUMED}"""

# Its owner has read that the cancel cost nothing.
_MARK_CHARGED: Final = f"""
UPDATE media m SET cancel = jsonb_set(m.cancel, '{{money_spent}}', '"{MoneySpent.YES}"'), updated_at = now()
FROM attempts a WHERE a.id = $1 AND m.id = a.media_id AND m.cancel->>'money_spent' <> '{MoneySpent.YES}'"""

# Closed attempts are cleared by any worker.
_TAKE: Final = f"""
UPDATE attempts a SET called_back = false FROM media m
WHERE a.called_back AND m.id = a.media_id AND (m.worker_id = $1 OR a.status NOT IN ({OPEN_STATUSES}))
RETURNING m.id"""


async def record_callback(db: DatabasePool, attempt_id: UUID, provider: str) -> CalledBack | None:
    """Record that a provider has called back; None: it has no such attempt, or the outcome is known."""
    return await db.fetchrow_as(CalledBack, _RECORD, attempt_id, provider)


async def expedite(db: DatabasePool, attempt_id: UUID) -> None:
    """Let a media item in the queue whose purchase has become known be claimed, and its provider polled, at once."""
    await db.execute(_MARK_CALLED_BACK, attempt_id)
    await db.execute(_EXPEDITE, attempt_id)


async def mark_charged(db: DatabasePool, attempt_id: UUID) -> None:
    """Correct a media item that was reported as canceled at no cost: it has cost money."""
    await db.execute(_MARK_CHARGED, attempt_id)


async def take_callbacks(db: DatabasePool, worker_id: UUID) -> list[UUID]:
    """The media that a worker holds whose providers have called back since the last time."""
    return [row.id for row in await db.fetch_as(_MediaId, _TAKE, worker_id)]
