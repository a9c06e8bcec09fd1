"""The SQL of the claim: who is next.

What waits in a queue falls into streams: one owner's media of one provider and rank, oldest first. The index
`ix_media_due` is sorted by them, so a claim hops from head to head and reads no more rows than it takes,
however long the queue is. Of the heads:

1. a media with an open attempt (RESUMED) comes before everything else: money may be spent on it already;
2. then the highest priority; each `ageing` of waiting counts as one step more, so nothing starves;
3. inside a step owners take turns, beginning after the one served last;
4. providers that are closed, or have as many in flight as they may, are passed over, and so are paused models:
   their media are SHELVED soon, in streams of their own, and until then no head of a stream.

One claim takes from one step. A look along the queue sees MOST_STREAMS heads; where there are more, the next
claim goes on at `next_owner`, and the order holds among those that were seen.
"""

from typing import Final

from app.jobs.sql import (
    AT_PROVIDER,
    HAS_OPEN,
    MOST_STREAMS,
    MOVED,
    PAUSED,
    SAME_STREAM,
    SUSPECTED,
    may,
    move,
    names,
    note,
    streams,
)
from app.jobs.states import HIGHEST_PRIORITY, OPEN_ATTEMPT, PAUSED_BY_OPERATOR, RESUMED, MediaEvent
from app.media_generator.errors import CreditError, ModelGoneError, UnauthorizedError

# ruff: noqa: S608 - the statements are put together from constants; values are always arguments

_TAKE: Final = f"""moved AS (
    UPDATE media m SET {move(MediaEvent.CLAIMED)}, worker_id = $2, fence = m.fence + 1,
        started_at = coalesce(m.started_at, now())
    FROM due, workers w WHERE m.id = due.id AND w.id = $2
    {MOVED}, m.fence, m.provider, m.rank, m.prompt, m.model, m.input, m.number_of_tries,
        m.created_at, m.deadline, m.on_unknown, m.takeovers, m.cancel_asked, m.trace,
        m.route, m.route_input
), {note(MediaEvent.CLAIMED, "$2")}"""

_POSTED: Final = "EXISTS (SELECT FROM posted) AS posted"
_SPARED: Final = ", ".join(f"'{error.code}'" for error in (UnauthorizedError, CreditError, ModelGoneError))
_JOB: Final = f"""moved.*, moved.deadline - now() AS time_left,
    a.id AS attempt_id, a.number AS attempt_number, a.reference, now() - a.created_at AS attempt_age,
    a.created_at AS attempted_at, a.told_to_stop, CASE WHEN moved.route IS NOT NULL THEN a.model END AS bought_as,
    (SELECT count(*) FROM attempts s WHERE s.media_id = moved.id
        AND (s.error->>'code' IN ({_SPARED}) OR moved.route IS NOT NULL AND s.model <> moved.model))::int AS spared,
    EXISTS (SELECT FROM files f WHERE f.media_id = moved.id) AS stored"""
_OPEN: Final = f"LEFT JOIN attempts a ON a.media_id = moved.id AND a.status IN ({names(OPEN_ATTEMPT)})"

