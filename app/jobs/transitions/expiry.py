"""A media item ends with ERROR without a verdict on its attempt: its deadline has passed, or too many workers died."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from app.core.database.pool import DatabasePool
from app.jobs.job_errors import DEADLINE_EXCEEDED, JOB_BROKEN
from app.jobs.sql import (
    CANCEL_TOO_LATE,
    HOLDS_LEASE,
    MAY_EXPIRE,
    OPEN_STATUSES,
    RETURNING_MOVED,
    SELECT_CHANGED,
    may_happen,
    record_event,
    set_status,
)
from app.jobs.states import SUSPECT, MediaEvent
from app.jobs.transitions.base import Changed, Lease, applied, fenced, run

# ruff: noqa: S608 - the statements are put together from constants; values are always arguments

_SET_ERROR: Final = f"error = CASE WHEN m.error->>'code' = '{JOB_BROKEN.code}' THEN m.error ELSE $2::jsonb END"
_GIVE_UP: Final = f"""
WITH moved AS (
    UPDATE media m SET {set_status(MediaEvent.GIVEN_UP, _SET_ERROR, CANCEL_TOO_LATE)}
    WHERE {may_happen(MediaEvent.GIVEN_UP)} AND m.rank = {SUSPECT} AND m.takeovers >= $1
    {RETURNING_MOVED}, m.error
), {record_event(MediaEvent.GIVEN_UP, detail="moved.error")}
{SELECT_CHANGED} FROM moved"""

_EXPIRED: Final = f"""{RETURNING_MOVED}
), open_attempt AS (
    UPDATE attempts a SET look_at = now(), stop = true
    FROM moved WHERE a.media_id = moved.id AND a.status IN ({OPEN_STATUSES})
), """

_EXPIRE_WAITING: Final = f"""
WITH due AS (
    SELECT m.id FROM media m WHERE {MAY_EXPIRE} AND m.deadline <= now()
    ORDER BY m.deadline LIMIT 1000 FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE media m SET {set_status(MediaEvent.EXPIRED, "error = $1::jsonb", CANCEL_TOO_LATE)}
    FROM due WHERE m.id = due.id
    {_EXPIRED}{record_event(MediaEvent.EXPIRED)}
{SELECT_CHANGED} FROM moved"""

_EXPIRE_HELD: Final = f"""
WITH moved AS (
    UPDATE media m SET {set_status(MediaEvent.EXPIRED, "error = $1::jsonb", CANCEL_TOO_LATE)}
    FROM unnest($2::uuid[], $3::bigint[]) AS item (media_id, fence) WHERE m.id = item.media_id AND {HOLDS_LEASE}
    {_EXPIRED}{record_event(MediaEvent.EXPIRED)}
{SELECT_CHANGED} FROM moved"""


async def expire_waiting(db: DatabasePool, error: str) -> int:
    """End media in the queue whose deadline has passed, up to 1,000; how many. `error` is JSON text."""
    return len(await run(db, Changed, _EXPIRE_WAITING, error))


@fenced
async def expire(db: DatabasePool, leases: Sequence[Lease]) -> Sequence[bool]:
    """End held media whose deadline has passed; False where the lease is lost."""
    ids, tokens = [lease.media_id for lease in leases], [lease.fencing_token for lease in leases]
    return applied(await run(db, Changed, _EXPIRE_HELD, DEADLINE_EXCEEDED.as_json, ids, tokens), leases)


async def give_up(db: DatabasePool, *, takeovers: int, error: str) -> list[UUID]:
    """End media that so many workers died with; their ids. `error` is JSON text."""
    return [row.id for row in await run(db, Changed, _GIVE_UP, takeovers, error)]
