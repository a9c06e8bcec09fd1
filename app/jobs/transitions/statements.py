"""The SQL of `transitions.py`, put together from the table of states; nobody else runs it.

The expected state stands in each WHERE, and the history row rides in the same statement. Who is claimed next
stands in `claiming.py`, how a media is stopped in `stop_statements.py`, and what happens to attempts whose media is
over in `late_statements.py`.
"""

from typing import Final

from app.jobs.sql import (
    BILL,
    BILLED,
    CANCEL_IN_VAIN,
    HAS_OPEN,
    HELD,
    MOVED,
    OPEN,
    OVER,
    SAME_PROVIDER,
    SPENT_SO_FAR,
    TOLD,
    UNSETTLED,
    WAITING_RANK,
    billed,
    cancel_answer,
    may,
    may_be_closed,
    move,
    names,
    note,
)
from app.jobs.states import (
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
from app.media_generator.errors import Sent

# ruff: noqa: S608 - the statements are put together from constants of `states.py`; values are always arguments

_COLUMNS: Final = """id, job_id, owner_id, status, prompt, model, input, metadata, queue, provider, priority, rank,
    on_unknown, time_limit, deadline, webhook, tags, trace, route, route_step, route_input"""
_VALUES: Final = f"""$1, $2, $3, '{TRANSITIONS[MediaEvent.REQUESTED].target}', $4, $5, $6::jsonb, $7::jsonb, $8, $9,
    $10, $10, $11, $12::interval, now() + $12::interval, $13::jsonb, $14::text[], $15, $16, $17::smallint,
    $18::jsonb"""
_MADE: Final = "RETURNING id, owner_id, webhook, created_at, deadline"
_ACCEPTED: Final = "SELECT EXISTS (SELECT FROM posted) AS posted, created_at, deadline FROM moved"

REQUEST: Final = f"""
WITH moved AS (
    INSERT INTO media ({_COLUMNS}) VALUES ({_VALUES}) {_MADE}
), {note(MediaEvent.REQUESTED)}
{_ACCEPTED}"""

# Of two first requests the second waits for the first to commit, and then finds the key taken.
REQUEST_ONCE: Final = f"""
WITH first AS (
    INSERT INTO idempotency_keys AS k (owner_id, key, fingerprint, media_id) VALUES ($3, $19, $20, $1)
    ON CONFLICT (owner_id, key) DO UPDATE
    SET fingerprint = excluded.fingerprint, media_id = excluded.media_id, created_at = now()
    WHERE k.created_at < now() - $21::interval
    RETURNING media_id
), moved AS (
    INSERT INTO media ({_COLUMNS}) SELECT {_VALUES} FROM first {_MADE}
), {note(MediaEvent.REQUESTED)}
{_ACCEPTED}"""

INTEND: Final = f"""
WITH asked AS (
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::numeric[],
        $8::text[]) AS t (media_id, fence, attempt_id, model, model_version, input_hash, estimate, currency)
), before AS (
    SELECT a.id, a.number FROM asked JOIN attempts a ON a.id = asked.attempt_id
    JOIN media m ON m.id = asked.media_id AND {HELD}
), held AS (
    UPDATE media m SET number_of_tries = m.number_of_tries + 1, progress = NULL, updated_at = now()
    FROM asked WHERE m.id = asked.media_id AND {HELD}
        AND NOT EXISTS (SELECT FROM before WHERE before.id = asked.attempt_id)
    RETURNING m.id, m.number_of_tries
), made AS (
    INSERT INTO attempts (id, media_id, number, status, model, model_version, input_hash, estimate, currency)
    SELECT asked.attempt_id, held.id, held.number_of_tries, '{AttemptStatus.INTENDED}',
        asked.model, asked.model_version, asked.input_hash, asked.estimate, asked.currency
    FROM held JOIN asked ON asked.media_id = held.id
    RETURNING id, number
)
SELECT id, number FROM made UNION ALL SELECT id, number FROM before"""

# Of a media that is over somebody has to look after the purchase. It may end in this very moment: then `a` is seen as
# it is now, and `m` as it was, so that an end must have left `look_at` for this. Where another attempt is open, or the
# media is at another provider by now, the fact is kept, and looked after when it is over without a result.
_GOES_ON_ELSEWHERE: Final = f"""(m.status = '{MediaStatus.COMPLETED}' OR NOT {SAME_PROVIDER} OR EXISTS (
    SELECT FROM attempts o WHERE o.media_id = a.media_id AND o.id <> a.id AND o.status IN ({OPEN})))"""
PURCHASE: Final = f"""
UPDATE attempts a SET external_id = t.external_id, reference = t.reference::jsonb, submitted_at = now(),
    sent = CASE WHEN a.status IN ({OPEN}) THEN a.sent ELSE '{Sent.YES}' END, error = NULL, finished_at = NULL,
    stop = a.stop OR m.status = '{MediaStatus.CANCELED}',
    status = CASE WHEN a.status IN ({OPEN}) OR NOT {_GOES_ON_ELSEWHERE} THEN '{AttemptStatus.SUBMITTED}'
        ELSE '{AttemptStatus.UNKNOWN}' END,
    look_at = CASE WHEN m.status = '{MediaStatus.COMPLETED}' THEN NULL
        WHEN m.status IN ({names(OVER)}) OR a.status NOT IN ({OPEN}) THEN now() ELSE a.look_at END
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS t (id, external_id, reference), media m
WHERE a.id = t.id AND m.id = a.media_id AND {UNSETTLED}
RETURNING a.id"""


_TOO_LATE: Final = cancel_answer(CancelAnswer.TOO_LATE, f"'{MoneySpent.YES}'::text")
COMPLETE: Final = f"""
WITH asked AS (
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::numeric[], $5::text[], $6::text[], $7::text[])
        AS t (media_id, fence, attempt_id, {BILL})
), moved AS (
    UPDATE media m SET {move(MediaEvent.COMPLETED, "progress = 1", "error = NULL")},
        cancel = CASE WHEN m.cancel_asked THEN {_TOO_LATE} ELSE m.cancel END
    FROM asked WHERE m.id = asked.media_id AND {HELD}
    {MOVED}, asked.attempt_id, {BILLED}
), attempted AS (
    UPDATE attempts a SET status = '{AttemptStatus.SUCCEEDED}', finished_at = now(), look_at = NULL, {billed("moved")}
    FROM moved WHERE a.id = moved.attempt_id
), forsaken AS (
    UPDATE attempts a SET look_at = NULL FROM moved
    WHERE a.media_id = moved.id AND a.id IS DISTINCT FROM moved.attempt_id AND a.look_at IS NOT NULL
), stored AS (
    INSERT INTO files (id, media_id, index, key, media_type, bytes, width, height, sha256, seconds, poster_key)
    SELECT f.* FROM unnest($8::uuid[], $9::uuid[], $10::int[], $11::text[], $12::text[], $13::bigint[],
        $14::int[], $15::int[], $16::text[], $17::float8[], $18::text[])
        AS f (id, media_id, index, key, media_type, bytes, width, height, sha256, seconds, poster_key)
    JOIN moved ON moved.id = f.media_id
), {note(MediaEvent.COMPLETED)}
{TOLD} FROM moved"""

PROGRESS: Final = f"""
UPDATE media m SET progress = asked.fraction, updated_at = now()
FROM unnest($1::uuid[], $2::bigint[], $3::float8[]) AS asked (id, fence, fraction)
WHERE m.id = asked.id AND {HELD}
RETURNING m.id, m.owner_id, false AS posted"""


# That it was not sent, or that nobody knows, is a verdict without knowledge of a purchase: if the purchase has been
# written down meanwhile, or the attempt's end, the verdict is refused. So the attempt is locked first.
def _end(event: MediaEvent, *changes: str, beside: str = "NULL::uuid") -> str:
    return f"""
WITH asked AS (
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::interval[],
        $8::interval[]) AS t (media_id, fence, attempt_id, attempt_status, sent, error, delay, look_after)
), seen AS MATERIALIZED (
    SELECT a.id FROM attempts a JOIN asked ON asked.attempt_id = a.id
    WHERE a.status IN ({OPEN}) AND {may_be_closed("asked.sent", "asked.error")} FOR UPDATE OF a
), moved AS (
    UPDATE media m SET {move(event, "error = asked.error::jsonb", *changes)}
    FROM asked WHERE m.id = asked.media_id AND {HELD}
        AND (asked.attempt_id IS NULL OR asked.attempt_id IN (SELECT id FROM seen))
    {MOVED}, asked.attempt_id, asked.attempt_status, asked.sent, asked.error::jsonb AS error, asked.look_after,
        {beside} AS beside
), attempted AS (
    UPDATE attempts a SET status = moved.attempt_status, finished_at = now(), sent = moved.sent, error = moved.error,
        look_at = now() + moved.look_after
    FROM moved WHERE a.id = moved.attempt_id
    RETURNING a.media_id
), taken_up AS (
    UPDATE attempts a SET status = '{AttemptStatus.SUBMITTED}', look_at = NULL, called_back = true
    FROM moved LEFT JOIN attempted ON attempted.media_id = moved.id WHERE a.id = moved.beside
), {note(event, detail="moved.error")}
{TOLD} FROM moved"""


# A purchase that became known beside the try goes on instead of another one. A media has one open attempt at most, so
# it is opened after the try is closed.
_BESIDE: Final = f"""(SELECT a.id FROM attempts a
    WHERE a.media_id = m.id AND a.reference IS NOT NULL AND a.status = '{AttemptStatus.UNKNOWN}' AND {SAME_PROVIDER}
    ORDER BY a.number DESC LIMIT 1)"""
RETRY: Final = _end(
    MediaEvent.RETRY_SCHEDULED,
    f"next_run = now() + CASE WHEN {_BESIDE} IS NULL THEN asked.delay ELSE interval '0' END",
    f"rank = CASE WHEN {_BESIDE} IS NULL THEN m.priority ELSE {RESUMED} END",
    "takeovers = 0",
    beside=_BESIDE,
)
FAIL: Final = _end(
    MediaEvent.FAILED,
    CANCEL_IN_VAIN.replace(
        SPENT_SO_FAR,
        f"""CASE asked.sent
    WHEN 'YES' THEN '{MoneySpent.YES}' WHEN 'UNKNOWN' THEN '{MoneySpent.MAYBE}'
    ELSE {SPENT_SO_FAR.replace("a.media_id = m.id", "a.media_id = m.id AND a.id <> asked.attempt_id")} END""",
    ),
)

# What was bought and not fetched yet goes on, also if nobody knew of it then; nobody looks after other tries.
_BOUGHT: Final = f"""(SELECT a.id FROM attempts a
    WHERE a.media_id = m.id AND a.reference IS NOT NULL AND a.status IN ({OPEN}, '{AttemptStatus.UNKNOWN}')
        AND {SAME_PROVIDER}
    ORDER BY a.status = '{AttemptStatus.UNKNOWN}', a.number DESC LIMIT 1)"""
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
        f"rank = CASE WHEN {_BOUGHT} IS NOT NULL THEN {RESUMED} ELSE {WAITING_RANK} END",
    )
}
    WHERE m.id = $1 AND m.owner_id = $2 AND {may(MediaEvent.RETRY_ASKED)}
    {MOVED}, m.queue, m.provider, {_BOUGHT} AS bought, {HAS_OPEN} AS has_open
), taken_back AS (
    UPDATE attempts a SET look_at = NULL, stop = false, looks = 0,
        status = CASE WHEN a.id = moved.bought AND NOT moved.has_open THEN '{AttemptStatus.SUBMITTED}' ELSE a.status END
    FROM moved WHERE a.media_id = moved.id AND (a.look_at IS NOT NULL OR a.id = moved.bought)
        AND {SAME_PROVIDER.replace("m.", "moved.")}
), {note(MediaEvent.RETRY_ASKED)}
{TOLD}, queue FROM moved"""


def _return(condition: str, *changes: str) -> str:
    moving = move(MediaEvent.RETURNED, f"rank = {WAITING_RANK}", *changes)
    return f"""
