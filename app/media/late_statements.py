"""The SQL about attempts whose media is over: their provider is told to stop, their late result is still stored.

No worker owns such an attempt. Who looks after it moves `look_at` ahead, and if he dies the next one comes then.
"""

from typing import Final

from app.media.sql import names
from app.media.states import FINAL, OPEN_ATTEMPT, AttemptStatus, MediaEvent, MediaStatus

# ruff: noqa: S608 - the statements are put together from constants of `states.py`; values are always arguments

_OVER: Final = names(FINAL - {MediaStatus.COMPLETED})
_OPEN: Final = names(OPEN_ATTEMPT)

TAKE_LATE: Final = """
WITH due AS MATERIALIZED (
    SELECT id FROM attempts WHERE look_at <= now() ORDER BY look_at LIMIT $1 FOR UPDATE SKIP LOCKED
)
UPDATE attempts a SET look_at = now() + $2::interval FROM due, media m WHERE a.id = due.id AND m.id = a.media_id
RETURNING a.id AS attempt_id, a.number AS attempt_number, a.reference, a.created_at AS attempted_at, a.stop,
    now() - a.created_at AS attempt_age, now() - m.completed_at AS over_since,
    m.id, m.model, m.prompt, m.input, m.created_at"""

CLOSE: Final = f"""
UPDATE attempts a SET status = t.status, sent = t.sent, error = t.error::jsonb, cost = t.cost, finished_at = now(),
    look_at = NULL, stop = false
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::numeric[]) AS t (id, status, sent, error, cost)
WHERE a.id = t.id AND a.status IN ({names(OPEN_ATTEMPT | {AttemptStatus.UNKNOWN})})
RETURNING a.id"""

TOLD_TO_STOP: Final = "UPDATE attempts SET stop = false WHERE id = $1"

FORSAKE: Final = """UPDATE attempts SET look_at = NULL, stop = false,
    status = CASE WHEN status = 'INTENDED' THEN 'UNKNOWN' ELSE status END
WHERE id = $1 AND look_at IS NOT NULL"""

# Only as long as its media is still over: a retry has taken the attempt back by clearing `look_at`.
STORE_LATE: Final = f"""
WITH closed AS (
    UPDATE attempts a SET status = '{AttemptStatus.SUCCEEDED}', cost = $3, finished_at = now(), look_at = NULL,
        stop = false
    FROM media m WHERE a.id = $1 AND m.id = $2 AND a.status IN ({_OPEN}) AND a.look_at IS NOT NULL
        AND m.status IN ({_OVER})
    RETURNING m.id, m.status
), touched AS (
    UPDATE media m SET updated_at = now() FROM closed WHERE m.id = closed.id
), stored AS (
    INSERT INTO files (id, media_id, index, key, media_type, bytes, width, height, sha256)
    SELECT f.id, $2, f.index, f.key, f.media_type, f.bytes, f.width, f.height, f.sha256
    FROM closed, unnest($4::uuid[], $5::int[], $6::text[], $7::text[], $8::bigint[], $9::int[], $10::int[],
        $11::text[]) AS f (id, index, key, media_type, bytes, width, height, sha256)
), noted AS (
    INSERT INTO media_history (media_id, event, status) SELECT id, '{MediaEvent.LATE_STORED}', status FROM closed
)
SELECT id FROM closed"""
