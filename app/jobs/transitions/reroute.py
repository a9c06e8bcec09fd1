"""A media item moves on to the next target of its route.

Nothing may have been purchased for it: no attempt is open, and each earlier one provably cost nothing. The media moves
forward along its route only, so it reaches an end.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from app.core.database.pool import DatabasePool
from app.jobs.sql import (
    HAS_OPEN_ATTEMPT,
    HOLDS_LEASE,
    OPEN_STATUSES,
    RETURNING_MOVED,
    SELECT_CHANGED,
    record_event,
    set_status,
    verdict_holds,
)
from app.jobs.states import HIGHEST_PRIORITY, SHELVED, AttemptStatus, MediaEvent, MediaStatus
from app.jobs.transitions.base import Changed, Lease, applied, grouped, run
from app.media_generator.errors import Sent

# ruff: noqa: S608 - the statements are put together from constants; values are always arguments


@dataclass(frozen=True, slots=True)
class Reroute:
    """A media item moves on to the next target of its route; `error` (the reason) and `input` are JSON text."""

    lease: Lease
    attempt_id: UUID | None
    """None: nothing was tried at the previous target."""
    was: str
    """The previous model."""
    model: str
    queue: str
    input: str
    step: int
    error: str

    @property
    def values(self) -> tuple[object, ...]:
        """In the order of the statements' arrays."""
        at, provider = (self.lease.media_id, self.lease.fencing_token, self.attempt_id), self.model.partition("/")[0]
        return *at, self.was, self.model, provider, self.queue, self.input, self.step, self.error


_ITEM: Final = """item AS (
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[],
        $8::text[], $9::smallint[], $10::text[])
        AS t (media_id, fence, attempt_id, was, model, provider, queue, input, step, error)
)"""
_MAY_MOVE: Final = f"""m.model = item.was AND m.route IS NOT NULL AND m.route_step < item.step
    AND NOT EXISTS (SELECT FROM attempts a WHERE a.media_id = m.id AND a.id IS DISTINCT FROM item.attempt_id
        AND a.sent IS DISTINCT FROM '{Sent.NO}')"""
_CHANGES: Final = set_status(
    MediaEvent.REROUTED,
    "model = item.model",
    "provider = item.provider",
    "queue = item.queue",
    "input = item.input::jsonb",
    "route_step = item.step",
    "next_run = now()",
    "rank = m.priority",
    "takeovers = 0",
    "progress = NULL",
)
_HISTORY: Final = record_event(
    MediaEvent.REROUTED, detail="error || jsonb_build_object('was', was, 'model', model, 'route', route)"
)
_RETURNING: Final = f"{RETURNING_MOVED}, item.attempt_id, item.error::jsonb AS error, item.was, m.model, m.route"

# As in `failure.py`: the attempt is locked first, and one whose purchase is known refuses the verdict.
_REROUTE_HELD: Final = f"""
WITH {_ITEM}, locked AS MATERIALIZED (
    SELECT a.id FROM attempts a JOIN item ON item.attempt_id = a.id
    WHERE a.status IN ({OPEN_STATUSES}) AND {verdict_holds("'NO'", "item.error")} FOR UPDATE OF a
), moved AS (
    UPDATE media m SET {_CHANGES}, error = item.error::jsonb
    FROM item WHERE m.id = item.media_id AND {HOLDS_LEASE} AND {_MAY_MOVE}
        AND (item.attempt_id IS NULL OR item.attempt_id IN (SELECT id FROM locked))
    {_RETURNING}
), ended_attempt AS (
    UPDATE attempts a SET status = '{AttemptStatus.FAILED}', finished_at = now(), sent = '{Sent.NO}',
        error = moved.error
    FROM moved WHERE a.id = moved.attempt_id
), {_HISTORY}
{SELECT_CHANGED} FROM moved"""

_REROUTE_WAITING: Final = f"""
WITH {_ITEM}, moved AS (
    UPDATE media m SET {_CHANGES}
    FROM item WHERE m.id = item.media_id AND m.fence = item.fence AND m.status = '{MediaStatus.IN_QUEUE}'
        AND m.rank BETWEEN {SHELVED} AND {HIGHEST_PRIORITY} AND NOT {HAS_OPEN_ATTEMPT} AND {_MAY_MOVE}
    {_RETURNING}
), {_HISTORY}
{SELECT_CHANGED} FROM moved"""


@grouped
async def reroute(db: DatabasePool, moves: Sequence[Reroute]) -> Sequence[bool]:
    """Send held media to the next target; False: the lease is lost, or they may have cost something."""
    return await _run(db, _REROUTE_HELD, moves)


async def reroute_waiting(db: DatabasePool, moves: Sequence[Reroute]) -> Sequence[bool]:
    """Send waiting media to another target; False: they no longer wait, or may have cost something."""
    return await _run(db, _REROUTE_WAITING, moves)


async def _run(db: DatabasePool, statement: str, moves: Sequence[Reroute]) -> Sequence[bool]:
    columns = zip(*(move.values for move in moves), strict=True)
    rows = await run(db, Changed, statement, *(list(column) for column in columns))
    return applied(rows, [move.lease for move in moves])
