"""The SQL that sends a media on to the next target of its route. Run by `transitions.py`.

Nothing may have been bought for it: no attempt is open, and each one that there was provably cost nothing. A media goes
forwards only, so it comes to an end.
"""

from typing import Final

from app.jobs.sql import HAS_OPEN, HELD, MOVED, OPEN, TOLD, may_be_closed, move, note
from app.jobs.states import HIGHEST_PRIORITY, SHELVED, AttemptStatus, MediaEvent, MediaStatus
from app.media_generator.errors import Sent

# ruff: noqa: S608 - the statements are put together from constants of `states.py`; values are always arguments

_ASKED: Final = """asked AS (
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[],
        $8::text[], $9::smallint[], $10::text[])
        AS t (media_id, fence, attempt_id, was, model, provider, queue, input, step, error)
)"""
_FREE: Final = f"""m.model = asked.was AND m.route IS NOT NULL AND m.route_step < asked.step
    AND NOT EXISTS (SELECT FROM attempts a WHERE a.media_id = m.id AND a.id IS DISTINCT FROM asked.attempt_id
        AND a.sent IS DISTINCT FROM '{Sent.NO}')"""
_CHANGES: Final = move(
    MediaEvent.REROUTED,
    "model = asked.model",
    "provider = asked.provider",
    "queue = asked.queue",
    "input = asked.input::jsonb",
    "route_step = asked.step",
    "next_run = now()",
    "rank = m.priority",
    "takeovers = 0",
    "progress = NULL",
)
_NOTED: Final = note(
    MediaEvent.REROUTED, detail="error || jsonb_build_object('was', was, 'model', model, 'route', route)"
)
_ANSWER: Final = f"{MOVED}, asked.attempt_id, asked.error::jsonb AS error, asked.was, m.model, m.route"

# As where a try fails: the attempt is locked first, and one of which a purchase is known refuses.
REROUTE_HELD: Final = f"""
WITH {_ASKED}, seen AS MATERIALIZED (
    SELECT a.id FROM attempts a JOIN asked ON asked.attempt_id = a.id
    WHERE a.status IN ({OPEN}) AND {may_be_closed("'NO'", "asked.error")} FOR UPDATE OF a
), moved AS (
    UPDATE media m SET {_CHANGES}, error = asked.error::jsonb
    FROM asked WHERE m.id = asked.media_id AND {HELD} AND {_FREE}
        AND (asked.attempt_id IS NULL OR asked.attempt_id IN (SELECT id FROM seen))
    {_ANSWER}
), attempted AS (
    UPDATE attempts a SET status = '{AttemptStatus.FAILED}', finished_at = now(), sent = '{Sent.NO}',
        error = moved.error
    FROM moved WHERE a.id = moved.attempt_id
), {_NOTED}
{TOLD} FROM moved"""

REROUTE_WAITING: Final = f"""
WITH {_ASKED}, moved AS (
    UPDATE media m SET {_CHANGES}
    FROM asked WHERE m.id = asked.media_id AND m.fence = asked.fence AND m.status = '{MediaStatus.IN_QUEUE}'
        AND m.rank BETWEEN {SHELVED} AND {HIGHEST_PRIORITY} AND NOT {HAS_OPEN} AND {_FREE}
    {_ANSWER}
), {_NOTED}
{TOLD} FROM moved"""
