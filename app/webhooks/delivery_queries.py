"""The SQL of sending: which deliveries are next, and what came of a try.

What is pending falls into receivers, each with deliveries sorted by `next_at`. A walk hops from receiver to receiver
along the index and takes from each no more than it has room for, so one that is slow, or has a long backlog, holds up
nobody else. A glance does the same for the receivers of what became due last: it finds new events at once, however
many receivers wait for their next try.

Who takes a delivery moves its `next_at` LEASE ahead; if he dies, another one takes it then. So every event arrives at
least once, and a double has the same id.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg

from app.core.database.pool import DatabasePool
from app.core.database.rows import Row
from app.webhooks.event_types import TEST_TYPE
from app.webhooks.states import DeliveryStatus, EndpointKind, EndpointStatus

# ruff: noqa: S608 - the statements are put together from constants; values are always arguments

LEASE: Final = timedelta(seconds=45)
"""Longer than any try takes."""
PATIENCE: Final = timedelta(days=3)
"""How long a delivery is tried, and an endpoint may fail without a break until it is paused."""
OUTAGE: Final = timedelta(minutes=1)
"""A receiver that comes back after so long gets at once what it has missed."""
MOST_RECEIVERS: Final = 1_000
"""Receivers that one look sees; the next look goes on behind them."""
GLANCED: Final = 200
"""Deliveries that became due last, at which a glance looks."""
MOST_DEADLOCKS: Final = 3
"""Times that a statement is repeated because another worker's was in its way."""
_RELEASED: Final = 500
_FORGOTTEN: Final = 1_000

_NOW_IS: Final = "coalesce(h.status, asked.endpoint_status)"
_GIVEN_UP: Final = f"""(asked.held AND (asked.gone OR {_NOW_IS} = '{EndpointStatus.DISABLED}'
        OR (d.give_up_at <= now() AND {_NOW_IS} <> '{EndpointStatus.PAUSED}')))"""
"""What a paused endpoint has missed is kept for when its owner resumes it."""
_PENDING: Final = f"d.status = '{DeliveryStatus.PENDING}'"

_OPEN: Final = f"""SELECT DISTINCT ON (r.receiver) r.receiver, least(coalesce(l.places, $4), $4) AS places
    FROM seen r JOIN webhook_endpoints e ON e.id = r.endpoint_id
    LEFT JOIN unnest($2::text[], $3::int[]) AS l (receiver, places) ON l.receiver = r.receiver
    WHERE r.next_at <= now() AND (r.receiver LIKE '%:test'
        OR (e.status = '{EndpointStatus.ACTIVE}' AND (e.not_before IS NULL OR e.not_before <= now())))"""
"""Of the receivers that a look has seen, those that may get something, and how much."""

# Everybody's first before anybody's second.
_TAKEN: Final = f"""
), room AS ({_OPEN}), head AS MATERIALIZED (
    SELECT first.* FROM room CROSS JOIN LATERAL (
        SELECT d.id, d.next_at, d.receiver FROM webhook_deliveries d
        WHERE {_PENDING} AND d.receiver = room.receiver AND d.next_at <= now()
        ORDER BY d.next_at, d.id LIMIT room.places FOR UPDATE SKIP LOCKED
    ) first
), due AS (
    SELECT h.id FROM (SELECT head.*, row_number() OVER (PARTITION BY receiver ORDER BY next_at, id) AS turn FROM head) h
    ORDER BY h.turn, h.next_at LIMIT $5
), taken AS (
    UPDATE webhook_deliveries d SET tries = d.tries + 1, sending = true, next_at = now() + $6::interval
    FROM due WHERE d.id = due.id
    RETURNING d.*
)
SELECT t.id, t.tries AS number, t.endpoint_id, t.receiver, coalesce(t.url, e.url) AS url, t.type, t.media_id,
    t.sequence, t.at, t.payload, now() - (t.give_up_at - $7::interval) AS tried_for,
    coalesce(now() - e.failing_since, interval '0') AS failing_for,
    e.secret, CASE WHEN e.previous_until > now() THEN e.previous_secret END AS previous_secret,
    line.next_receiver, t.id IS NOT NULL AS exists
FROM line LEFT JOIN taken t ON true LEFT JOIN webhook_endpoints e ON e.id = t.endpoint_id"""

