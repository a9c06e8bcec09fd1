"""The claim: which media a worker takes next.

Media that wait in a queue fall into streams: one owner's media of one provider and rank, oldest first. The index
`ix_media_due` is sorted by them, so a claim hops from head to head and reads no more rows than it takes, however long
the queue is. Of the heads:

1. a media item with an open attempt (RESUMED) comes before everything else: money may be spent on it already;
2. then the highest priority; each `ageing` of waiting counts as one step more, so nothing starves;
3. inside a step owners take turns, beginning after the one served last (fairness);
4. providers whose circuit breaker is open, or that have as many in flight as they may, are passed over, and so are
   paused models: their media are SHELVED soon, in streams of their own, and until then they head no stream.

One claim takes from one step. It reads MOST_STREAMS heads; where there are more, the next claim continues at
`next_owner`, and the order holds among those that were read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from app.core.database.pool import DatabasePool
from app.jobs.sql import (
    AT_PROVIDER,
    HAS_OPEN_ATTEMPT,
    IS_SUSPECT,
    MODEL_IS_PAUSED,
    MOST_STREAMS,
    OPEN_STATUSES,
    RETURNING_MOVED,
    SAME_STREAM,
    may_happen,
    owner_streams,
    record_event,
    set_status,
)
from app.jobs.states import HIGHEST_PRIORITY, PAUSED_BY_OPERATOR, RESUMED, MediaEvent
from app.jobs.transitions.base import Changed, announce, retried, run
from app.media_generator.errors import CreditError, ModelGoneError, UnauthorizedError

# ruff: noqa: S608 - the statements are put together from constants; values are always arguments

_CLAIM_LOCK: Final = 0x666C65656B
"""The advisory lock of claims that have to count what other workers have in flight."""


@dataclass(frozen=True, slots=True)
class ClaimTerms:
    """On which terms a worker claims."""

    worker_id: UUID
    scan_from_owner: UUID
    """The owner at whom reading the queue begins."""
    last_served_owner: UUID
    """The owner whose job it took last: the others come first now."""
    ageing: timedelta
    """The wait that counts as one step of priority."""
    limits: Mapping[str, int]
    """Media in flight at most, by provider."""
    trial_pause: timedelta
    """The time between two trials of a provider whose circuit breaker is open."""


class ClaimedMedia(Changed, frozen=True):
    """A claimed media, and its open attempt if a worker before left one."""

    fence: int
    prompt: str
    model: str
    input: str
    """JSON text."""
    number_of_tries: int
    created_at: datetime
    on_unknown: str
    takeovers: int
    cancel_asked: bool
    trace: str | None
    route: str | None
    route_input: str | None
    """JSON text."""
    time_left: timedelta | None
    """Until its deadline."""
    attempt_id: UUID | None
    attempt_number: int | None
    reference: str | None
    """JSON text; None: no purchase is known."""
    attempt_age: timedelta | None
    attempted_at: datetime | None
    told_to_stop: bool | None
    purchased_as: str | None
    """The model of the open attempt, where a route may have moved the media on since."""
    uncounted: int
    """Attempts that do not count; see `JobTerms.uncounted`."""
    stored: bool
    """It has files already."""
    trial: bool
    """It may try a provider whose circuit breaker is open."""


class _ClaimRow(ClaimedMedia, frozen=True):
    """Where nothing can be claimed, one row comes whose columns of the media are null."""

    next_owner: UUID | None
    more: bool


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to a claim."""

    media: list[ClaimedMedia]
    next_owner: UUID | None
    """Where reading the queue continues; None: it was read to its end."""
    more: bool
    """Whether more can be claimed now."""


_TAKE: Final = f"""moved AS (
    UPDATE media m SET {set_status(MediaEvent.CLAIMED)}, worker_id = $2, fence = m.fence + 1,
        started_at = coalesce(m.started_at, now())
    FROM due, workers w WHERE m.id = due.id AND w.id = $2
    {RETURNING_MOVED}, m.fence, m.provider, m.rank, m.prompt, m.model, m.input, m.number_of_tries,
        m.created_at, m.deadline, m.on_unknown, m.takeovers, m.cancel_asked, m.trace,
        m.route, m.route_input
), {record_event(MediaEvent.CLAIMED, "$2")}"""

_UNCOUNTED: Final = ", ".join(f"'{error.code}'" for error in (UnauthorizedError, CreditError, ModelGoneError))
_JOB: Final = f"""moved.id, moved.owner_id, EXISTS (SELECT FROM posted) AS posted,
    moved.fence, moved.prompt, moved.model, moved.input, moved.number_of_tries, moved.created_at, moved.on_unknown,
    moved.takeovers, moved.cancel_asked, moved.trace, moved.route, moved.route_input,
    moved.deadline - now() AS time_left,
    a.id AS attempt_id, a.number AS attempt_number, a.reference, now() - a.created_at AS attempt_age,
    a.created_at AS attempted_at, a.told_to_stop, CASE WHEN moved.route IS NOT NULL THEN a.model END AS purchased_as,
    (SELECT count(*) FROM attempts s WHERE s.media_id = moved.id
        AND (s.error->>'code' IN ({_UNCOUNTED}) OR moved.route IS NOT NULL AND s.model <> moved.model))::int
        AS uncounted,
    EXISTS (SELECT FROM files f WHERE f.media_id = moved.id) AS stored"""
_OPEN: Final = f"LEFT JOIN attempts a ON a.media_id = moved.id AND a.status IN ({OPEN_STATUSES})"

