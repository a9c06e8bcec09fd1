"""An attempt ends without a result: the media is retried later, or ends with ERROR."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from app.core.database.pool import DatabasePool
from app.jobs.sql import (
    CANCEL_TOO_LATE,
    HOLDS_LEASE,
    MONEY_SPENT,
    OPEN_STATUSES,
    RETURNING_MOVED,
    SAME_PROVIDER,
    SELECT_CHANGED,
    record_event,
    set_status,
    verdict_holds,
)
from app.jobs.states import RESUMED, AttemptStatus, MediaEvent, MoneySpent
from app.jobs.transitions.base import Changed, Lease, applied, fenced, run

# ruff: noqa: S608 - the statements are put together from constants; values are always arguments


@dataclass(frozen=True, slots=True)
class Failure:
    """How an attempt ended without a result; `error` is JSON text with `code` and `message`."""

    lease: Lease
    attempt_id: UUID | None
    attempt_status: AttemptStatus
    sent: str
    """A Sent."""
    error: str
    retry_after: timedelta | None = None
    """The pause before the next attempt; None: there is none."""
    look_after: timedelta | None = None
    """When to check its outcome again, although the media has ended; None: never."""


# "Not sent" and "unknown" are verdicts without knowledge of a purchase: if the purchase, or the attempt's end, has been
# recorded meanwhile, the verdict is refused. So the attempt is locked first.
def _end_attempt(event: MediaEvent, *changes: str, earlier: str = "NULL::uuid") -> str:
    return f"""
WITH item AS (
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::interval[],
        $8::interval[]) AS t (media_id, fence, attempt_id, attempt_status, sent, error, delay, look_after)
), locked AS MATERIALIZED (
    SELECT a.id FROM attempts a JOIN item ON item.attempt_id = a.id
    WHERE a.status IN ({OPEN_STATUSES}) AND {verdict_holds("item.sent", "item.error")} FOR UPDATE OF a
), moved AS (
    UPDATE media m SET {set_status(event, "error = item.error::jsonb", *changes)}
    FROM item WHERE m.id = item.media_id AND {HOLDS_LEASE}
        AND (item.attempt_id IS NULL OR item.attempt_id IN (SELECT id FROM locked))
    {RETURNING_MOVED}, item.attempt_id, item.attempt_status, item.sent, item.error::jsonb AS error, item.look_after,
        {earlier} AS earlier_purchase
), ended_attempt AS (
    UPDATE attempts a SET status = moved.attempt_status, finished_at = now(), sent = moved.sent, error = moved.error,
        look_at = now() + moved.look_after
    FROM moved WHERE a.id = moved.attempt_id
    RETURNING a.media_id
), resumed AS (
    UPDATE attempts a SET status = '{AttemptStatus.SUBMITTED}', look_at = NULL, called_back = true
    FROM moved LEFT JOIN ended_attempt ON ended_attempt.media_id = moved.id WHERE a.id = moved.earlier_purchase
), {record_event(event, detail="moved.error")}
{SELECT_CHANGED} FROM moved"""


# A purchase of an earlier attempt that has become known is resumed instead of a new attempt. A media item has one open
# attempt at most, so it is opened after the failed one is closed.
_EARLIER_PURCHASE: Final = f"""(SELECT a.id FROM attempts a
    WHERE a.media_id = m.id AND a.reference IS NOT NULL AND a.status = '{AttemptStatus.UNKNOWN}' AND {SAME_PROVIDER}
    ORDER BY a.number DESC LIMIT 1)"""
_RETRY: Final = _end_attempt(
    MediaEvent.RETRY_SCHEDULED,
    f"next_run = now() + CASE WHEN {_EARLIER_PURCHASE} IS NULL THEN item.delay ELSE interval '0' END",
    f"rank = CASE WHEN {_EARLIER_PURCHASE} IS NULL THEN m.priority ELSE {RESUMED} END",
    "takeovers = 0",
    earlier=_EARLIER_PURCHASE,
)
_FAIL: Final = _end_attempt(
    MediaEvent.FAILED,
    CANCEL_TOO_LATE.replace(
        MONEY_SPENT,
        f"""CASE item.sent
    WHEN 'YES' THEN '{MoneySpent.YES}' WHEN 'UNKNOWN' THEN '{MoneySpent.MAYBE}'
    ELSE {MONEY_SPENT.replace("a.media_id = m.id", "a.media_id = m.id AND a.id <> item.attempt_id")} END""",
    ),
)


@fenced
async def schedule_retries(db: DatabasePool, failures: Sequence[Failure]) -> Sequence[bool]:
    """Return media to the queue for another attempt after `retry_after`; False where the lease is lost."""
    return await _run(db, _RETRY, failures)


@fenced
async def fail(db: DatabasePool, failures: Sequence[Failure]) -> Sequence[bool]:
    """End media with ERROR; False where the lease is lost."""
    return await _run(db, _FAIL, failures)


async def _run(db: DatabasePool, statement: str, failures: Sequence[Failure]) -> Sequence[bool]:
    rows = await run(
        db,
        Changed,
        statement,
        [f.lease.media_id for f in failures],
        [f.lease.fencing_token for f in failures],
        [f.attempt_id for f in failures],
        [f.attempt_status for f in failures],
        [f.sent for f in failures],
        [f.error for f in failures],
        [f.retry_after for f in failures],
        [f.look_after for f in failures],
    )
    return applied(rows, [f.lease for f in failures])
