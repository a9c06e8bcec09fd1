"""The only writer of `status`: one function for each event, one statement for each function.

The expected state stands in the WHERE, so the check and the move are one; a worker's write also names
the fencing number of its claim. What comes back is what really moved: an id that is missing was refused.
Every move leaves its history row in the same statement.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg

from app.core.connections import Connections
from app.media.commands import Completion, Failure, Held, Intent, NewMedia, Progress, Purchase
from app.media.states import FINAL, OPEN_ATTEMPT, TRANSITIONS, AttemptStatus, MediaEvent, MediaStatus

# ruff: noqa: S608 - the statements are put together from constants of `states.py`; values are always arguments


def _names(statuses: frozenset[Any]) -> str:
    return ", ".join(f"'{status}'" for status in sorted(statuses))


def _may(event: MediaEvent) -> str:
    return f"m.status IN ({_names(TRANSITIONS[event].sources)})"


def _move(event: MediaEvent, *changes: str) -> str:
    target = TRANSITIONS[event].target
    over = ("completed_at = now()",) if target in FINAL else ()
    letting_go = () if target is MediaStatus.PROCESSING else ("worker_id = NULL",)
    return ", ".join((f"status = '{target}'", "updated_at = now()", *over, *letting_go, *changes))


def _note(event: MediaEvent, moved: str, worker: str = "NULL::uuid", detail: str = "NULL::jsonb") -> str:
    values = f"SELECT id, '{event}', '{TRANSITIONS[event].target}', {worker}, {detail} FROM {moved}"
    return f"INSERT INTO media_history (media_id, event, status, worker_id, detail) {values}"


_COLUMNS: Final = "id, job_id, owner_id, status, prompt, model, input, metadata, queue"
_VALUES: Final = f"$1, $2, $3, '{TRANSITIONS[MediaEvent.REQUESTED].target}', $4, $5, $6::jsonb, $7::jsonb, $8"

_REQUEST: Final = f"""
WITH moved AS (
    INSERT INTO media ({_COLUMNS}) VALUES ({_VALUES}) RETURNING id, created_at
), noted AS ({_note(MediaEvent.REQUESTED, "moved")})
SELECT created_at FROM moved"""

# Of two first requests the second waits for the first to commit, and then finds the key taken.
_REQUEST_ONCE: Final = f"""
WITH first AS (
    INSERT INTO idempotency_keys AS k (owner_id, key, fingerprint, media_id) VALUES ($3, $9, $10, $1)
    ON CONFLICT (owner_id, key) DO UPDATE
    SET fingerprint = excluded.fingerprint, media_id = excluded.media_id, created_at = now()
    WHERE k.created_at < now() - $11::interval
    RETURNING media_id
), moved AS (
    INSERT INTO media ({_COLUMNS}) SELECT {_VALUES} FROM first RETURNING id, created_at
), noted AS ({_note(MediaEvent.REQUESTED, "moved")})
SELECT created_at FROM moved"""

_CLAIM: Final = f"""
WITH due AS MATERIALIZED (
    SELECT m.id FROM media m
    WHERE {_may(MediaEvent.CLAIMED)} AND m.queue = $1 AND m.next_run <= now()
    ORDER BY m.next_run, m.id LIMIT $3 FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE media m SET {_move(MediaEvent.CLAIMED)}, worker_id = $2, fence = m.fence + 1,
        started_at = coalesce(m.started_at, now())
    FROM due, workers w WHERE m.id = due.id AND w.id = $2
    RETURNING m.id, m.fence, m.owner_id, m.prompt, m.model, m.input, m.number_of_tries, m.created_at
), noted AS ({_note(MediaEvent.CLAIMED, "moved", "$2")})
SELECT moved.*, a.id AS attempt_id, a.number AS attempt_number, a.reference, a.created_at AS attempted_at
FROM moved LEFT JOIN attempts a ON a.media_id = moved.id AND a.status IN ({_names(OPEN_ATTEMPT)})"""

_INTEND: Final = f"""
WITH asked AS (
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::text[])
        AS t (media_id, fence, attempt_id, model, model_version, input_hash)
), before AS (
    SELECT a.id, a.number FROM asked JOIN attempts a ON a.id = asked.attempt_id
    JOIN media m ON m.id = asked.media_id AND m.fence = asked.fence AND m.status = '{MediaStatus.PROCESSING}'
), held AS (
    UPDATE media m SET number_of_tries = m.number_of_tries + 1, progress = NULL, updated_at = now()
    FROM asked WHERE m.id = asked.media_id AND m.fence = asked.fence AND m.status = '{MediaStatus.PROCESSING}'
        AND NOT EXISTS (SELECT FROM before WHERE before.id = asked.attempt_id)
    RETURNING m.id, m.number_of_tries
), made AS (
    INSERT INTO attempts (id, media_id, number, status, model, model_version, input_hash)
    SELECT asked.attempt_id, held.id, held.number_of_tries, '{AttemptStatus.INTENDED}',
        asked.model, asked.model_version, asked.input_hash
    FROM held JOIN asked ON asked.media_id = held.id
    RETURNING id, number
)
SELECT id, number FROM made UNION ALL SELECT id, number FROM before"""

_PURCHASE: Final = f"""
UPDATE attempts a SET status = '{AttemptStatus.SUBMITTED}', external_id = t.external_id,
    reference = t.reference::jsonb, submitted_at = now()
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS t (id, external_id, reference)
WHERE a.id = t.id AND a.status IN ({_names(OPEN_ATTEMPT | {AttemptStatus.UNKNOWN})})
RETURNING a.id"""

_COMPLETE: Final = f"""
WITH done AS (
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::numeric[])
        AS t (media_id, fence, attempt_id, cost)
), moved AS (
    UPDATE media m SET {_move(MediaEvent.COMPLETED, "progress = 1", "error = NULL")}
    FROM done WHERE m.id = done.media_id AND m.fence = done.fence AND {_may(MediaEvent.COMPLETED)}
    RETURNING m.id, done.attempt_id, done.cost
), attempted AS (
    UPDATE attempts a SET status = '{AttemptStatus.SUCCEEDED}', finished_at = now(), cost = moved.cost
    FROM moved WHERE a.id = moved.attempt_id
), stored AS (
    INSERT INTO files (id, media_id, index, key, media_type, bytes, width, height, sha256)
    SELECT f.* FROM unnest($5::uuid[], $6::uuid[], $7::int[], $8::text[], $9::text[], $10::bigint[],
        $11::int[], $12::int[], $13::text[])
        AS f (id, media_id, index, key, media_type, bytes, width, height, sha256)
    JOIN moved ON moved.id = f.media_id
), noted AS ({_note(MediaEvent.COMPLETED, "moved")})
SELECT id FROM moved"""

_PROGRESS: Final = f"""
UPDATE media m SET progress = t.fraction, updated_at = now()
FROM unnest($1::uuid[], $2::bigint[], $3::float8[]) AS t (id, fence, fraction)
WHERE m.id = t.id AND m.fence = t.fence AND m.status = '{MediaStatus.PROCESSING}'
RETURNING m.id"""


def _end(event: MediaEvent, *changes: str) -> str:
    return f"""
