"""The SQL of sending: which deliveries are next, and the outcome of an attempt.

Pending deliveries are indexed by receiver, then by `next_at`. A scan skips from receiver to receiver along the index
and claims from each no more than its capacity, so one that is slow, or has a long backlog, holds up nobody else. A
check of what became due last does the same for the receivers of those deliveries alone: it finds new events at once,
however many receivers wait for their next attempt.

A claim moves `next_at` LEASE ahead; if the worker dies, another one claims the delivery then. So every event arrives at
least once, and a duplicate has the same id.
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
"""Longer than any attempt takes."""
RETRY_WINDOW: Final = timedelta(days=3)
"""How long a delivery is retried, and for how long an endpoint may fail before it is paused."""
OUTAGE: Final = timedelta(minutes=1)
"""When a receiver recovers after failing for this long, what it has missed is sent at once."""
MAX_RECEIVERS: Final = 1_000
"""Receivers that one scan covers; the next one continues after them."""
NEWEST_DUE: Final = 200
"""How many of the deliveries that became due last are checked between two scans."""
MAX_DEADLOCKS: Final = 3
"""How often a statement is repeated after a deadlock with another worker's."""
_BATCH: Final = 500
_DELETE_BATCH: Final = 1_000

_STATUS_NOW: Final = "coalesce(h.status, outcomes.endpoint_status)"
_FAILS: Final = f"""(outcomes.current AND (outcomes.gone OR {_STATUS_NOW} = '{EndpointStatus.DISABLED}'
        OR (d.give_up_at <= now() AND {_STATUS_NOW} <> '{EndpointStatus.PAUSED}')))"""
"""What a paused endpoint misses is kept until its owner resumes it."""
_PENDING: Final = f"d.status = '{DeliveryStatus.PENDING}'"

_CAPACITY: Final = f"""SELECT DISTINCT ON (r.receiver) r.receiver, least(coalesce(l.capacity, $4), $4) AS capacity
    FROM seen r JOIN webhook_endpoints e ON e.id = r.endpoint_id
    LEFT JOIN unnest($2::text[], $3::int[]) AS l (receiver, capacity) ON l.receiver = r.receiver
    WHERE r.next_at <= now() AND (r.receiver LIKE '%:test'
        OR (e.status = '{EndpointStatus.ACTIVE}' AND (e.not_before IS NULL OR e.not_before <= now())))"""
"""Of the receivers seen, those that may get deliveries now, and how many."""

# The first delivery of every receiver before the second of any.
_CLAIM: Final = f"""
), room AS ({_CAPACITY}), head AS MATERIALIZED (
    SELECT first.* FROM room CROSS JOIN LATERAL (
        SELECT d.id, d.next_at, d.receiver FROM webhook_deliveries d
        WHERE {_PENDING} AND d.receiver = room.receiver AND d.next_at <= now()
        ORDER BY d.next_at, d.id LIMIT room.capacity FOR UPDATE SKIP LOCKED
    ) first
), due AS (
    SELECT h.id FROM (SELECT head.*, row_number() OVER (PARTITION BY receiver ORDER BY next_at, id) AS turn FROM head) h
    ORDER BY h.turn, h.next_at LIMIT $5
), claimed AS (
    UPDATE webhook_deliveries d SET tries = d.tries + 1, sending = true, next_at = now() + $6::interval
    FROM due WHERE d.id = due.id
    RETURNING d.*
)
SELECT t.id, t.tries AS number, t.endpoint_id, t.receiver, coalesce(t.url, e.url) AS url, t.type, t.media_id,
    t.sequence, t.at, t.payload, now() - (t.give_up_at - $7::interval) AS tried_for,
    coalesce(now() - e.failing_since, interval '0') AS failing_for,
    e.secret, CASE WHEN e.previous_until > now() THEN e.previous_secret END AS previous_secret,
    scan.next_receiver, t.id IS NOT NULL AS exists
FROM scan LEFT JOIN claimed t ON true LEFT JOIN webhook_endpoints e ON e.id = t.endpoint_id"""

