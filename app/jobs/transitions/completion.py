"""A media item is COMPLETED: its files, the end of its attempt and the events are one statement."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from app.core.database.pool import DatabasePool
from app.jobs.billing import UNKNOWN_COST, AttemptCost, cost_columns
from app.jobs.sql import (
    COST_COLUMNS,
    FILE_COLUMNS,
    FILE_VALUES,
    HOLDS_LEASE,
    ITEM_COST,
    RETURNING_MOVED,
    SELECT_CHANGED,
    cancel_answer,
    record_event,
    set_cost,
    set_status,
)
from app.jobs.states import AttemptStatus, CancelAnswer, MediaEvent, MoneySpent
from app.jobs.transitions.base import Changed, Lease, applied, fenced, run

# ruff: noqa: S608 - the statements are put together from constants; values are always arguments


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One output in the bucket, hashed and checked."""

    id: UUID
    index: int
    key: str
    media_type: str
    bytes: int
    width: int | None
    height: int | None
    sha256: str
    seconds: float | None = None
    """Of a video or sound; None: neither, or not probed."""
    poster_key: str | None = None
    """Where the poster of a video is in the bucket."""
    source_sha256: str | None = None
    """Of what came from the provider, before the mark of origin; None: stored by a release before marks."""
    provenance: str | None = None
    """What became of the mark: JSON text, as `ProvenanceOut` shows it; None: marks were off."""
    warnings: str | None = None
    """What its owner should know of this file: JSON text, a list of entries with `code` and `message`."""


@dataclass(frozen=True, slots=True)
class Completion:
    """Every output of one media, and what the attempt cost."""

    lease: Lease
    attempt_id: UUID | None
    """None: the files are stored already, by a late result."""
    files: tuple[StoredFile, ...]
    cost: AttemptCost = UNKNOWN_COST
    warnings: str | None = None
    """What its owner should know: JSON text, a list of entries with `code` and `message`."""


_TOO_LATE: Final = cancel_answer(CancelAnswer.TOO_LATE, f"'{MoneySpent.YES}'::text")
_COMPLETE: Final = f"""
WITH item AS (
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::numeric[], $5::text[], $6::text[], $7::text[],
        $8::text[]) AS t (media_id, fence, attempt_id, {COST_COLUMNS}, warnings)
), moved AS (
    UPDATE media m SET {set_status(MediaEvent.COMPLETED, "progress = 1", "error = NULL")},
        cancel = CASE WHEN m.cancel_asked THEN {_TOO_LATE} ELSE m.cancel END,
        warnings = coalesce(item.warnings::jsonb, m.warnings)
    FROM item WHERE m.id = item.media_id AND {HOLDS_LEASE}
    {RETURNING_MOVED}, item.attempt_id, {ITEM_COST}
), ended_attempt AS (
    UPDATE attempts a SET status = '{AttemptStatus.SUCCEEDED}', finished_at = now(), look_at = NULL, {set_cost("moved")}
    FROM moved WHERE a.id = moved.attempt_id
), abandoned AS (
    UPDATE attempts a SET look_at = NULL FROM moved
    WHERE a.media_id = moved.id AND a.id IS DISTINCT FROM moved.attempt_id AND a.look_at IS NOT NULL
), stored AS (
    INSERT INTO files ({FILE_COLUMNS})
    SELECT {FILE_VALUES} FROM unnest($9::uuid[], $10::uuid[], $11::int[], $12::text[], $13::text[], $14::bigint[],
        $15::int[], $16::int[], $17::text[], $18::float8[], $19::text[], $20::text[], $21::text[], $22::text[])
        AS f ({FILE_COLUMNS})
    JOIN moved ON moved.id = f.media_id
), {record_event(MediaEvent.COMPLETED)}
{SELECT_CHANGED} FROM moved"""


def file_arrays(files: Sequence[StoredFile]) -> tuple[list[Any], ...]:
    """The files as arrays, from `index` on in the order of the columns of the table."""
    return (
        [f.index for f in files],
        [f.key for f in files],
        [f.media_type for f in files],
        [f.bytes for f in files],
        [f.width for f in files],
        [f.height for f in files],
        [f.sha256 for f in files],
        [f.seconds for f in files],
        [f.poster_key for f in files],
        [f.source_sha256 for f in files],
        [f.provenance for f in files],
        [f.warnings for f in files],
    )


@fenced
async def complete(db: DatabasePool, completions: Sequence[Completion]) -> Sequence[bool]:
    """Make media COMPLETED together with their files; False where the lease is lost."""
    files = [(f, c.lease.media_id) for c in completions for f in c.files]
    rows = await run(
        db,
        Changed,
        _COMPLETE,
        [c.lease.media_id for c in completions],
        [c.lease.fencing_token for c in completions],
        [c.attempt_id for c in completions],
        *cost_columns(c.cost for c in completions),
        [c.warnings for c in completions],
        [f.id for f, _ in files],
        [media_id for _, media_id in files],
        *file_arrays([f for f, _ in files]),
    )
    return applied(rows, [c.lease for c in completions])
