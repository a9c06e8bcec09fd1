"""An attempt begins, is accepted by the provider, and reports progress.

The intent is committed before the provider is called: money may be spent from here on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec

from app.core.database.pool import DatabasePool
from app.core.database.rows import Row
from app.core.database.text import storable
from app.jobs.sql import (
    ENDED_WITHOUT_RESULT,
    HOLDS_LEASE,
    OPEN_STATUSES,
    PROVIDER_OF,
    SAME_PROVIDER,
    UNSETTLED,
    literals,
)
from app.jobs.states import AttemptStatus, MediaStatus
from app.jobs.transitions.base import Changed, Lease, applied, best_effort, fenced, grouped, retried, run
from app.media_generator.errors import Sent
from app.media_generator.media_generator_model import Reference

# ruff: noqa: S608 - the statements are put together from constants; values are always arguments

LIKENESS_MINUTES: Final = 10
"""Attempts this close to each other may have made the same purchase, if they submitted the same: time limit of `submit`
and a clock of the provider that is off, twice."""


@dataclass(frozen=True, slots=True)
class Intent:
    """What is about to be submitted."""

    lease: Lease
    attempt_id: UUID
    model: str
    model_version: str | None
    input_hash: str
    """Equal for requests that the provider cannot tell apart: `MediaGeneratorModel.likeness`."""
    estimate: Decimal | None = None
    """The expected cost, in `currency`; None: unknown."""
    currency: str = "USD"


@dataclass(frozen=True, slots=True)
class Purchase:
    """A fact: the provider accepted this attempt under that id; `reference` is JSON text."""

    attempt_id: UUID
    external_id: str
    reference: str
    proven: bool = True
    """The provider named it for this very attempt; False: it is the only purchase that is like what was submitted."""

    @classmethod
    def of(cls, attempt_id: UUID, reference: Reference, *, proven: bool = True) -> "Purchase":
        """As it is stored: a character that PostgreSQL cannot store must not lose it."""
        clean: dict[str, str] = storable(msgspec.to_builtins(reference))
        return cls(attempt_id, clean["external_id"], msgspec.json.encode(clean).decode(), proven)


class PurchaseRecord(StrEnum):
    """What became of a purchase that was to be recorded."""

    RECORDED = "recorded"
    SETTLED = "settled"
    """The outcome of the attempt, or another purchase of it, is known already."""
    TAKEN = "taken"
    """It belongs to another attempt."""
    CONTESTED = "contested"
    """It is not proven, and another attempt whose purchase is unknown may have made it."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a media item is, 0 to 1."""

    lease: Lease
    fraction: float


@dataclass(frozen=True, slots=True)
class Delay:
    """What holds a media item up; `reason` is JSON text with `code` and `message`, None: nothing any more."""

    lease: Lease
    reason: str | None


class AlreadyPurchasedError(Exception):
    """A purchase of an earlier attempt has turned up since the claim: it is resumed, nothing is submitted."""


class IntendedAttempt(Row, frozen=True):
    """An attempt whose intent is committed."""

    id: UUID
    number: int
    created_at: datetime
    """When, by the database's clock; the provider is called after this moment."""


class _AttemptId(Row, frozen=True):
    id: UUID


class _Refused(Row, frozen=True):
    id: UUID
    reason: str
    """A PurchaseRecord."""


_INTEND: Final = f"""
WITH item AS (
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::numeric[],
        $8::text[]) AS t (media_id, fence, attempt_id, model, model_version, input_hash, estimate, currency)
), existing AS (
    SELECT a.id, a.number, a.created_at FROM item JOIN attempts a ON a.id = item.attempt_id
    JOIN media m ON m.id = item.media_id AND {HOLDS_LEASE}
), numbered AS (
    UPDATE media m SET number_of_tries = m.number_of_tries + 1, progress = NULL, updated_at = now()
    FROM item WHERE m.id = item.media_id AND {HOLDS_LEASE}
        AND NOT EXISTS (SELECT FROM existing WHERE existing.id = item.attempt_id)
    RETURNING m.id, m.number_of_tries
), created AS (
    INSERT INTO attempts (id, media_id, number, status, model, model_version, input_hash, estimate, currency)
    SELECT item.attempt_id, numbered.id, numbered.number_of_tries, '{AttemptStatus.INTENDED}',
        item.model, item.model_version, item.input_hash, item.estimate, item.currency
    FROM numbered JOIN item ON item.media_id = numbered.id
    RETURNING id, number, created_at
)
SELECT * FROM created UNION ALL SELECT * FROM existing"""