WITH ended AS (
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::interval[])
        AS t (media_id, fence, attempt_id, attempt_status, sent, error, delay)
), moved AS (
    UPDATE media m SET {_move(event, "error = ended.error::jsonb", *changes)}
    FROM ended WHERE m.id = ended.media_id AND m.fence = ended.fence AND {_may(event)}
    RETURNING m.id, ended.attempt_id, ended.attempt_status, ended.sent, ended.error::jsonb AS error
), attempted AS (
    UPDATE attempts a SET status = moved.attempt_status, finished_at = now(), sent = moved.sent, error = moved.error
    FROM moved WHERE a.id = moved.attempt_id
), noted AS ({_note(event, "moved", detail="moved.error")})
SELECT id FROM moved"""


_RETRY: Final = _end(MediaEvent.RETRY_SCHEDULED, "next_run = now() + ended.delay")
_FAIL: Final = _end(MediaEvent.FAILED)


def _return(condition: str, delay: str = "interval '0'") -> str:
    moving = _move(MediaEvent.RETURNED, f"next_run = now() + {delay}")
    return f"""
WITH moved AS (
    UPDATE media m SET {moving}
    WHERE {_may(MediaEvent.RETURNED)} AND {condition}
    RETURNING m.id, m.queue
), noted AS ({_note(MediaEvent.RETURNED, "moved", detail="jsonb_build_object('reason', $1::text)")})
SELECT id, queue FROM moved"""


_RETURN_HELD: Final = _return("(m.id, m.fence) IN (SELECT * FROM unnest($2::uuid[], $3::bigint[]))", "$4::interval")
_RETURN_FORGOTTEN: Final = _return("m.worker_id = $2 AND NOT m.id = ANY($3::uuid[])")
_RETURN_ORPHANS: Final = _return("NOT EXISTS (SELECT FROM workers w WHERE w.id = m.worker_id)")


async def request(hot: Connections, new: NewMedia) -> datetime | None:
    """Write a request down; once this returns it will be generated.

    Returns:
        When it was created; None: its idempotency key was used before, and nothing was written.
    """
    values = (new.id, new.job_id, new.owner_id, new.prompt, new.model, new.input, new.metadata, new.queue)
    if new.once is None:
        row = await hot.fetchrow(_REQUEST, *values)
    else:
        once = new.once
        row = await hot.fetchrow(_REQUEST_ONCE, *values, once.key.name, once.key.fingerprint, once.lifetime)
    if row is None:
        return None
    created_at: datetime = row["created_at"]
    return created_at


async def claim(hot: Connections, queue: str, *, worker_id: UUID, limit: int) -> list[asyncpg.Record]:
    """Take up to `limit` due media of `queue` for one worker; of many workers each row goes to one.

    A row holds the media and its open attempt, if a worker before left one. A worker whose row is gone gets none.
    """
    return await hot.fetch(_CLAIM, queue, worker_id, limit)


async def intend(hot: Connections, intents: Sequence[Intent]) -> list[int | None]:
    """Commit what is about to be bought: the attempt's number for each, or None where the lease is lost.

    Asked again with the same attempt id, as after a lost answer, it changes nothing and answers alike.
    """
    rows = await hot.fetch(
        _INTEND,
        [i.held.media_id for i in intents],
        [i.held.fence for i in intents],
        [i.attempt_id for i in intents],
        [i.model for i in intents],
        [i.model_version for i in intents],
        [i.input_hash for i in intents],
    )
    numbers: dict[UUID, int] = {row["id"]: row["number"] for row in rows}
    return [numbers.get(i.attempt_id) for i in intents]


async def record_purchases(hot: Connections, purchases: Sequence[Purchase]) -> list[bool]:
    """Record what was bought. A fact, so it is not fenced: a worker that lost its lease may write it too."""
    columns = zip(*((p.attempt_id, p.external_id, p.reference) for p in purchases), strict=True)
    rows = await hot.fetch(_PURCHASE, *(list(column) for column in columns))
    recorded: set[UUID] = {row["id"] for row in rows}
    return [p.attempt_id in recorded for p in purchases]


async def complete(hot: Connections, completions: Sequence[Completion]) -> list[bool]:
    """Make media COMPLETED together with their files; False where the lease is lost."""
    files = [(f, c.held.media_id) for c in completions for f in c.files]
    rows = await hot.fetch(
        _COMPLETE,
        [c.held.media_id for c in completions],
        [c.held.fence for c in completions],
        [c.attempt_id for c in completions],
        [c.cost for c in completions],
        [f.id for f, _ in files],
        [media_id for _, media_id in files],
        [f.index for f, _ in files],
        [f.key for f, _ in files],
        [f.media_type for f, _ in files],
        [f.bytes for f, _ in files],
        [f.width for f, _ in files],
        [f.height for f, _ in files],
        [f.sha256 for f, _ in files],
    )
    return _moved(rows, [c.held for c in completions])


async def progress(hot: Connections, steps: Sequence[Progress]) -> list[bool]:
    """Show how far media are; no event of its own."""
    rows = await hot.fetch(
        _PROGRESS,
        [p.held.media_id for p in steps],
        [p.held.fence for p in steps],
        [p.fraction for p in steps],
    )
    return _moved(rows, [p.held for p in steps])


async def schedule_retries(hot: Connections, failures: Sequence[Failure]) -> list[bool]:
    """Put media back into the queue for another try at `now + retry_after`; False where the lease is lost."""
    return await _end_attempts(hot, _RETRY, failures)


async def fail(hot: Connections, failures: Sequence[Failure]) -> list[bool]:
    """End media with ERROR; False where the lease is lost."""
    return await _end_attempts(hot, _FAIL, failures)


async def hand_back(hot: Connections, held: Sequence[Held], *, reason: str, delay: timedelta) -> list[bool]:
    """Give media back untried: the open attempt goes on with the next worker, after `delay`."""
    rows = await hot.fetch(_RETURN_HELD, reason, [h.media_id for h in held], [h.fence for h in held], delay)
    return _moved(rows, held)


async def return_forgotten(hot: Connections, worker_id: UUID, in_hand: Sequence[UUID]) -> set[str]:
    """Return media that carry the worker's name but are not in its hands; the queues they went to.

    So it is when the database crashed between committing a claim and answering it.
    """
    return {row["queue"] for row in await hot.fetch(_RETURN_FORGOTTEN, "claim_answer_lost", worker_id, in_hand)}


async def return_orphans(hot: Connections) -> list[asyncpg.Record]:
    """Return media whose worker is gone; `id` and `queue` of each."""
    return await hot.fetch(_RETURN_ORPHANS, "worker_gone")


async def _end_attempts(hot: Connections, statement: str, failures: Sequence[Failure]) -> list[bool]:
    rows = await hot.fetch(
        statement,
        [f.held.media_id for f in failures],
        [f.held.fence for f in failures],
        [f.attempt_id for f in failures],
        [f.attempt_status for f in failures],
        [f.sent for f in failures],
        [f.error for f in failures],
        [f.retry_after for f in failures],
    )
    return _moved(rows, [f.held for f in failures])


def _moved(rows: Sequence[asyncpg.Record], held: Sequence[Held]) -> list[bool]:
    ids: set[UUID] = {row["id"] for row in rows}
    return [h.media_id in ids for h in held]
