"""A media item is canceled: at once while it waits; while it is held, the request is passed on to its worker."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from app.core.database.pool import DatabasePool
from app.jobs.billing import UNKNOWN_COST, AttemptCost, cost_columns
from app.jobs.sql import (
    COST_COLUMNS,
    HAS_OPEN_ATTEMPT,
    HOLDS_LEASE,
    ITEM_COST,
    MONEY_SPENT,
    RETURNING_MOVED,
    SELECT_CHANGED,
    cancel_answer,
    may_happen,
    record_event,
    set_cost,
    set_status,
)
from app.jobs.states import AttemptStatus, CancelAnswer, MediaEvent, MediaStatus
from app.jobs.transitions.base import Changed, Lease, applied, fenced, grouped, run

# ruff: noqa: S608 - the statements are put together from constants; values are always arguments


@dataclass(frozen=True, slots=True)
class CancelOutcome:
    """What came of a cancel request."""

    lease: Lease
    attempt_id: UUID | None
    money_spent: str | None
    """A MoneySpent; None: as its attempts so far say."""
    cost: AttemptCost = UNKNOWN_COST


# Nothing of it is at a provider, so no provider has to be asked.
_CANCEL: Final = f"""
    UPDATE media m SET {set_status(MediaEvent.CANCELED, "error = NULL")},
        cancel = {cancel_answer(CancelAnswer.CANCELED, MONEY_SPENT)}
    WHERE m.status = '{MediaStatus.IN_QUEUE}' AND NOT {HAS_OPEN_ATTEMPT}"""
_CANCELED: Final = f"""{RETURNING_MOVED}
), {record_event(MediaEvent.CANCELED, detail=cancel_answer(CancelAnswer.CANCELED, "NULL::text"))}
{SELECT_CHANGED} FROM moved"""

_CANCEL_WAITING: Final = f"WITH moved AS ({_CANCEL} AND m.id = $1 AND m.owner_id = $2 {_CANCELED}"
_CANCEL_ALL_WAITING: Final = f"WITH moved AS ({_CANCEL} AND m.cancel_asked {_CANCELED}"

_REQUEST_CANCEL: Final = f"""
WITH requested AS (
    UPDATE media m SET cancel_asked = true, updated_at = now(),
        cancel = {cancel_answer(CancelAnswer.REQUESTED, MONEY_SPENT)}
    WHERE m.id = $1 AND m.owner_id = $2 AND {may_happen(MediaEvent.CANCELED)} AND m.cancel IS NULL
    RETURNING m.id, m.owner_id, m.status
)
INSERT INTO media_history (media_id, owner_id, event, status)
SELECT id, owner_id, '{MediaEvent.CANCEL_ASKED}', status FROM requested
RETURNING media_id AS id, owner_id, false AS posted"""

_ITEM: Final = f"""unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::numeric[], $6::text[],
        $7::text[], $8::text[]) AS item (media_id, fence, attempt_id, money_spent, {COST_COLUMNS})"""

_CANCEL_RESULT: Final = cancel_answer(CancelAnswer.CANCELED, f"coalesce(item.money_spent, {MONEY_SPENT})")
_CANCEL_HELD: Final = f"""
WITH moved AS (
    UPDATE media m SET {set_status(MediaEvent.CANCELED, "error = NULL")}, cancel = {_CANCEL_RESULT}
    FROM {_ITEM} WHERE m.id = item.media_id AND {HOLDS_LEASE} AND m.cancel_asked
    {RETURNING_MOVED}, item.attempt_id, {ITEM_COST}, m.cancel
), ended_attempt AS (
    UPDATE attempts a SET status = '{AttemptStatus.CANCELED}', finished_at = now(), {set_cost("moved")}
    FROM moved WHERE a.id = moved.attempt_id
), {record_event(MediaEvent.CANCELED, detail="moved.cancel")}
{SELECT_CHANGED} FROM moved"""

_CANCEL_REFUSED: Final = f"""
UPDATE media m SET cancel_asked = false, updated_at = now(),
    cancel = {cancel_answer(CancelAnswer.TOO_LATE, "item.money_spent")}
FROM {_ITEM} WHERE m.id = item.media_id AND {HOLDS_LEASE} AND m.cancel_asked
RETURNING m.id, m.owner_id, false AS posted"""


async def cancel_waiting(db: DatabasePool, media_id: UUID, owner_id: UUID) -> bool:
    """Cancel a media item of which nothing is at a provider; False: it is not waiting like that."""
    return bool(await run(db, Changed, _CANCEL_WAITING, media_id, owner_id))


async def cancel_all_waiting(db: DatabasePool) -> int:
    """Cancel media whose cancel was requested while a worker held them, and which are back in the queue; how many."""
    return len(await run(db, Changed, _CANCEL_ALL_WAITING))


async def request_cancel(db: DatabasePool, media_id: UUID, owner_id: UUID) -> bool:
    """Leave the request for the worker that holds it, or will; False: it has ended, or was requested before."""
    return bool(await run(db, Changed, _REQUEST_CANCEL, media_id, owner_id))


@fenced
async def cancel(db: DatabasePool, outcomes: Sequence[CancelOutcome]) -> Sequence[bool]:
    """Make media CANCELED that the provider has stopped, or never received; False where the lease is lost."""
    return await _run(db, _CANCEL_HELD, outcomes)


@grouped
async def refuse_cancel(db: DatabasePool, outcomes: Sequence[CancelOutcome]) -> Sequence[bool]:
    """Record that it is too late to cancel; the media continues."""
    return await _run(db, _CANCEL_REFUSED, outcomes)


async def _run(db: DatabasePool, statement: str, outcomes: Sequence[CancelOutcome]) -> Sequence[bool]:
    rows = await run(
        db,
        Changed,
        statement,
        [o.lease.media_id for o in outcomes],
        [o.lease.fencing_token for o in outcomes],
        [o.attempt_id for o in outcomes],
        [o.money_spent for o in outcomes],
        *cost_columns(o.cost for o in outcomes),
    )
    return applied(rows, [o.lease for o in outcomes])
