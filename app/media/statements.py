"""The SQL of `transitions.py`, put together from the table of states; nobody else runs it.

The expected state stands in each WHERE, and the history row rides in the same statement. Who is claimed next
stands in `claiming.py`; what happens to attempts whose media is over, in `late_statements.py`.
"""

from typing import Final

from app.media.sql import MAY_EXPIRE, SPENT_SO_FAR, may, move, names, note
from app.media.states import (
    FINAL,
    OPEN_ATTEMPT,
    RESUMED,
    SUSPECT,
    SUSPECT_FROM,
    TRANSITIONS,
    AttemptStatus,
    CancelAnswer,
    MediaEvent,
    MediaStatus,
    MoneySpent,
)

# ruff: noqa: S608 - the statements are put together from constants of `states.py`; values are always arguments

_COLUMNS: Final = """id, job_id, owner_id, status, prompt, model, input, metadata, queue, provider, priority, rank,
    on_unknown, time_limit, deadline"""
_VALUES: Final = f"""$1, $2, $3, '{TRANSITIONS[MediaEvent.REQUESTED].target}', $4, $5, $6::jsonb, $7::jsonb, $8, $9,
    $10, $10, $11, $12::interval, now() + $12::interval"""
_MADE: Final = "RETURNING id, created_at, deadline"
_OPEN: Final = names(OPEN_ATTEMPT)
_HAS_OPEN: Final = f"EXISTS (SELECT FROM attempts a WHERE a.media_id = m.id AND a.status IN ({_OPEN}))"
_RANK: Final = f"CASE WHEN {_HAS_OPEN} THEN {RESUMED} ELSE m.priority END"
_HELD: Final = f"m.fence = asked.fence AND m.status = '{MediaStatus.PROCESSING}'"

REQUEST: Final = f"""
WITH moved AS (
    INSERT INTO media ({_COLUMNS}) VALUES ({_VALUES}) {_MADE}
), noted AS ({note(MediaEvent.REQUESTED, "moved")})
SELECT created_at, deadline FROM moved"""

# Of two first requests the second waits for the first to commit, and then finds the key taken.
REQUEST_ONCE: Final = f"""
WITH first AS (
    INSERT INTO idempotency_keys AS k (owner_id, key, fingerprint, media_id) VALUES ($3, $13, $14, $1)
    ON CONFLICT (owner_id, key) DO UPDATE
    SET fingerprint = excluded.fingerprint, media_id = excluded.media_id, created_at = now()
    WHERE k.created_at < now() - $15::interval
    RETURNING media_id
), moved AS (
    INSERT INTO media ({_COLUMNS}) SELECT {_VALUES} FROM first {_MADE}
), noted AS ({note(MediaEvent.REQUESTED, "moved")})
SELECT created_at, deadline FROM moved"""

INTEND: Final = f"""
WITH asked AS (
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::text[])
        AS t (media_id, fence, attempt_id, model, model_version, input_hash)
), before AS (
    SELECT a.id, a.number FROM asked JOIN attempts a ON a.id = asked.attempt_id
    JOIN media m ON m.id = asked.media_id AND {_HELD}
), held AS (
    UPDATE media m SET number_of_tries = m.number_of_tries + 1, progress = NULL, updated_at = now()
    FROM asked WHERE m.id = asked.media_id AND {_HELD}
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

# Of a media that is over somebody has to look after the purchase; of one that has another open attempt by now
# only the fact is kept.
PURCHASE: Final = f"""
UPDATE attempts a SET external_id = t.external_id, reference = t.reference::jsonb, submitted_at = now(),
    status = CASE WHEN EXISTS (SELECT FROM attempts o
        WHERE o.media_id = a.media_id AND o.id <> a.id AND o.status IN ({_OPEN}))
        THEN a.status ELSE '{AttemptStatus.SUBMITTED}' END,
    look_at = CASE WHEN m.status IN ({names(FINAL)}) THEN now() ELSE a.look_at END
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS t (id, external_id, reference), media m
WHERE a.id = t.id AND m.id = a.media_id AND a.status IN ({names(OPEN_ATTEMPT | {AttemptStatus.UNKNOWN})})
RETURNING a.id"""


def _answer(answer: CancelAnswer, money_spent: str) -> str:
    return f"jsonb_build_object('answer', '{answer}', 'money_spent', {money_spent})"


_TOO_LATE: Final = _answer(CancelAnswer.TOO_LATE, f"'{MoneySpent.YES}'::text")
_CANCEL_IN_VAIN: Final = (
    f"cancel = CASE WHEN m.cancel_asked THEN {_answer(CancelAnswer.TOO_LATE, SPENT_SO_FAR)} ELSE m.cancel END"
)

COMPLETE: Final = f"""
WITH asked AS (
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::numeric[])
        AS t (media_id, fence, attempt_id, cost)
), moved AS (
    UPDATE media m SET {move(MediaEvent.COMPLETED, "progress = 1", "error = NULL")},
        cancel = CASE WHEN m.cancel_asked THEN {_TOO_LATE} ELSE m.cancel END
    FROM asked WHERE m.id = asked.media_id AND {_HELD}
    RETURNING m.id, asked.attempt_id, asked.cost
), attempted AS (
    UPDATE attempts a SET status = '{AttemptStatus.SUCCEEDED}', finished_at = now(), cost = moved.cost
    FROM moved WHERE a.id = moved.attempt_id
), stored AS (
    INSERT INTO files (id, media_id, index, key, media_type, bytes, width, height, sha256)
    SELECT f.* FROM unnest($5::uuid[], $6::uuid[], $7::int[], $8::text[], $9::text[], $10::bigint[],
        $11::int[], $12::int[], $13::text[])
        AS f (id, media_id, index, key, media_type, bytes, width, height, sha256)
    JOIN moved ON moved.id = f.media_id
), noted AS ({note(MediaEvent.COMPLETED, "moved")})
SELECT id FROM moved"""

PROGRESS: Final = f"""
UPDATE media m SET progress = asked.fraction, updated_at = now()
FROM unnest($1::uuid[], $2::bigint[], $3::float8[]) AS asked (id, fence, fraction)
WHERE m.id = asked.id AND {_HELD}
RETURNING m.id"""


def _end(event: MediaEvent, *changes: str) -> str:
    return f"""
