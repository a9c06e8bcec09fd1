"""The owner requests another attempt for a media item that ended with ERROR or was CANCELED."""

from typing import Final
from uuid import UUID

from app.core.database.pool import DatabasePool
from app.jobs.sql import (
    HAS_OPEN_ATTEMPT,
    OPEN_STATUSES,
    RETURNING_MOVED,
    SAME_PROVIDER,
    SELECT_CHANGED,
    WAITING_RANK,
    may_happen,
    record_event,
    set_status,
)
from app.jobs.states import RESUMED, AttemptStatus, MediaEvent
from app.jobs.transitions.base import Requeued, run
from app.media_generator.errors import OutputError

# ruff: noqa: S608 - the statements are put together from constants; values are always arguments

# A purchase whose result was not fetched is resumed, also if it was unknown then, or if what was fetched was unusable;
# other attempts are not followed up.
_UNUSABLE: Final = f"a.status = '{AttemptStatus.FAILED}' AND a.error->>'code' = '{OutputError.code}'"
_PURCHASED: Final = f"""(SELECT a.id FROM attempts a
    WHERE a.media_id = m.id AND a.reference IS NOT NULL
        AND (a.status IN ({OPEN_STATUSES}, '{AttemptStatus.UNKNOWN}') OR ({_UNUSABLE})) AND {SAME_PROVIDER}
    ORDER BY a.status = '{AttemptStatus.FAILED}', a.status = '{AttemptStatus.UNKNOWN}', a.number DESC LIMIT 1)"""
_RETRY_REQUESTED: Final = f"""
WITH moved AS (
    UPDATE media m SET {
    set_status(
        MediaEvent.RETRY_ASKED,
        "next_run = now()",
        "progress = NULL",
        "completed_at = NULL",
        "takeovers = 0",
        "cancel = NULL",
        "deadline = now() + m.time_limit",
        f"rank = CASE WHEN {_PURCHASED} IS NOT NULL THEN {RESUMED} ELSE {WAITING_RANK} END",
    )
}
    WHERE m.id = $1 AND m.owner_id = $2 AND {may_happen(MediaEvent.RETRY_ASKED)}
    {RETURNING_MOVED}, m.queue, m.provider, {_PURCHASED} AS purchased, {HAS_OPEN_ATTEMPT} AS has_open
), reopened AS (
    UPDATE attempts a SET look_at = NULL, stop = false, looks = 0,
        status = CASE WHEN a.id = moved.purchased AND NOT moved.has_open
            THEN '{AttemptStatus.SUBMITTED}' ELSE a.status END
    FROM moved WHERE a.media_id = moved.id AND (a.look_at IS NOT NULL OR a.id = moved.purchased)
        AND {SAME_PROVIDER.replace("m.", "moved.")}
), {record_event(MediaEvent.RETRY_ASKED)}
{SELECT_CHANGED}, queue FROM moved"""


async def request_retry(db: DatabasePool, media_id: UUID, owner_id: UUID) -> str | None:
    """Return a failed or canceled media to its queue: the queue's name, or None if it is in no such state."""
    rows = await run(db, Requeued, _RETRY_REQUESTED, media_id, owner_id)
    return rows[0].queue if rows else None