@fenced
async def intend(db: DatabasePool, intents: Sequence[Intent]) -> Sequence[IntendedAttempt | None]:
    """Commit what is about to be submitted: each attempt, None where the lease is lost.

    Repeated with the same attempt id, as after a lost answer, it changes nothing and returns the same.

    Raises:
        asyncpg.UniqueViolationError: The media has an open attempt, of which there is one at most.
    """
    rows = await db.fetch_as(
        IntendedAttempt,
        _INTEND,
        [i.lease.media_id for i in intents],
        [i.lease.fencing_token for i in intents],
        [i.attempt_id for i in intents],
        [i.model for i in intents],
        [i.model_version for i in intents],
        [i.input_hash for i in intents],
        [i.estimate for i in intents],
        [i.currency for i in intents],
    )
    committed = {row.id: row for row in rows}
    return [committed.get(i.attempt_id) for i in intents]


# Somebody has to follow up a purchase whose media has ended. It may end at this very moment: then `a` is seen as
# it is now and `m` as it was, so the end must have left `look_at` for this. Where another attempt is open, or the media
# is at another provider by now, the fact is kept, and followed up once the media has ended without a result.
_CONTINUES_ELSEWHERE: Final = f"""(m.status = '{MediaStatus.COMPLETED}' OR NOT {SAME_PROVIDER} OR EXISTS (
    SELECT FROM attempts o WHERE o.media_id = a.media_id AND o.id <> a.id AND o.status IN ({OPEN_STATUSES})))"""
_IS_OPEN_TO_IT: Final = f"({UNSETTLED} AND (a.external_id IS NULL OR a.external_id = t.external_id))"
_TAKEN: Final = f"""EXISTS (SELECT FROM attempts o
    WHERE {PROVIDER_OF.format("o")} = {PROVIDER_OF.format("a")} AND o.external_id = t.external_id AND o.id <> a.id)"""
# Whoever made it committed its intent before, so it is seen here if it is not recorded yet.
_CONTESTED: Final = f"""EXISTS (SELECT FROM attempts o
    WHERE o.id <> a.id AND o.input_hash = a.input_hash AND {PROVIDER_OF.format("o")} = {PROVIDER_OF.format("a")}
        AND o.reference IS NULL
        AND (o.status IN ({OPEN_STATUSES}) OR o.status = '{AttemptStatus.UNKNOWN}')
        AND o.created_at BETWEEN a.created_at - interval '{LIKENESS_MINUTES} minutes'
            AND a.created_at + interval '{LIKENESS_MINUTES} minutes')"""
_PURCHASE: Final = f"""
UPDATE attempts a SET external_id = t.external_id, reference = t.reference::jsonb, submitted_at = now(),
    sent = CASE WHEN a.status IN ({OPEN_STATUSES}) THEN a.sent ELSE '{Sent.YES}' END, error = NULL, finished_at = NULL,
    stop = a.stop OR m.status = '{MediaStatus.CANCELED}',
    status = CASE WHEN a.status IN ({OPEN_STATUSES}) OR NOT {_CONTINUES_ELSEWHERE} THEN '{AttemptStatus.SUBMITTED}'
        ELSE '{AttemptStatus.UNKNOWN}' END,
    look_at = CASE WHEN m.status = '{MediaStatus.COMPLETED}' THEN NULL
        WHEN m.status IN ({literals(ENDED_WITHOUT_RESULT)}) OR a.status NOT IN ({OPEN_STATUSES}) THEN now()
        ELSE a.look_at END
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bool[]) AS t (id, external_id, reference, proven), media m
WHERE a.id = t.id AND m.id = a.media_id AND {_IS_OPEN_TO_IT} AND NOT {_TAKEN} AND (t.proven OR NOT {_CONTESTED})
RETURNING a.id"""
_WHY_REFUSED: Final = f"""
SELECT a.id, CASE WHEN {_TAKEN} THEN '{PurchaseRecord.TAKEN}' WHEN NOT {_IS_OPEN_TO_IT} THEN '{PurchaseRecord.SETTLED}'
    ELSE '{PurchaseRecord.CONTESTED}' END AS reason
FROM unnest($1::uuid[], $2::text[]) AS t (id, external_id) JOIN attempts a ON a.id = t.id"""


