"""The SQL of `transitions.py`, put together from the table of states; nobody else runs it.

The expected state stands in each WHERE, and the history row rides in the same statement.
"""

from typing import Any, Final

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

REQUEST: Final = f"""
WITH moved AS (
    INSERT INTO media ({_COLUMNS}) VALUES ({_VALUES}) RETURNING id, created_at
), noted AS ({_note(MediaEvent.REQUESTED, "moved")})
SELECT created_at FROM moved"""

# Of two first requests the second waits for the first to commit, and then finds the key taken.
REQUEST_ONCE: Final = f"""
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

CLAIM: Final = f"""
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

INTEND: Final = f"""
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

PURCHASE: Final = f"""
UPDATE attempts a SET status = '{AttemptStatus.SUBMITTED}', external_id = t.external_id,
    reference = t.reference::jsonb, submitted_at = now()
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS t (id, external_id, reference)
WHERE a.id = t.id AND a.status IN ({_names(OPEN_ATTEMPT | {AttemptStatus.UNKNOWN})})
RETURNING a.id"""

COMPLETE: Final = f"""
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

PROGRESS: Final = f"""
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


RETRY: Final = _end(MediaEvent.RETRY_SCHEDULED, "next_run = now() + ended.delay")
FAIL: Final = _end(MediaEvent.FAILED)


RETRY_ASKED: Final = f"""
WITH moved AS (
    UPDATE media m SET {_move(MediaEvent.RETRY_ASKED, "next_run = now()", "progress = NULL", "completed_at = NULL")}
    WHERE m.id = $1 AND m.owner_id = $2 AND {_may(MediaEvent.RETRY_ASKED)}
    RETURNING m.id, m.queue
), noted AS ({_note(MediaEvent.RETRY_ASKED, "moved")})
SELECT queue FROM moved"""


def _return(condition: str, delay: str = "interval '0'") -> str:
    # Without a delay it keeps its place in the queue: it was due before most that wait.
    later = f"next_run = CASE WHEN {delay} > interval '0' THEN now() + {delay} ELSE m.next_run END"
    moving = _move(MediaEvent.RETURNED, later)
    return f"""
WITH moved AS (
    UPDATE media m SET {moving}
    WHERE {_may(MediaEvent.RETURNED)} AND {condition}
    RETURNING m.id, m.queue
), noted AS ({_note(MediaEvent.RETURNED, "moved", detail="jsonb_build_object('reason', $1::text)")})
SELECT id, queue FROM moved"""


RETURN_HELD: Final = _return("(m.id, m.fence) IN (SELECT * FROM unnest($2::uuid[], $3::bigint[]))", "$4::interval")
RETURN_FORGOTTEN: Final = _return("m.worker_id = $2 AND NOT m.id = ANY($3::uuid[])")
RETURN_ORPHANS: Final = _return("NOT EXISTS (SELECT FROM workers w WHERE w.id = m.worker_id)")