WITH moved AS (
    UPDATE media m SET {moving}
    WHERE {may(MediaEvent.RETURNED)} AND {condition}
    {MOVED}, m.queue
), {note(MediaEvent.RETURNED, detail="jsonb_build_object('reason', $1::text)")}
{TOLD}, queue FROM moved"""


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
        rank = CASE WHEN {_AGAIN} >= {SUSPECT_FROM} THEN {SUSPECT} ELSE {WAITING_RANK} END,
        next_run = CASE WHEN {_AGAIN} >= {SUSPECT_FROM}
            THEN now() + least({_AGAIN}, 30) * interval '1 second' ELSE m.next_run END
    FROM orphan o WHERE m.id = o.id AND {may(MediaEvent.RETURNED)}
        AND NOT EXISTS (SELECT FROM workers w WHERE w.id = m.worker_id)
    {MOVED}, m.queue
), {note(MediaEvent.RETURNED, detail="jsonb_build_object('reason', $1::text)")}
{TOLD}, queue FROM moved"""

# A worker that fails at it in a way that nobody foresaw: counted like a death, so that it comes to an end.
RETURN_BROKEN: Final = f"""
WITH moved AS (
    UPDATE media m SET {
    move(
        MediaEvent.RETURNED,
        "takeovers = m.takeovers + 1",
        "error = $3::jsonb",
        f"rank = CASE WHEN m.takeovers + 1 >= {SUSPECT_FROM} THEN {SUSPECT} ELSE {WAITING_RANK} END",
        "next_run = now() + least(m.takeovers + 1, 30) * interval '1 second'",
    )
}
    WHERE m.id = $1 AND m.fence = $2 AND {may(MediaEvent.RETURNED)}
    {MOVED}, m.queue
), {note(MediaEvent.RETURNED, detail="$3::jsonb")}
{TOLD}, queue FROM moved"""