@grouped
async def record_purchases(db: DatabasePool, purchases: Sequence[Purchase]) -> Sequence[PurchaseRecord]:
    """Record what the provider accepted: a purchase belongs to one attempt, and an attempt has one purchase.

    A fact, so it is not fenced: a worker that lost its lease may write it too. If another attempt begins, or gets this
    purchase, at this very moment the statement is repeated, and then sees it.
    """
    if min(len({p.external_id for p in purchases}), len({p.attempt_id for p in purchases})) < len(purchases):
        # Two rows of one statement do not see each other.
        return [(await record_purchases.many(db, [purchase]))[0] for purchase in purchases]
    values = zip(*((p.attempt_id, p.external_id, p.reference, p.proven) for p in purchases), strict=True)
    rows = await retried(db, _AttemptId, _PURCHASE, *(list(column) for column in values))
    results = {row.id: PurchaseRecord.RECORDED for row in rows}
    refused = [p for p in purchases if p.attempt_id not in results]
    if refused:
        ids, external_ids = [p.attempt_id for p in refused], [p.external_id for p in refused]
        results |= {
            row.id: PurchaseRecord(row.reason) for row in await db.fetch_as(_Refused, _WHY_REFUSED, ids, external_ids)
        }
    return [results.get(p.attempt_id, PurchaseRecord.SETTLED) for p in purchases]


_PROGRESS: Final = f"""
UPDATE media m SET progress = item.fraction, updated_at = now()
FROM unnest($1::uuid[], $2::bigint[], $3::float8[]) AS item (id, fence, fraction)
WHERE m.id = item.id AND {HOLDS_LEASE}
RETURNING m.id, m.owner_id, false AS posted"""


@best_effort
async def report_progress(db: DatabasePool, steps: Sequence[Progress]) -> Sequence[bool]:
    """Show how far media are; no event of its own. False where the lease is lost."""
    rows = await run(
        db,
        Changed,
        _PROGRESS,
        [p.lease.media_id for p in steps],
        [p.lease.fencing_token for p in steps],
        [p.fraction for p in steps],
    )
    return applied(rows, [p.lease for p in steps])


_DELAY: Final = f"""
UPDATE media m SET waits_for = item.reason::jsonb, updated_at = now()
FROM unnest($1::uuid[], $2::bigint[], $3::text[]) AS item (id, fence, reason)
WHERE m.id = item.id AND {HOLDS_LEASE}
RETURNING m.id, m.owner_id, false AS posted"""


@best_effort
async def report_delays(db: DatabasePool, delays: Sequence[Delay]) -> Sequence[bool]:
    """Show what holds media up while they are PROCESSING; no event of its own. False where the lease is lost."""
    rows = await run(
        db,
        Changed,
        _DELAY,
        [d.lease.media_id for d in delays],
        [d.lease.fencing_token for d in delays],
        [d.reason for d in delays],
    )
    return applied(rows, [d.lease for d in delays])


_ANSWER: Final = "UPDATE attempts SET answer = $2 WHERE id = $1"


async def record_answer(db: DatabasePool, attempt_id: UUID, name: str) -> None:
    """Record where the provider's raw answer to an attempt is stored; a fact, so it is not fenced."""
    await db.execute(_ANSWER, attempt_id, name)


_COPIED: Final = "UPDATE attempts SET copied = $2::jsonb WHERE id = $1"


async def record_copied(db: DatabasePool, attempt_id: UUID, outputs: str) -> None:
    """Record which outputs are in the bucket while others are still to be fetched, as JSON text; not fenced either."""
    await db.execute(_COPIED, attempt_id, outputs)