CLAIM: Final = f"""
WITH RECURSIVE {owner_streams("AND m.owner_id >= $4")}, capacity AS (
    SELECT coalesce(l.provider, g.provider) AS provider, least(
        l.most - (SELECT count(*) FROM media m WHERE m.provider = l.provider AND ({AT_PROVIDER})),
        CASE WHEN g.trial_at <= now() THEN 1 WHEN g.trial_at > now() THEN 0 END
    ) AS free
    FROM unnest($7::text[], $8::int[]) AS l (provider, most) FULL JOIN provider_gates g ON g.provider = l.provider
), waiting AS (
    SELECT s.*, CASE WHEN s.rank >= {RESUMED} THEN {RESUMED} ELSE
        least({HIGHEST_PRIORITY}, s.rank + floor(extract(epoch FROM now() - s.next_run) / $6)) END AS step
    FROM stream s LEFT JOIN capacity c ON c.provider = s.provider
    WHERE s.next_run <= now() AND s.rank BETWEEN 0 AND {RESUMED} AND (s.rank >= {RESUMED} OR coalesce(c.free, 1) > 0)
), chosen AS (
    SELECT w.*, count(*) OVER () AS streams FROM waiting w WHERE w.step = (SELECT max(step) FROM waiting)
    ORDER BY row_number() OVER (PARTITION BY w.owner_id ORDER BY w.next_run), w.owner_id <= $5, w.owner_id LIMIT $3
), head AS MATERIALIZED (
    SELECT c.owner_id, c.provider, c.rank, oldest.* FROM chosen c CROSS JOIN LATERAL (
        SELECT m.id, m.next_run FROM media m
        WHERE {may_happen(MediaEvent.CLAIMED)} AND m.queue = $1 AND {SAME_STREAM}
            AND m.next_run <= now() - greatest(0, c.step - c.rank) * make_interval(secs => $6)
            AND (m.deadline IS NULL OR m.deadline > now()) AND NOT ({MODEL_IS_PAUSED})
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
    SELECT n.id, n.turn FROM numbered n LEFT JOIN capacity c ON c.provider = n.provider
    LEFT JOIN provider_gates g ON g.provider = n.provider LEFT JOIN trial t ON t.provider = n.provider
    WHERE n.rank >= {RESUMED}
        OR ((c.free IS NULL OR n.place <= c.free) AND (g.provider IS NULL OR t.provider IS NOT NULL))
    ORDER BY n.turn, n.owner_id <= $5, n.owner_id LIMIT $3
), {_TAKE}, rest AS (
    SELECT (SELECT owner_id FROM stream WHERE number = {MOST_STREAMS}) AS next_owner,
        (SELECT count(*) FROM due) = $3 OR (SELECT count(*) FROM waiting) > (SELECT count(*) FROM chosen) AS more
)
SELECT rest.next_owner, rest.more, {_JOB}, t.provider IS NOT NULL AND moved.rank < {RESUMED} AS trial
FROM rest LEFT JOIN moved ON true LEFT JOIN due ON due.id = moved.id LEFT JOIN trial t ON t.provider = moved.provider
{_OPEN} ORDER BY due.turn, moved.owner_id <= $5, moved.owner_id"""

# Circuit breakers and pauses apply to first submissions only.
_MAY_BE_SUBMITTED: Final = f"""NOT EXISTS (SELECT FROM paused_models p WHERE p.model = m.model)
    AND NOT EXISTS (SELECT FROM provider_gates g WHERE g.provider = m.provider AND g.code = '{PAUSED_BY_OPERATOR}')"""
_CLAIM_SUSPECTS: Final = f"""
WITH due AS MATERIALIZED (
    SELECT m.id FROM media m
    WHERE {IS_SUSPECT} AND m.queue = $1 AND m.takeovers < $4 AND m.next_run <= now()
        AND (m.deadline IS NULL OR m.deadline > now()) AND ({HAS_OPEN_ATTEMPT} OR {_MAY_BE_SUBMITTED})
    ORDER BY m.takeovers, m.next_run LIMIT $3 FOR UPDATE SKIP LOCKED
), {_TAKE}
SELECT {_JOB}, false AS trial FROM moved {_OPEN}"""


async def claim(db: DatabasePool, queue: str, terms: ClaimTerms, *, limit: int) -> Claim:
    """Take up to `limit` due media of `queue` for one worker; of many workers each media goes to one.

    A worker whose row is gone gets none.
    """
    values = (
        *(queue, terms.worker_id, limit, terms.scan_from_owner, terms.last_served_owner, terms.ageing.total_seconds()),
        *(list(terms.limits), list(terms.limits.values()), terms.trial_pause),
    )
    if terms.limits:
        rows = await db.fetch_in_turn_as(_ClaimRow, _CLAIM_LOCK, CLAIM, *values)
    else:
        rows = await retried(db, _ClaimRow, CLAIM, *values)
    claimed: list[ClaimedMedia] = [row for row in rows if row.id]
    announce(db, claimed)
    return Claim(claimed, rows[0].next_owner, rows[0].more)


async def claim_suspects(
    db: DatabasePool, queue: str, *, worker_id: UUID, limit: int, below: int
) -> list[ClaimedMedia]:
    """Take up to `limit` poison suspects, with fewer takeovers than `below`."""
    return await run(db, ClaimedMedia, _CLAIM_SUSPECTS, queue, worker_id, limit, below)
