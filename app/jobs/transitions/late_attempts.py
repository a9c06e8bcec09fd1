"""Attempts that are still open when their media has ended: who follows them up, and how they end.

No status changes here, and nothing is fenced: no worker owns such an attempt. A worker that follows one up
postpones `look_at`; if it dies, the next worker takes over then. An attempt that is no longer open, or that a retry
by its owner has taken back, refuses the write.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from app.core.database.pool import DatabasePool
from app.core.database.rows import Row
from app.jobs.billing import UNKNOWN_COST, AttemptCost, cost_columns
from app.jobs.sql import (
    COST_COLUMNS,
    ENDED_WITHOUT_RESULT,
    FILE_COLUMNS,
    FILE_VALUES,
    OPEN_STATUSES,
    literals,
    set_cost,
    verdict_holds,
)
from app.jobs.states import OPEN_ATTEMPT, SUSPECT_FROM, AttemptStatus, MediaEvent
from app.jobs.transitions.base import Changed, announce, grouped
from app.jobs.transitions.completion import StoredFile, file_arrays

# ruff: noqa: S608 - the statements are put together from constants; values are always arguments


@dataclass(frozen=True, slots=True)
class AttemptOutcome:
    """How an attempt ended that its media did not wait for; `error` is JSON text."""

    attempt_id: UUID
    status: AttemptStatus
    sent: str
    """A Sent."""
    error: str | None = None
    cost: AttemptCost = UNKNOWN_COST


@dataclass(frozen=True, slots=True)
class LateResult:
    """The files of an attempt whose media has ended."""

    attempt_id: UUID
    media_id: UUID
    files: tuple[StoredFile, ...]
    cost: AttemptCost = UNKNOWN_COST
    warnings: str | None = None
    """As `Completion.warnings`."""


class LateAttempt(Row, frozen=True):
    """An attempt to follow up, and its media."""

    attempt_id: UUID
    attempt_number: int
    reference: str | None
    """JSON text; None: no purchase is known."""
    attempted_at: datetime
    stop: bool
    """The provider is to be asked to stop it."""
    told_to_stop: bool
    """It has been."""
    looks: int
    """Checks in a row that did not finish, this one included."""
    attempt_age: timedelta
    ended_for: timedelta
    """How long ago the media ended."""
    id: UUID
    """Of the media."""
    model: str
    prompt: str
    input: str
    """JSON text."""
    created_at: datetime
    """Of the media."""
    takeovers: int
    stored: bool
    """The media has files already."""


class _AttemptId(Row, frozen=True):
    id: UUID


_ENDED: Final = literals(ENDED_WITHOUT_RESULT)
_OPEN_OR_UNKNOWN: Final = literals(OPEN_ATTEMPT | {AttemptStatus.UNKNOWN})

# A check that does not finish may have killed its worker: the next one waits longer, up to six hours.
_TAKE_DUE: Final = f"""
WITH due AS MATERIALIZED (
    SELECT a.id FROM attempts a JOIN media m ON m.id = a.media_id
    WHERE a.look_at <= now() AND m.status IN ({_ENDED}) AND NOT a.id = ANY($3::uuid[])
    ORDER BY a.look_at LIMIT $1 FOR UPDATE OF a SKIP LOCKED
)
UPDATE attempts a SET looks = a.looks + 1, look_at = now() + $2::interval * power(4, least(a.looks, 6))
FROM due, media m WHERE a.id = due.id AND m.id = a.media_id
RETURNING a.id AS attempt_id, a.number AS attempt_number, a.reference, a.created_at AS attempted_at, a.stop,
    a.told_to_stop, a.looks, now() - a.created_at AS attempt_age, now() - m.completed_at AS ended_for,
    m.id, CASE WHEN m.route IS NULL THEN m.model ELSE a.model END AS model, m.prompt, m.input, m.created_at,
    m.takeovers,
    EXISTS (SELECT FROM files f WHERE f.media_id = m.id) AS stored"""

_FINISH_CHECK: Final = "UPDATE attempts SET looks = 0 WHERE id = $1 AND looks > 0"

# The verdict that it was not sent closes no attempt whose purchase is known.
_CLOSE: Final = f"""
UPDATE attempts a SET status = t.status, sent = t.sent, error = t.error::jsonb, {set_cost("t")}, finished_at = now(),
    look_at = NULL, stop = false
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::numeric[], $6::text[], $7::text[], $8::text[])
    AS t (id, status, sent, error, {COST_COLUMNS})
WHERE a.id = t.id AND a.status IN ({_OPEN_OR_UNKNOWN}) AND {verdict_holds("t.sent", "t.error")}
RETURNING a.id"""

_STOP_SENT: Final = "UPDATE attempts SET stop = false, told_to_stop = true WHERE id = $1"

_ABANDON: Final = f"""UPDATE attempts SET look_at = NULL, stop = false,
    status = CASE WHEN status = '{AttemptStatus.INTENDED}' THEN '{AttemptStatus.UNKNOWN}' ELSE status END