_WALK: Final = f"""
WITH RECURSIVE seen AS (
    (SELECT d.receiver, d.next_at, d.endpoint_id, 1 AS number FROM webhook_deliveries d
    WHERE {_PENDING} AND d.receiver > $1 ORDER BY d.receiver, d.next_at LIMIT 1)
    UNION ALL
    SELECT following.*, s.number + 1 FROM seen s CROSS JOIN LATERAL (
        SELECT d.receiver, d.next_at, d.endpoint_id FROM webhook_deliveries d
        WHERE {_PENDING} AND d.receiver > s.receiver ORDER BY d.receiver, d.next_at LIMIT 1
    ) following WHERE s.number < {MOST_RECEIVERS}
), line AS (
    SELECT (SELECT receiver FROM seen WHERE number = {MOST_RECEIVERS}) AS next_receiver
{_TAKEN}"""

_GLANCE: Final = f"""
WITH seen AS (
    SELECT d.receiver, d.next_at, d.endpoint_id FROM webhook_deliveries d
    WHERE {_PENDING} AND d.next_at <= now() ORDER BY d.next_at DESC LIMIT {GLANCED}
), line AS (
    SELECT $1::text AS next_receiver
{_TAKEN}"""

# A success is a fact, whoever sends it by now. A failure counts only for who still has the delivery.
_RECORD: Final = f"""
WITH asked AS (
    SELECT a.id, a.number, a.delivered, a.gone AND (e.url IS NULL OR e.url = a.url) AS gone, a.pause, a.quiet,
        a.payload, a.url, a.at, a.milliseconds, a.status_code, a.error, a.answer, d.endpoint_id,
        d.tries = a.number AS held, e.status AS endpoint_status,
        e.kind = '{EndpointKind.REGISTERED}' AND e.url = a.url AND d.type <> '{TEST_TYPE}' AS telling
    FROM unnest($1::uuid[], $2::int[], $3::bool[], $4::bool[],
        $5::interval[], $6::interval[], $7::text[], $8::text[], $9::timestamptz[], $10::int[], $11::int[], $12::text[],
        $13::text[]) AS a (id, number, delivered, gone, pause, quiet, payload, url, at, milliseconds, status_code,
        error, answer)
    JOIN webhook_deliveries d ON d.id = a.id JOIN webhook_endpoints e ON e.id = d.endpoint_id FOR KEY SHARE OF d
), health AS (
    UPDATE webhook_endpoints e SET updated_at = now(),
        failing_since = CASE WHEN a.delivered THEN NULL ELSE coalesce(e.failing_since, now()) END,
        not_before = CASE WHEN a.quiet IS NOT NULL THEN now() + a.quiet ELSE e.not_before END,
        status = CASE WHEN a.gone THEN '{EndpointStatus.DISABLED}'
            WHEN NOT a.delivered AND e.failing_since <= now() - $14::interval AND e.status = '{EndpointStatus.ACTIVE}'
            THEN '{EndpointStatus.PAUSED}' ELSE e.status END,
        reason = CASE WHEN a.gone THEN jsonb_build_object('code', 'gone', 'message', a.error)
            WHEN NOT a.delivered AND e.failing_since <= now() - $14::interval AND e.status = '{EndpointStatus.ACTIVE}'
            THEN jsonb_build_object('code', 'failing', 'message', a.error) ELSE e.reason END
    FROM (
        SELECT endpoint_id, bool_or(delivered) AS delivered, bool_or(gone) AS gone, max(quiet) AS quiet,
            max(error) AS error
        FROM asked WHERE telling GROUP BY endpoint_id
    ) a
    WHERE e.id = a.endpoint_id AND (
        a.gone OR a.quiet IS NOT NULL OR (a.delivered AND e.failing_since IS NOT NULL)
        OR (NOT a.delivered AND (e.failing_since IS NULL OR e.failing_since <= now() - $14::interval)))
    RETURNING e.id, e.status
), tried AS (
    INSERT INTO webhook_tries (delivery_id, number, url, at, milliseconds, status_code, error, answer)
    SELECT id, number, url, at, milliseconds, status_code, error, answer FROM asked
)
UPDATE webhook_deliveries d SET sending = NOT asked.held AND d.sending AND NOT asked.delivered,
    payload = coalesce(d.payload, asked.payload),
    status = CASE WHEN asked.delivered THEN '{DeliveryStatus.DELIVERED}'
        WHEN {_GIVEN_UP} THEN '{DeliveryStatus.FAILED}' ELSE d.status END,
    finished_at = CASE WHEN asked.delivered OR {_GIVEN_UP} THEN now() END,
    next_at = CASE WHEN asked.held THEN now() + asked.pause ELSE d.next_at END
FROM asked LEFT JOIN health h ON h.id = asked.endpoint_id
WHERE d.id = asked.id AND {_PENDING}"""