WITH asked AS (
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::interval[],
        $8::interval[]) AS t (media_id, fence, attempt_id, attempt_status, sent, error, delay, look_after)
), moved AS (
    UPDATE media m SET {move(event, "error = asked.error::jsonb", *changes)}
    FROM asked WHERE m.id = asked.media_id AND {_HELD}
    RETURNING m.id, asked.attempt_id, asked.attempt_status, asked.sent, asked.error::jsonb AS error, asked.look_after
), attempted AS (
    UPDATE attempts a SET status = moved.attempt_status, finished_at = now(), sent = moved.sent, error = moved.error,
        look_at = now() + moved.look_after
    FROM moved WHERE a.id = moved.attempt_id
), noted AS ({note(event, "moved", detail="moved.error")})
SELECT id FROM moved"""


RETRY: Final = _end(MediaEvent.RETRY_SCHEDULED, "next_run = now() + asked.delay", "rank = m.priority", "takeovers = 0")
FAIL: Final = _end(MediaEvent.FAILED, _CANCEL_IN_VAIN)

# What was bought and not fetched yet goes on; nobody looks after older tries any more.
RETRY_ASKED: Final = f"""
WITH moved AS (
    UPDATE media m SET {
    move(
        MediaEvent.RETRY_ASKED,
        "next_run = now()",
        "progress = NULL",
        "completed_at = NULL",
        "takeovers = 0",
        "cancel = NULL",
        "deadline = now() + m.time_limit",
        f"rank = {_RANK}",
    )
}
    WHERE m.id = $1 AND m.owner_id = $2 AND {may(MediaEvent.RETRY_ASKED)}
    RETURNING m.id, m.queue
), taken_back AS (
    UPDATE attempts a SET look_at = NULL, stop = false FROM moved WHERE a.media_id = moved.id AND a.look_at IS NOT NULL
), noted AS ({note(MediaEvent.RETRY_ASKED, "moved")})
SELECT id, queue FROM moved"""


def _return(condition: str, *changes: str) -> str:
    moving = move(MediaEvent.RETURNED, f"rank = {_RANK}", *changes)
    return f"""