WHERE id = $1 AND look_at IS NOT NULL AND (reference IS NOT NULL) = $2"""

# An intent that was committed at the very moment at which its media ended. Not of a media item that was given up:
# fetching its purchase may be what killed the workers, and a retry by its owner resumes it.
_ADOPT: Final = f"""
UPDATE attempts a SET look_at = now(), stop = true FROM media m
WHERE m.id = a.media_id AND a.status IN ({OPEN_STATUSES}) AND a.look_at IS NULL AND a.looks = 0
    AND m.status IN ({_ENDED}) AND m.takeovers < {SUSPECT_FROM} AND m.completed_at > now() - $1::interval
RETURNING a.id"""

# Only while its media is still ended: a retry takes the attempt back by clearing `look_at`. The media is locked first,
# as a retry does.
_STORE: Final = f"""
WITH ended AS MATERIALIZED (
    SELECT m.id, m.owner_id, m.status, b.*
    FROM media m, (VALUES ($3::numeric, $4::text, $5::text, $6::text)) b ({COST_COLUMNS})
    WHERE m.id = $2 AND m.status IN ({_ENDED}) FOR UPDATE OF m
), closed AS (
    UPDATE attempts a SET status = '{AttemptStatus.SUCCEEDED}', {set_cost("ended")},
        finished_at = now(), look_at = NULL, stop = false
    FROM ended WHERE a.id = $1 AND a.status IN ({_OPEN_OR_UNKNOWN}) AND a.look_at IS NOT NULL
        AND NOT EXISTS (SELECT FROM files f WHERE f.media_id = $2)
    RETURNING ended.id, ended.owner_id, ended.status
), touched AS (
    UPDATE media m SET updated_at = now(), warnings = coalesce($17::jsonb, m.warnings)
    FROM closed WHERE m.id = closed.id
), stored AS (
    INSERT INTO files ({FILE_COLUMNS})
    SELECT {FILE_VALUES} FROM closed, unnest($7::uuid[], $18::uuid[], $8::int[], $9::text[], $10::text[], $11::bigint[],
        $12::int[], $13::int[], $14::text[], $15::float8[], $16::text[], $19::text[], $20::text[], $21::text[])
        AS f ({FILE_COLUMNS})
), noted AS (
    INSERT INTO media_history (media_id, owner_id, event, status)
    SELECT id, owner_id, '{MediaEvent.LATE_STORED}', status FROM closed
)
SELECT id, owner_id, false AS posted FROM closed"""


async def take_due(
    db: DatabasePool, *, limit: int, pause: timedelta, held: Sequence[UUID] = ()
) -> Sequence[LateAttempt]:
    """Up to `limit` attempts that are due for a check, except those in `held`.

    Nobody else gets them for `pause`, and for longer each time that a check does not finish.
    """
    return await db.fetch_as(LateAttempt, _TAKE_DUE, limit, pause, held)


async def finish_check(db: DatabasePool, attempt_id: UUID) -> None:
    """A check finished: it did not kill its worker."""
    await db.execute(_FINISH_CHECK, attempt_id)


async def adopt(db: DatabasePool, *, within: timedelta) -> int:
    """Follow up open attempts that were overlooked when their media ended, not longer than that ago; how many."""
    return len(await db.fetch_as(_AttemptId, _ADOPT, within))


@grouped
async def close(db: DatabasePool, outcomes: Sequence[AttemptOutcome]) -> Sequence[bool]:
    """Record how attempts ended, whoever holds the lease now; False where that is known already."""
    rows = await db.fetch_as(
        _AttemptId,
        _CLOSE,
        [o.attempt_id for o in outcomes],
        [o.status for o in outcomes],
        [o.sent for o in outcomes],
        [o.error for o in outcomes],
        *cost_columns(o.cost for o in outcomes),
    )
    closed = {row.id for row in rows}
    return [o.attempt_id in closed for o in outcomes]


async def record_stop_sent(db: DatabasePool, attempt_id: UUID) -> None:
    """The provider has been asked to stop it; once is enough."""
    await db.execute(_STOP_SENT, attempt_id)


async def abandon(db: DatabasePool, attempt_id: UUID, *, purchased: bool) -> None:
    """Stop following an attempt up; what is known of it stays.

    Args:
        db: The database.
        attempt_id: Of which attempt.
        purchased: Whether a purchase is known; if that has changed meanwhile, it is still followed up.
    """
    await db.execute(_ABANDON, attempt_id, purchased)


async def store(db: DatabasePool, late: LateResult) -> bool:
    """Keep the files of a media item that has ended; False: its owner has retried it."""
    arrays = file_arrays(late.files)
    rows = await db.fetch_as(
        Changed,
        _STORE,
        late.attempt_id,
        late.media_id,
        *(late.cost.cost, late.cost.currency, late.cost.basis, late.cost.units),
        [f.id for f in late.files],
        *arrays[:9],
        late.warnings,
        [late.media_id] * len(late.files),
        *arrays[9:],
    )
    announce(db, rows)
    return bool(rows)
