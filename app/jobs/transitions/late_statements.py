"""The SQL about attempts whose media is over: their provider is told to stop, their late result is still stored.

No worker owns such an attempt. Who looks after it moves `look_at` ahead, and if he dies the next one comes then.
"""

from typing import Final

from app.jobs.sql import BILL, OVER, billed, may_be_closed, names
from app.jobs.states import OPEN_ATTEMPT, SUSPECT_FROM, AttemptStatus, MediaEvent

# ruff: noqa: S608 - the statements are put together from constants of `states.py`; values are always arguments

_OVER: Final = names(OVER)
_OPEN: Final = names(OPEN_ATTEMPT)
_UNSETTLED: Final = names(OPEN_ATTEMPT | {AttemptStatus.UNKNOWN})

# A look that does not come to its end may have killed its worker: the next one waits longer.
TAKE_LATE: Final = f"""
WITH due AS MATERIALIZED (
    SELECT a.id FROM attempts a JOIN media m ON m.id = a.media_id
    WHERE a.look_at <= now() AND m.status IN ({_OVER}) AND NOT a.id = ANY($3::uuid[])
    ORDER BY a.look_at LIMIT $1 FOR UPDATE OF a SKIP LOCKED
)
UPDATE attempts a SET looks = a.looks + 1, look_at = now() + $2::interval * power(4, least(a.looks, 4))
FROM due, media m WHERE a.id = due.id AND m.id = a.media_id
RETURNING a.id AS attempt_id, a.number AS attempt_number, a.reference, a.created_at AS attempted_at, a.stop,
    a.told_to_stop, a.looks, now() - a.created_at AS attempt_age, now() - m.completed_at AS over_since,
    m.id, CASE WHEN m.route IS NULL THEN m.model ELSE a.model END AS model, m.prompt, m.input, m.created_at,
    m.takeovers,
    EXISTS (SELECT FROM files f WHERE f.media_id = m.id) AS stored"""

LOOKED: Final = "UPDATE attempts SET looks = 0 WHERE id = $1 AND looks > 0"

# A verdict that it was not sent closes no attempt of which a purchase is known.
CLOSE: Final = f"""
UPDATE attempts a SET status = t.status, sent = t.sent, error = t.error::jsonb, {billed("t")}, finished_at = now(),
    look_at = NULL, stop = false
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::numeric[], $6::text[], $7::text[], $8::text[])
    AS t (id, status, sent, error, {BILL})
WHERE a.id = t.id AND a.status IN ({_UNSETTLED}) AND {may_be_closed("t.sent", "t.error")}
RETURNING a.id"""

TOLD_TO_STOP: Final = "UPDATE attempts SET stop = false, told_to_stop = true WHERE id = $1"

FORSAKE: Final = f"""UPDATE attempts SET look_at = NULL, stop = false,
    status = CASE WHEN status = '{AttemptStatus.INTENDED}' THEN '{AttemptStatus.UNKNOWN}' ELSE status END
WHERE id = $1 AND look_at IS NOT NULL AND (reference IS NOT NULL) = $2"""

# An intent that was committed in the very moment in which its media ended.
ADOPT: Final = f"""
UPDATE attempts a SET look_at = now(), stop = true FROM media m
WHERE m.id = a.media_id AND a.status IN ({_OPEN}) AND a.look_at IS NULL AND a.looks = 0 AND m.status IN ({_OVER})
    AND m.takeovers < {SUSPECT_FROM} AND m.completed_at > now() - interval '5 minutes'
RETURNING a.id"""

# Only as long as its media is still over: a retry has taken the attempt back by clearing `look_at`. The media is
# locked first, as a retry does.
STORE_LATE: Final = f"""
WITH over AS MATERIALIZED (
    SELECT m.id, m.owner_id, m.status, b.*
    FROM media m, (VALUES ($3::numeric, $4::text, $5::text, $6::text)) b ({BILL})
    WHERE m.id = $2 AND m.status IN ({_OVER}) FOR UPDATE OF m
), closed AS (
    UPDATE attempts a SET status = '{AttemptStatus.SUCCEEDED}', {billed("over")},
        finished_at = now(), look_at = NULL, stop = false
    FROM over WHERE a.id = $1 AND a.status IN ({_UNSETTLED}) AND a.look_at IS NOT NULL
        AND NOT EXISTS (SELECT FROM files f WHERE f.media_id = $2)
    RETURNING over.id, over.owner_id, over.status
), touched AS (
    UPDATE media m SET updated_at = now() FROM closed WHERE m.id = closed.id
), stored AS (
    INSERT INTO files (id, media_id, index, key, media_type, bytes, width, height, sha256, seconds, poster_key)
    SELECT f.id, $2, f.index, f.key, f.media_type, f.bytes, f.width, f.height, f.sha256, f.seconds, f.poster_key
    FROM closed, unnest($7::uuid[], $8::int[], $9::text[], $10::text[], $11::bigint[], $12::int[], $13::int[],
        $14::text[], $15::float8[], $16::text[])
        AS f (id, index, key, media_type, bytes, width, height, sha256, seconds, poster_key)
), noted AS (
    INSERT INTO media_history (media_id, owner_id, event, status)
    SELECT id, owner_id, '{MediaEvent.LATE_STORED}', status FROM closed
)
SELECT id, owner_id, false AS posted FROM closed"""