_FAIL_DISABLED: Final = f"""
UPDATE webhook_deliveries d SET status = '{DeliveryStatus.FAILED}', finished_at = now() FROM (
    SELECT p.id FROM webhook_endpoints e CROSS JOIN LATERAL (
        SELECT d.id FROM webhook_deliveries d
        WHERE {_PENDING} AND d.receiver = e.id::text AND NOT d.sending LIMIT {_RELEASED} FOR UPDATE SKIP LOCKED
    ) p WHERE e.status = '{EndpointStatus.DISABLED}') lost
WHERE d.id = lost.id
RETURNING d.id"""

_RELEASE: Final = f"""
WITH missed AS (
    SELECT d.id FROM webhook_deliveries d
    WHERE {_PENDING} AND d.receiver = $1 AND NOT d.sending AND d.next_at > now()
    ORDER BY d.next_at LIMIT {_RELEASED} FOR UPDATE SKIP LOCKED
)
UPDATE webhook_deliveries d SET next_at = now() FROM missed WHERE d.id = missed.id
RETURNING d.id"""

_GIVE_BACK: Final = f"""
UPDATE webhook_deliveries d SET sending = false, next_at = now(), tries = d.tries - CASE WHEN $3 THEN 0 ELSE 1 END
FROM unnest($1::uuid[], $2::int[]) AS a (id, number)
WHERE d.id = a.id AND d.tries = a.number AND {_PENDING}"""

_FORGET: Final = f"""
DELETE FROM webhook_deliveries WHERE id IN (
    SELECT old.id FROM webhook_endpoints e CROSS JOIN LATERAL (
        SELECT d.id FROM webhook_deliveries d WHERE d.endpoint_id = e.id AND d.created_at < now() - $1::interval
            AND d.status <> '{DeliveryStatus.PENDING}'
        ORDER BY d.created_at LIMIT {_FORGOTTEN}) old)
RETURNING id"""


class ClaimedDelivery(Row, frozen=True):
    """A delivery that this worker sends."""

    id: UUID
    number: int
    """Of this attempt; 1 for the first."""
    endpoint_id: UUID
    receiver: str
    url: str
    type: str
    media_id: UUID
    sequence: int
    at: datetime
    payload: str | None
    """None: it was never sent."""
    tried_for: timedelta
    """Since it was first due."""
    failing_for: timedelta
    """For how long its endpoint has been failing."""
    secret: str
    previous_secret: str | None
    """None: only one secret signs."""

    def __repr__(self) -> str:
        """Without secrets."""
        return f"ClaimedDelivery({self.id}, number={self.number})"

    @property
    def secrets(self) -> tuple[str, ...]:
        """Those that sign."""
        return (self.secret,) if self.previous_secret is None else (self.secret, self.previous_secret)