CLAIM: Final = f"""
WITH RECURSIVE {streams("AND m.owner_id >= $4")}, room AS (
    SELECT coalesce(l.provider, g.provider) AS provider, least(
        l.most - (SELECT count(*) FROM media m WHERE m.provider = l.provider AND ({AT_PROVIDER})),
        CASE WHEN g.trial_at <= now() THEN 1 WHEN g.trial_at > now() THEN 0 END
    ) AS places
    FROM unnest($7::text[], $8::int[]) AS l (provider, most) FULL JOIN provider_gates g ON g.provider = l.provider
), waiting AS (
    SELECT s.*, CASE WHEN s.rank >= {RESUMED} THEN {RESUMED} ELSE
        least({HIGHEST_PRIORITY}, s.rank + floor(extract(epoch FROM now() - s.next_run) / $6)) END AS step
    FROM stream s LEFT JOIN room r ON r.provider = s.provider
    WHERE s.next_run <= now() AND s.rank BETWEEN 0 AND {RESUMED} AND (s.rank >= {RESUMED} OR coalesce(r.places, 1) > 0)
), chosen AS (
    SELECT w.*, count(*) OVER () AS streams FROM waiting w WHERE w.step = (SELECT max(step) FROM waiting)
    ORDER BY row_number() OVER (PARTITION BY w.owner_id ORDER BY w.next_run), w.owner_id <= $5, w.owner_id LIMIT $3
), head AS MATERIALIZED (
    SELECT c.owner_id, c.provider, c.rank, oldest.* FROM chosen c CROSS JOIN LATERAL (
        SELECT m.id, m.next_run FROM media m
        WHERE {may(MediaEvent.CLAIMED)} AND m.queue = $1 AND {SAME_STREAM}
            AND m.next_run <= now() - greatest(0, c.step - c.rank) * make_interval(secs => $6)
            AND (m.deadline IS NULL OR m.deadline > now()) AND NOT ({PAUSED})
        ORDER BY m.next_run, m.id LIMIT ceil($3 / c.streams::numeric)::int FOR UPDATE SKIP LOCKED
    ) oldest
), in_turn AS (
    SELECT head.*, row_number() OVER (PARTITION BY owner_id ORDER BY next_run, id) AS turn FROM head
), numbered AS (
    SELECT i.*, row_number() OVER (PARTITION BY provider, rank >= {RESUMED} ORDER BY turn, next_run, id) AS place
    FROM in_turn i
), trial AS (
    UPDATE provider_gates g SET trial_at = now() + $9::interval
    WHERE g.trial_at <= now() AND g.provider IN (SELECT provider FROM numbered WHERE rank < {RESUMED})
    RETURNING g.provider
), due AS MATERIALIZED (
    SELECT n.id, n.turn FROM numbered n LEFT JOIN room r ON r.provider = n.provider
    LEFT JOIN provider_gates g ON g.provider = n.provider LEFT JOIN trial t ON t.provider = n.provider
    WHERE n.rank >= {RESUMED}
        OR ((r.places IS NULL OR n.place <= r.places) AND (g.provider IS NULL OR t.provider IS NOT NULL))
    ORDER BY n.turn, n.owner_id <= $5, n.owner_id LIMIT $3
), {_TAKE}, line AS (
    SELECT (SELECT owner_id FROM stream WHERE number = {MOST_STREAMS}) AS next_owner,
        (SELECT count(*) FROM due) = $3 OR (SELECT count(*) FROM waiting) > (SELECT count(*) FROM chosen) AS more
)
SELECT line.*, due.turn, {_JOB}, {_POSTED}, t.provider IS NOT NULL AND moved.rank < {RESUMED} AS trial
FROM line LEFT JOIN moved ON true LEFT JOIN due ON due.id = moved.id LEFT JOIN trial t ON t.provider = moved.provider
{_OPEN} ORDER BY due.turn, moved.owner_id <= $5, moved.owner_id"""

# Gates and pauses are for what is bought anew.
_MAY_BE_BOUGHT: Final = f"""NOT EXISTS (SELECT FROM paused_models p WHERE p.model = m.model)
    AND NOT EXISTS (SELECT FROM provider_gates g WHERE g.provider = m.provider AND g.code = '{PAUSED_BY_OPERATOR}')"""
CLAIM_SUSPECTS: Final = f"""
WITH due AS MATERIALIZED (
    SELECT m.id FROM media m
    WHERE {SUSPECTED} AND m.queue = $1 AND m.takeovers < $4 AND m.next_run <= now()
        AND (m.deadline IS NULL OR m.deadline > now()) AND ({HAS_OPEN} OR {_MAY_BE_BOUGHT})
    ORDER BY m.takeovers, m.next_run LIMIT $3 FOR UPDATE SKIP LOCKED
), {_TAKE}
SELECT {_JOB}, {_POSTED}, false AS trial FROM moved {_OPEN}"""
