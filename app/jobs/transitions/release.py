"""A media item goes back to the queue its attempt still open: its worker stopped, died, failed or lost the claim."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from app.core.database.pool import DatabasePool
from app.jobs.sql import (
    RETURNING_MOVED,
    SELECT_CHANGED,
    WAITING_RANK,
    may_happen,
    record_event,
    set_status,
)
from app.jobs.states import SUSPECT, SUSPECT_FROM, MediaEvent
from app.jobs.transitions.base import Lease, Requeued, applied, run

# ruff: noqa: S608 - the statements are put together from constants; values are always arguments


def _release(condition: str, *changes: str) -> str:
    moving = set_status(MediaEvent.RETURNED, f"rank = {WAITING_RANK}", *changes)
    return f"""
WITH moved AS (
    UPDATE media m SET {moving}
    WHERE {may_happen(MediaEvent.RETURNED)} AND {condition}
    {RETURNING_MOVED}, m.queue
), {record_event(MediaEvent.RETURNED, detail="jsonb_build_object('reason', $1::text)")}
{SELECT_CHANGED}, queue FROM moved"""


# Without a delay it keeps its place in the queue: it was due before most of those that wait.
_RETURN_HELD: Final = _release(
    "(m.id, m.fence) IN (SELECT * FROM unnest($2::uuid[], $3::bigint[]))",
    "next_run = CASE WHEN $4::interval > interval '0' THEN now() + $4::interval ELSE m.next_run END",
    "waits_for = $5::jsonb",
)
_RETURN_FORGOTTEN: Final = _release("m.worker_id = $2 AND NOT m.id = ANY($3::uuid[])")

# If the dead worker held poison suspects, only they are blamed; otherwise everything that it held. A suspect waits a
# little longer each time, so that it does not take down one worker after another.
_AGAIN: Final = f"m.takeovers + CASE WHEN m.takeovers >= {SUSPECT_FROM} OR NOT o.suspects THEN 1 ELSE 0 END"
_RETURN_ORPHANS: Final = f"""
WITH orphan AS (
    SELECT m.id, bool_or(m.takeovers >= {SUSPECT_FROM}) OVER (PARTITION BY m.worker_id) AS suspects
    FROM media m WHERE {may_happen(MediaEvent.RETURNED)} AND NOT EXISTS (SELECT FROM workers w WHERE w.id = m.worker_id)
), moved AS (
    UPDATE media m SET {set_status(MediaEvent.RETURNED, f"takeovers = {_AGAIN}")},
        rank = CASE WHEN {_AGAIN} >= {SUSPECT_FROM} THEN {SUSPECT} ELSE {WAITING_RANK} END,
        next_run = CASE WHEN {_AGAIN} >= {SUSPECT_FROM}
            THEN now() + least({_AGAIN}, 30) * interval '1 second' ELSE m.next_run END
    FROM orphan o WHERE m.id = o.id AND {may_happen(MediaEvent.RETURNED)}
        AND NOT EXISTS (SELECT FROM workers w WHERE w.id = m.worker_id)
    {RETURNING_MOVED}, m.queue
), {record_event(MediaEvent.RETURNED, detail="jsonb_build_object('reason', $1::text)")}
{SELECT_CHANGED}, queue FROM moved"""

# An unexpected error of a worker counts like its death, so that the media reaches an end.
_RETURN_BROKEN: Final = f"""
WITH moved AS (
    UPDATE media m SET {
    set_status(
        MediaEvent.RETURNED,
        "takeovers = m.takeovers + 1",
        "error = $3::jsonb",
        f"rank = CASE WHEN m.takeovers + 1 >= {SUSPECT_FROM} THEN {SUSPECT} ELSE {WAITING_RANK} END",
        "next_run = now() + least(m.takeovers + 1, 30) * interval '1 second'",
    )
}
    WHERE m.id = $1 AND m.fence = $2 AND {may_happen(MediaEvent.RETURNED)}
    {RETURNING_MOVED}, m.queue
), {record_event(MediaEvent.RETURNED, detail="$3::jsonb")}
{SELECT_CHANGED}, queue FROM moved"""


async def return_held(
    db: DatabasePool, leases: Sequence[Lease], *, reason: str, delay: timedelta, waits_for: str | None = None
) -> Sequence[bool]:
    """Return media to the queue: the open attempt is resumed by the next worker.

    Args:
        db: The database.
        leases: On the media.
        reason: For their history.
        delay: From when on.
        waits_for: What their owners read of it: JSON text with `code` and `message`.
    """
    ids, tokens = [lease.media_id for lease in leases], [lease.fencing_token for lease in leases]
    return applied(await run(db, Requeued, _RETURN_HELD, reason, ids, tokens, delay, waits_for), leases)


async def return_broken(db: DatabasePool, lease: Lease, error: str) -> bool:
    """Return a media item at which this worker failed unexpectedly, and count it; False where the lease is lost."""
    return bool(await run(db, Requeued, _RETURN_BROKEN, lease.media_id, lease.fencing_token, error))


async def return_forgotten(db: DatabasePool, worker_id: UUID, held: Sequence[UUID]) -> Sequence[Requeued]:
    """Return media that carry the worker's id but are not among those it holds.

    This happens when the database crashes between committing a claim and answering it.
    """
    return await run(db, Requeued, _RETURN_FORGOTTEN, "claim_answer_lost", worker_id, held)


async def return_orphans(db: DatabasePool) -> Sequence[Requeued]:
    """Return media whose worker is gone, and count it against them."""
    return await run(db, Requeued, _RETURN_ORPHANS, "worker_gone")