WITH moved AS (
    UPDATE media m SET {moving}
    WHERE {may(MediaEvent.RETURNED)} AND {condition}
    RETURNING m.id, m.queue
), noted AS ({note(MediaEvent.RETURNED, "moved", detail="jsonb_build_object('reason', $1::text)")})
SELECT id, queue FROM moved"""


# Without a delay it keeps its place in the queue: it was due before most that wait.
RETURN_HELD: Final = _return(
    "(m.id, m.fence) IN (SELECT * FROM unnest($2::uuid[], $3::bigint[]))",
    "next_run = CASE WHEN $4::interval > interval '0' THEN now() + $4::interval ELSE m.next_run END",
)
RETURN_FORGOTTEN: Final = _return("m.worker_id = $2 AND NOT m.id = ANY($3::uuid[])")

# Who is to blame for a worker's death? If it held suspects, they alone; else everything that it held. A suspect
# waits a little longer each time, so that it does not take down one worker after the other.
_AGAIN: Final = f"m.takeovers + CASE WHEN m.takeovers >= {SUSPECT_FROM} OR NOT o.suspects THEN 1 ELSE 0 END"
RETURN_ORPHANS: Final = f"""
WITH orphan AS (
    SELECT m.id, bool_or(m.takeovers >= {SUSPECT_FROM}) OVER (PARTITION BY m.worker_id) AS suspects
    FROM media m WHERE {may(MediaEvent.RETURNED)} AND NOT EXISTS (SELECT FROM workers w WHERE w.id = m.worker_id)
), moved AS (
    UPDATE media m SET {move(MediaEvent.RETURNED, f"takeovers = {_AGAIN}")},
        rank = CASE WHEN {_AGAIN} >= {SUSPECT_FROM} THEN {SUSPECT} ELSE {_RANK} END,
        next_run = CASE WHEN {_AGAIN} >= {SUSPECT_FROM}
            THEN now() + least({_AGAIN}, 30) * interval '1 second' ELSE m.next_run END
    FROM orphan o WHERE m.id = o.id AND {may(MediaEvent.RETURNED)}
        AND NOT EXISTS (SELECT FROM workers w WHERE w.id = m.worker_id)
    RETURNING m.id, m.queue
), noted AS ({note(MediaEvent.RETURNED, "moved", detail="jsonb_build_object('reason', $1::text)")})
SELECT id, queue FROM moved"""

GIVE_UP: Final = f"""
WITH moved AS (
    UPDATE media m SET {move(MediaEvent.GIVEN_UP, "error = $2::jsonb", _CANCEL_IN_VAIN)}
    WHERE {may(MediaEvent.GIVEN_UP)} AND m.rank = {SUSPECT} AND m.takeovers >= $1
    RETURNING m.id
), noted AS ({note(MediaEvent.GIVEN_UP, "moved", detail="$2::jsonb")})
SELECT id FROM moved"""

_EXPIRED: Final = f"""RETURNING m.id
), attempted AS (
    UPDATE attempts a SET look_at = now(), stop = true FROM moved WHERE a.media_id = moved.id AND a.status IN ({_OPEN})
), noted AS ("""

EXPIRE_WAITING: Final = f"""
WITH over AS (
    SELECT m.id FROM media m WHERE {MAY_EXPIRE} AND m.deadline <= now()
    ORDER BY m.deadline LIMIT 1000 FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE media m SET {move(MediaEvent.EXPIRED, "error = $1::jsonb", _CANCEL_IN_VAIN)} FROM over WHERE m.id = over.id
    {_EXPIRED}{note(MediaEvent.EXPIRED, "moved")})
SELECT id FROM moved"""

EXPIRE_HELD: Final = f"""
WITH moved AS (
    UPDATE media m SET {move(MediaEvent.EXPIRED, "error = $1::jsonb", _CANCEL_IN_VAIN)}
    FROM unnest($2::uuid[], $3::bigint[]) AS asked (media_id, fence) WHERE m.id = asked.media_id AND {_HELD}
    {_EXPIRED}{note(MediaEvent.EXPIRED, "moved")})
SELECT id FROM moved"""

# Nothing of it is at a provider, so nobody has to be asked.
_CANCEL_WAITING: Final = f"""
    UPDATE media m SET {move(MediaEvent.CANCELED, "error = NULL")}, cancel = {_answer(CancelAnswer.CANCELED, SPENT_SO_FAR)}
    WHERE m.status = '{MediaStatus.IN_QUEUE}' AND NOT {_HAS_OPEN}"""
_CANCELED: Final = f"""RETURNING m.id
), noted AS ({note(MediaEvent.CANCELED, "moved", detail=_answer(CancelAnswer.CANCELED, "NULL::text"))})
SELECT id FROM moved"""

CANCEL_WAITING: Final = f"WITH moved AS ({_CANCEL_WAITING} AND m.id = $1 AND m.owner_id = $2 {_CANCELED}"
CANCEL_ALL_WAITING: Final = f"WITH moved AS ({_CANCEL_WAITING} AND m.cancel_asked {_CANCELED}"

ASK_CANCEL: Final = f"""
WITH asked AS (
    UPDATE media m SET cancel_asked = true, updated_at = now(),
        cancel = {_answer(CancelAnswer.REQUESTED, SPENT_SO_FAR)}
    WHERE m.id = $1 AND m.owner_id = $2 AND {may(MediaEvent.CANCELED)} AND m.cancel IS NULL
    RETURNING m.id, m.status
)
INSERT INTO media_history (media_id, event, status) SELECT id, '{MediaEvent.CANCEL_ASKED}', status FROM asked
RETURNING media_id AS id"""

_REPORTED: Final = """unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::numeric[])
        AS asked (media_id, fence, attempt_id, money_spent, cost)"""

_STOPPED: Final = _answer(CancelAnswer.CANCELED, f"coalesce(asked.money_spent, {SPENT_SO_FAR})")
CANCEL_HELD: Final = f"""
WITH moved AS (
    UPDATE media m SET {move(MediaEvent.CANCELED, "error = NULL")}, cancel = {_STOPPED}
    FROM {_REPORTED} WHERE m.id = asked.media_id AND {_HELD}
    RETURNING m.id, asked.attempt_id, asked.cost, m.cancel
), attempted AS (
    UPDATE attempts a SET status = '{AttemptStatus.CANCELED}', finished_at = now(), cost = moved.cost
    FROM moved WHERE a.id = moved.attempt_id
), noted AS ({note(MediaEvent.CANCELED, "moved", detail="moved.cancel")})
SELECT id FROM moved"""

CANCEL_REFUSED: Final = f"""
UPDATE media m SET cancel_asked = false, updated_at = now(),
    cancel = {_answer(CancelAnswer.TOO_LATE, "asked.money_spent")}
FROM {_REPORTED} WHERE m.id = asked.media_id AND {_HELD} AND m.cancel_asked
RETURNING m.id"""
