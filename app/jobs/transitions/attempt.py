"""An attempt begins, is accepted by the provider, and reports progress.

The intent is committed before the provider is called: money may be spent from here on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final
from uuid import UUID

import msgspec

from app.core.database.pool import DatabasePool
from app.core.database.rows import Row
from app.core.database.text import storable
from app.jobs.sql import ENDED_WITHOUT_RESULT, HOLDS_LEASE, OPEN_STATUSES, SAME_PROVIDER, UNSETTLED, literals
from app.jobs.states import AttemptStatus, MediaStatus
from app.jobs.transitions.base import Changed, Lease, applied, best_effort, fenced, grouped, retried, run
from app.media_generator.errors import Sent
from app.media_generator.media_generator_model import Reference

# ruff: noqa: S608 - the statements are put together from constants; values are always arguments


@dataclass(frozen=True, slots=True)
class Intent:
    """What is about to be submitted."""

    lease: Lease
    attempt_id: UUID
    model: str
    model_version: str | None
    input_hash: str
    estimate: Decimal | None = None
    """The expected cost, in `currency`; None: unknown."""
    currency: str = "USD"


@dataclass(frozen=True, slots=True)
class Purchase:
    """A fact: the provider accepted this attempt under that id; `reference` is JSON text."""

    attempt_id: UUID
    external_id: str
    reference: str

    @classmethod
    def of(cls, attempt_id: UUID, reference: Reference) -> "Purchase":
        """As it is stored: a character that PostgreSQL cannot store must not lose it."""
        clean: dict[str, str] = storable(msgspec.to_builtins(reference))
        return cls(attempt_id, clean["external_id"], msgspec.json.encode(clean).decode())


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a media item is, 0 to 1."""

    lease: Lease
    fraction: float


class AlreadyPurchasedError(Exception):
    """A purchase of an earlier attempt has turned up since the claim: it is resumed, nothing is submitted."""


class _Numbered(Row, frozen=True):
    id: UUID
    number: int


class _AttemptId(Row, frozen=True):
    id: UUID


_INTEND: Final = f"""
WITH item AS (
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::numeric[],
        $8::text[]) AS t (media_id, fence, attempt_id, model, model_version, input_hash, estimate, currency)
), existing AS (
    SELECT a.id, a.number FROM item JOIN attempts a ON a.id = item.attempt_id
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
    RETURNING id, number
)
SELECT id, number FROM created UNION ALL SELECT id, number FROM existing"""


@fenced
async def intend(db: DatabasePool, intents: Sequence[Intent]) -> Sequence[int | None]:
    """Commit what is about to be submitted: the number of each attempt, None where the lease is lost.

    Repeated with the same attempt id, as after a lost answer, it changes nothing and returns the same.

    Raises:
        asyncpg.UniqueViolationError: The media has an open attempt, of which there is one at most.
    """
    rows = await db.fetch_as(
        _Numbered,
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
    numbers = {row.id: row.number for row in rows}
    return [numbers.get(i.attempt_id) for i in intents]


# Somebody has to follow up a purchase whose media has ended. It may end at this very moment: then `a` is seen as
# it is now and `m` as it was, so the end must have left `look_at` for this. Where another attempt is open, or the media
# is at another provider by now, the fact is kept, and followed up once the media has ended without a result.
_CONTINUES_ELSEWHERE: Final = f"""(m.status = '{MediaStatus.COMPLETED}' OR NOT {SAME_PROVIDER} OR EXISTS (
    SELECT FROM attempts o WHERE o.media_id = a.media_id AND o.id <> a.id AND o.status IN ({OPEN_STATUSES})))"""
_PURCHASE: Final = f"""
UPDATE attempts a SET external_id = t.external_id, reference = t.reference::jsonb, submitted_at = now(),
    sent = CASE WHEN a.status IN ({OPEN_STATUSES}) THEN a.sent ELSE '{Sent.YES}' END, error = NULL, finished_at = NULL,
    stop = a.stop OR m.status = '{MediaStatus.CANCELED}',
    status = CASE WHEN a.status IN ({OPEN_STATUSES}) OR NOT {_CONTINUES_ELSEWHERE} THEN '{AttemptStatus.SUBMITTED}'
        ELSE '{AttemptStatus.UNKNOWN}' END,
    look_at = CASE WHEN m.status = '{MediaStatus.COMPLETED}' THEN NULL
        WHEN m.status IN ({literals(ENDED_WITHOUT_RESULT)}) OR a.status NOT IN ({OPEN_STATUSES}) THEN now()
        ELSE a.look_at END
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS t (id, external_id, reference), media m
WHERE a.id = t.id AND m.id = a.media_id AND {UNSETTLED}
RETURNING a.id"""


@grouped
async def record_purchases(db: DatabasePool, purchases: Sequence[Purchase]) -> Sequence[bool]:
    """Record what the provider accepted; False where the outcome of the attempt is known already.

    A fact, so it is not fenced: a worker that lost its lease may write it too. If another attempt begins at this very
    moment the statement is repeated, and then sees it.
    """
    values = zip(*((p.attempt_id, p.external_id, p.reference) for p in purchases), strict=True)
    rows = await retried(db, _AttemptId, _PURCHASE, *(list(column) for column in values))
    recorded = {row.id for row in rows}
    return [p.attempt_id in recorded for p in purchases]


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