class _ClaimRow(ClaimedDelivery, frozen=True):
    next_receiver: str | None
    exists: bool
    """False: nothing was claimed, and every column of a delivery is null."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What one statement has claimed."""

    deliveries: Sequence[ClaimedDelivery]
    next_receiver: str | None
    """Where the next walk begins; None: at the beginning."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one try."""

    delivery_id: UUID
    number: int
    """Of the try."""
    url: str
    at: datetime
    milliseconds: int
    status_code: int | None
    """None: there was no answer."""
    error: str | None
    """Why it counts as a failure; None: delivered."""
    answer: str
    payload: str | None
    """What was sent; None: it could not be made."""
    pause: timedelta
    """Until the next try, if there is one."""
    quiet: timedelta | None
    """How long the receiver wants to be left alone; None: it did not say."""
    gone: bool
    """The receiver wants nothing more, ever."""

    @property
    def word(self) -> str:
        """For counting: `ok`, the class of another answer, or `unanswered`."""
        if self.error is None:
            return "ok"
        return "unanswered" if self.status_code is None else f"{self.status_code // 100}xx"


async def take(db: DatabasePool, *, after: str | None, room: Mapping[str, int], per_receiver: int, limit: int) -> Claim:
    """Take up to `limit` deliveries that are due.

    Args:
        db: The database.
        after: Where a walk along the receivers begins: `next_receiver` of the one before, or empty. None: a glance.
        room: What receivers may get now, of those that may not get `per_receiver`.
        per_receiver: Deliveries that one receiver gets at the same time.
        limit: Over all receivers.
    """
    statement = _GLANCE if after is None else _WALK
    values = (after, list(room), list(room.values()), per_receiver, limit, LEASE, PATIENCE)
    rows = await db.fetch_as(_ClaimRow, statement, *values)
    return Claim([row for row in rows if row.exists], rows[0].next_receiver)


async def record(db: DatabasePool, outcomes: Sequence[Outcome]) -> list[None]:
    """Write down what came of tries: the log, the deliveries, the health of their endpoints."""
    values = (
        [o.delivery_id for o in outcomes],
        [o.number for o in outcomes],
        [o.error is None for o in outcomes],
        [o.gone for o in outcomes],
        [o.pause for o in outcomes],
        [o.quiet for o in outcomes],
        [o.payload for o in outcomes],
        [o.url for o in outcomes],
        [o.at for o in outcomes],
        [o.milliseconds for o in outcomes],
        [o.status_code for o in outcomes],
        [o.error for o in outcomes],
        [o.answer for o in outcomes],
        PATIENCE,
    )
    for _ in range(MOST_DEADLOCKS):
        with contextlib.suppress(asyncpg.TransactionRollbackError):
            await db.execute(_RECORD, *values)
            return [None] * len(outcomes)
    await db.execute(_RECORD, *values)
    return [None] * len(outcomes)


async def fail_disabled(db: DatabasePool) -> None:
    """Give up what waits for endpoints that hear of nothing any more."""
    while await db.fetch(_FAIL_DISABLED):
        pass


async def release(db: DatabasePool, receiver: str) -> bool:
    """A receiver is back: what it has missed is due now. True: there is more of it."""
    return len(await db.fetch(_RELEASE, receiver)) == _RELEASED


async def give_back(db: DatabasePool, tries: Sequence[tuple[UUID, int]], *, tried: bool) -> None:
    """Let others send what this process has taken and does not finish.

    Args:
        db: The database.
        tries: Each by the delivery's id and the number of the try.
        tried: Whether the receiver may have got it; what was not begun does not count.
    """
    numbers = [number for _, number in tries]
    await db.execute(_GIVE_BACK, [delivery_id for delivery_id, _ in tries], numbers, tried)


async def forget(db: DatabasePool, lifetime: timedelta) -> None:
    """Remove deliveries that are over and older than this, with their log."""
    while len(await db.fetch(_FORGET, lifetime)) >= _FORGOTTEN:
        pass


def test_receiver(endpoint_id: UUID) -> str:
    """The receiver of test events: apart from the others, so that a paused endpoint and a backlog let them pass."""
    return f"{endpoint_id}:test"