_SCAN: Final = f"""
WITH RECURSIVE seen AS (
    (SELECT d.receiver, d.next_at, d.endpoint_id, 1 AS number FROM webhook_deliveries d
    WHERE {_PENDING} AND d.receiver > $1 ORDER BY d.receiver, d.next_at LIMIT 1)
    UNION ALL
    SELECT following.*, s.number + 1 FROM seen s CROSS JOIN LATERAL (
        SELECT d.receiver, d.next_at, d.endpoint_id FROM webhook_deliveries d
        WHERE {_PENDING} AND d.receiver > s.receiver ORDER BY d.receiver, d.next_at LIMIT 1
    ) following WHERE s.number < {MAX_RECEIVERS}
), scan AS (
    SELECT (SELECT receiver FROM seen WHERE number = {MAX_RECEIVERS}) AS next_receiver
{_CLAIM}"""

_CHECK_NEWEST: Final = f"""
WITH seen AS (
    SELECT d.receiver, d.next_at, d.endpoint_id FROM webhook_deliveries d
    WHERE {_PENDING} AND d.next_at <= now() ORDER BY d.next_at DESC LIMIT {NEWEST_DUE}
), scan AS (
    SELECT $1::text AS next_receiver
{_CLAIM}"""

# A success is a fact, even after the lease was lost. A failure counts only while the attempt is the current one.
_RECORD: Final = f"""
WITH outcomes AS (
    SELECT a.id, a.number, a.delivered, a.gone AND (e.url IS NULL OR e.url = a.url) AS gone, a.backoff, a.retry_after,
        a.payload, a.url, a.at, a.milliseconds, a.status_code, a.error, a.answer, d.endpoint_id,
        d.tries = a.number AS current, e.status AS endpoint_status,
        e.kind = '{EndpointKind.REGISTERED}' AND e.url = a.url AND d.type <> '{TEST_TYPE}' AS counts
    FROM unnest($1::uuid[], $2::int[], $3::bool[], $4::bool[],
        $5::interval[], $6::interval[], $7::text[], $8::text[], $9::timestamptz[], $10::int[], $11::int[], $12::text[],
        $13::text[]) AS a (id, number, delivered, gone, backoff, retry_after, payload, url, at, milliseconds,
        status_code, error, answer)
    JOIN webhook_deliveries d ON d.id = a.id JOIN webhook_endpoints e ON e.id = d.endpoint_id FOR KEY SHARE OF d
), health AS (
    UPDATE webhook_endpoints e SET updated_at = now(),
        failing_since = CASE WHEN a.delivered THEN NULL ELSE coalesce(e.failing_since, now()) END,
        not_before = CASE WHEN a.retry_after IS NOT NULL THEN now() + a.retry_after ELSE e.not_before END,
        status = CASE WHEN a.gone THEN '{EndpointStatus.DISABLED}'
            WHEN NOT a.delivered AND e.failing_since <= now() - $14::interval AND e.status = '{EndpointStatus.ACTIVE}'
            THEN '{EndpointStatus.PAUSED}' ELSE e.status END,
        reason = CASE WHEN a.gone THEN jsonb_build_object('code', 'gone', 'message', a.error)
            WHEN NOT a.delivered AND e.failing_since <= now() - $14::interval AND e.status = '{EndpointStatus.ACTIVE}'
            THEN jsonb_build_object('code', 'failing', 'message', a.error) ELSE e.reason END
    FROM (
        SELECT endpoint_id, bool_or(delivered) AS delivered, bool_or(gone) AS gone, max(retry_after) AS retry_after,
            max(error) AS error
        FROM outcomes WHERE counts GROUP BY endpoint_id
    ) a
    WHERE e.id = a.endpoint_id AND (
        a.gone OR a.retry_after IS NOT NULL OR (a.delivered AND e.failing_since IS NOT NULL)
        OR (NOT a.delivered AND (e.failing_since IS NULL OR e.failing_since <= now() - $14::interval)))
    RETURNING e.id, e.status
), tried AS (
    INSERT INTO webhook_tries (delivery_id, number, url, at, milliseconds, status_code, error, answer)
    SELECT id, number, url, at, milliseconds, status_code, error, answer FROM outcomes
)
UPDATE webhook_deliveries d SET sending = NOT outcomes.current AND d.sending AND NOT outcomes.delivered,
    payload = coalesce(d.payload, outcomes.payload),
    status = CASE WHEN outcomes.delivered THEN '{DeliveryStatus.DELIVERED}'
        WHEN {_FAILS} THEN '{DeliveryStatus.FAILED}' ELSE d.status END,
    finished_at = CASE WHEN outcomes.delivered OR {_FAILS} THEN now() END,
    next_at = CASE WHEN outcomes.current THEN now() + outcomes.backoff ELSE d.next_at END
FROM outcomes LEFT JOIN health h ON h.id = outcomes.endpoint_id
WHERE d.id = outcomes.id AND {_PENDING}"""

_FAIL_DISABLED: Final = f"""
UPDATE webhook_deliveries d SET status = '{DeliveryStatus.FAILED}', finished_at = now() FROM (
    SELECT p.id FROM webhook_endpoints e CROSS JOIN LATERAL (
        SELECT d.id FROM webhook_deliveries d
        WHERE {_PENDING} AND d.receiver = e.id::text AND NOT d.sending LIMIT {_BATCH} FOR UPDATE SKIP LOCKED
    ) p WHERE e.status = '{EndpointStatus.DISABLED}') undeliverable
WHERE d.id = undeliverable.id
RETURNING d.id"""

_EXPEDITE: Final = f"""
WITH missed AS (
    SELECT d.id FROM webhook_deliveries d
    WHERE {_PENDING} AND d.receiver = $1 AND NOT d.sending AND d.next_at > now()
    ORDER BY d.next_at LIMIT {_BATCH} FOR UPDATE SKIP LOCKED
)
UPDATE webhook_deliveries d SET next_at = now() FROM missed WHERE d.id = missed.id
RETURNING d.id"""

_RETURN_CLAIMS: Final = f"""
UPDATE webhook_deliveries d SET sending = false, next_at = now(), tries = d.tries - CASE WHEN $3 THEN 0 ELSE 1 END
FROM unnest($1::uuid[], $2::int[]) AS a (id, number)
WHERE d.id = a.id AND d.tries = a.number AND {_PENDING}"""

_DELETE_OLD: Final = f"""
DELETE FROM webhook_deliveries WHERE id IN (
    SELECT old.id FROM webhook_endpoints e CROSS JOIN LATERAL (
        SELECT d.id FROM webhook_deliveries d WHERE d.endpoint_id = e.id AND d.created_at < now() - $1::interval
            AND d.status <> '{DeliveryStatus.PENDING}'
        ORDER BY d.created_at LIMIT {_DELETE_BATCH}) old)
RETURNING id"""


class ClaimedDelivery(Row, frozen=True):
    """A delivery that this worker has claimed and sends."""

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
    """None: not sent yet; there always is one for a test, which has no media."""
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
        """Those that sign the request."""
        return (self.secret,) if self.previous_secret is None else (self.secret, self.previous_secret)


class _ClaimRow(ClaimedDelivery, frozen=True):
    next_receiver: str | None
    exists: bool
    """False: nothing was claimed, and every column of a delivery is null."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The result of one claim."""

    deliveries: Sequence[ClaimedDelivery]
    next_receiver: str | None
    """Where the next scan starts; None: at the beginning."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one attempt."""

    delivery_id: UUID
    number: int
    """Of the attempt."""
    url: str
    at: datetime
    milliseconds: int
    status_code: int | None
    """None: no answer."""
    error: str | None
    """Why it counts as a failure; None: delivered."""
    answer: str
    payload: str | None
    """What was sent; None: making it failed."""
    backoff: timedelta
    """Until the next attempt, if there is one."""
    retry_after: timedelta | None
    """How long the receiver has asked us to wait; None: it has not."""
    gone: bool
    """It has answered 410: it wants no more deliveries."""

    @property
    def word(self) -> str:
        """The label of metrics: `ok`, the class of another answer, or `unanswered`."""
        if self.error is None:
            return "ok"
        return "unanswered" if self.status_code is None else f"{self.status_code // 100}xx"


async def claim(
    db: DatabasePool, *, after: str | None, capacities: Mapping[str, int], per_receiver: int, limit: int
) -> Claim:
    """Claim up to `limit` deliveries that are due.

    Args:
        db: The database.
        after: Where a scan starts: `next_receiver` of the previous one, or empty. None: check only the newest due.
        capacities: How many more each receiver may get, where that is not `per_receiver`.
        per_receiver: Deliveries that one receiver gets at the same time.
        limit: Of all receivers together.
    """
    statement = _CHECK_NEWEST if after is None else _SCAN
    values = (after, list(capacities), list(capacities.values()), per_receiver, limit, LEASE, RETRY_WINDOW)
    rows = await db.fetch_as(_ClaimRow, statement, *values)
    return Claim([row for row in rows if row.exists], rows[0].next_receiver)


async def record(db: DatabasePool, outcomes: Sequence[Outcome]) -> list[None]:
    """Record outcomes: in the log, at the deliveries, and in the health of their endpoints."""
    values = (
        [o.delivery_id for o in outcomes],
        [o.number for o in outcomes],
        [o.error is None for o in outcomes],
        [o.gone for o in outcomes],
        [o.backoff for o in outcomes],
        [o.retry_after for o in outcomes],
        [o.payload for o in outcomes],
        [o.url for o in outcomes],
        [o.at for o in outcomes],
        [o.milliseconds for o in outcomes],
        [o.status_code for o in outcomes],
        [o.error for o in outcomes],
        [o.answer for o in outcomes],
        RETRY_WINDOW,
    )
    for _ in range(MAX_DEADLOCKS):
        with contextlib.suppress(asyncpg.TransactionRollbackError):
            await db.execute(_RECORD, *values)
            return [None] * len(outcomes)
    await db.execute(_RECORD, *values)
    return [None] * len(outcomes)


async def fail_disabled(db: DatabasePool) -> None:
    """Fail the pending deliveries of disabled endpoints."""
    while await db.fetch(_FAIL_DISABLED):
        pass


async def expedite(db: DatabasePool, receiver: str) -> bool:
    """Make what a recovered receiver has missed due now, in batches. True: there may be more."""
    return len(await db.fetch(_EXPEDITE, receiver)) == _BATCH


async def return_claims(db: DatabasePool, claims: Sequence[tuple[UUID, int]], *, sent: bool) -> None:
    """Let other workers send what this process has claimed and does not finish.

    Args:
        db: The database.
        claims: Each by the delivery's id and the number of the attempt.
        sent: Whether the receiver may have got it; otherwise the attempt does not count.
    """
    numbers = [number for _, number in claims]
    await db.execute(_RETURN_CLAIMS, [delivery_id for delivery_id, _ in claims], numbers, sent)


async def delete_old(db: DatabasePool, lifetime: timedelta) -> None:
    """Delete finished deliveries older than this, with their log."""
    while len(await db.fetch(_DELETE_OLD, lifetime)) >= _DELETE_BATCH:
        pass


def receiver_of_tests(endpoint_id: UUID) -> str:
    """The receiver of test events: one of its own, so that neither a pause nor a backlog holds them up."""
    return f"{endpoint_id}:test"
