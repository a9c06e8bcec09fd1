"""Reads of media for their owners, one statement for each function. Nothing here changes a row."""

from collections.abc import Collection, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final, Self
from uuid import UUID

from app.core.database.pool import DatabasePool
from app.core.database.rows import Row
from app.jobs.queries import MOST_AHEAD
from app.jobs.sql import MONEY_SPENT, literals
from app.jobs.states import FINAL, MediaStatus, MoneySpent
from app.jobs.transitions.request import Accepted, NewMedia, RequestColumns
from app.media_generator.costs import CostBasis
from app.media_generator.errors import Sent

# ruff: noqa: S608 - the statements are put together from the constants below; values are always arguments


class MediaRow(RequestColumns, frozen=True, kw_only=True):
    """A complete media: the columns of the request, and its present state."""

    provider: str
    rank: int
    status: str
    progress: float | None = None
    number_of_tries: int = 0
    next_run: datetime
    deadline: datetime | None
    waits_for: str | None = None
    """JSON text, like the next five."""
    warnings: str | None = None
    cancel: str | None = None
    error: str | None = None
    files: str | None = None
    cost: str | None = None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    ahead: int | None = None
    """How many of its owner's media come before it, up to MOST_AHEAD; None: it is not due yet, or this is a list."""

    @classmethod
    def accepted(cls, new: NewMedia, accepted: Accepted) -> Self:
        """A media item that has just been requested."""
        requested = {name: getattr(new, name) for name in RequestColumns.__struct_fields__}
        at = accepted.created_at
        return cls(
            **requested,
            provider=new.model.partition("/")[0],
            rank=new.priority,
            status=MediaStatus.IN_QUEUE,
            deadline=accepted.deadline,
            next_run=at,
            created_at=at,
            updated_at=at,
        )


class JobRow(Row, frozen=True):
    """What changes in a media item, read by its job."""

    job_id: UUID
    media_id: UUID
    model: str
    status: str
    progress: float | None
    number_of_tries: int
    next_run: datetime
    waits_for: str | None
    """JSON text."""
    error: str | None
    """JSON text."""
    updated_at: datetime
    deadline: datetime | None
    cancel: str | None
    """JSON text."""
    ahead: int | None
    queue: str
    owner_id: UUID
    provider: str
    rank: int


class HistoryRow(Row, frozen=True):
    """An event of a media item."""

    id: int
    event: str
    """A MediaEvent."""
    status: str
    at: datetime
    detail: str | None
    """JSON text."""


class AttemptRow(Row, frozen=True):
    """An attempt of a media item."""

    id: UUID
    number: int
    status: str
    model: str
    model_version: str | None
    external_id: str | None
    sent: str | None
    error: str | None
    """JSON text."""
    cost: Decimal | None
    currency: str
    cost_basis: str | None
    units: str | None
    """JSON text."""
    estimate: Decimal | None
    created_at: datetime
    submitted_at: datetime | None
    finished_at: datetime | None
    answer: str | None
    """Where the provider's raw answer is in the bucket."""


class _FirstRequest(MediaRow, frozen=True, kw_only=True):
    fingerprint: str
    """Of the request."""


class KnownFile(Row, frozen=True):
    """A file on record, as a stranger may know it."""

    media_id: UUID
    index: int


class _Changed(Row, frozen=True):
    id: UUID
    updated_at: datetime


class _Spent(Row, frozen=True):
    money_spent: str


_FILES: Final = f"""CASE WHEN m.status IN ({literals(FINAL)}) THEN (
        SELECT json_agg(json_build_object('id', f.id, 'index', f.index, 'media_type', f.media_type,
            'bytes', f.bytes, 'width', f.width, 'height', f.height, 'sha256', f.sha256,
            'seconds', f.seconds, 'poster', f.poster_key IS NOT NULL, 'source_sha256', f.source_sha256,
            'provenance', f.provenance, 'warnings', coalesce(f.warnings, '[]')) ORDER BY f.index)
        FROM files f WHERE f.media_id = m.id
    ) END AS files"""

# Attempts that provably were not submitted cost nothing. Amounts in several currencies are not added up.
_COST: Final = f"""CASE WHEN m.number_of_tries > 0 THEN (
        SELECT CASE WHEN count(*) > 0 AND min(a.currency) = max(a.currency) THEN json_build_object(
            'amount', trim_scale(sum(a.cost))::text, 'currency', min(a.currency),
            'basis', CASE WHEN bool_or(a.cost_basis = '{CostBasis.COMPUTED}') THEN '{CostBasis.COMPUTED}'
                ELSE min(a.cost_basis) END,
            'estimate', trim_scale(sum(a.estimate))::text) END
        FROM attempts a WHERE a.media_id = m.id AND a.sent IS DISTINCT FROM '{Sent.NO}'
    ) END AS cost"""

_AHEAD: Final = f"""CASE WHEN m.status = '{MediaStatus.IN_QUEUE}' AND m.next_run <= now() THEN (
        SELECT count(*) FROM (SELECT FROM media a
            WHERE a.status = '{MediaStatus.IN_QUEUE}' AND a.queue = m.queue AND a.owner_id = m.owner_id
                AND a.rank = m.rank AND (a.next_run, a.id) < (m.next_run, m.id)
            LIMIT {MOST_AHEAD}) before
    ) END AS ahead"""
"""Its place among its owner's media; `scheduling/queue_position.py` adds those of other owners."""


def _select(row_type: type[Row], **computed: str) -> str:
    """A SELECT of the fields of `row_type`: columns of the media `m`, or `computed`."""
    return "SELECT " + ", ".join(computed.get(name, f"m.{name}") for name in row_type.__struct_fields__)


_MEDIA: Final = f"{_select(MediaRow, files=_FILES, cost=_COST, ahead=_AHEAD)} FROM media m"
_LISTED: Final = f"{_select(MediaRow, files=_FILES, cost=_COST, ahead='NULL::bigint AS ahead')} FROM media m"
_FIRST_REQUEST: Final = f"""{
    _select(_FirstRequest, files=_FILES, cost=_COST, ahead=_AHEAD, fingerprint="k.fingerprint")
} FROM media m JOIN idempotency_keys k ON k.media_id = m.id WHERE k.owner_id = $1 AND k.key = $2"""

_BY_JOB: Final = f"{_MEDIA} WHERE m.job_id = $1 AND m.owner_id = $2"
_BY_ID: Final = f"{_MEDIA} WHERE m.id = $1 AND m.owner_id = $2"
_BY_IDS: Final = f"{_LISTED} WHERE m.id = ANY($1::uuid[])"

_OF_OWNER: Final = """WHERE m.owner_id = $1 AND $3::text[] IS NOT NULL /* older */ ORDER BY m.id DESC LIMIT $2"""
_IN_STATUSES: Final = """WHERE m.id IN (
    SELECT found.id FROM unnest($3::text[]) AS wanted (status), LATERAL (
        SELECT m.id FROM media m WHERE m.owner_id = $1 AND m.status = wanted.status /* older */
        ORDER BY m.id DESC LIMIT $2
    ) found
) ORDER BY m.id DESC LIMIT $2"""
"""The newest of each status by its index, and of those the newest."""

_JOB: Final = f"""{_select(JobRow, media_id="m.id AS media_id", ahead=_AHEAD)}
FROM media m WHERE m.job_id = $1 AND m.owner_id = $2"""


_HISTORY: Final = f"""SELECT {HistoryRow.columns()} FROM media_history
WHERE media_id = $1 AND id > $2 ORDER BY id LIMIT $3"""

_BY_HASH: Final = """SELECT f.media_id, f.index FROM files f
WHERE f.sha256 = ANY($1::text[]) OR (f.source_sha256 = ANY($1::text[]) AND f.source_sha256 <> f.sha256)
ORDER BY f.created_at LIMIT 1"""

_ATTEMPTS: Final = f"SELECT {AttemptRow.columns()} FROM attempts WHERE media_id = $1 ORDER BY number"


async def media_by_job(db: DatabasePool, job_id: UUID, owner_id: UUID) -> MediaRow | None:
    """The complete media of a job."""
    return await db.fetchrow_as(MediaRow, _BY_JOB, job_id, owner_id)


async def media_by_id(db: DatabasePool, media_id: UUID, owner_id: UUID) -> MediaRow | None:
    """The complete media."""
    return await db.fetchrow_as(MediaRow, _BY_ID, media_id, owner_id)


async def media_by_key(db: DatabasePool, owner_id: UUID, key: str) -> _FirstRequest | None:
    """The complete media requested with an idempotency key, and the `fingerprint` of its request."""
    return await db.fetchrow_as(_FirstRequest, _FIRST_REQUEST, owner_id, key)


async def job(db: DatabasePool, job_id: UUID, owner_id: UUID) -> JobRow | None:
    """The light status of a job."""
    return await db.fetchrow_as(JobRow, _JOB, job_id, owner_id)


async def media_by_ids(db: DatabasePool, media_ids: Sequence[UUID]) -> list[MediaRow]:
    """These media, complete, in any order, of any owner."""
    return await db.fetch_as(MediaRow, _BY_IDS, media_ids)


async def file_by_hash(db: DatabasePool, hashes: Collection[str]) -> KnownFile | None:
    """The first file on record with one of these hashes, of what is served or of what came; None: there is none."""
    return await db.fetchrow_as(KnownFile, _BY_HASH, list(hashes))


async def list_media(
    db: DatabasePool, owner_id: UUID, *, statuses: Sequence[MediaStatus], before: UUID | None, limit: int
) -> list[MediaRow]:
    """Up to `limit` complete media of an owner in one of these statuses, or all, newest first, older than `before`."""
    # One statement for each combination of filters: a generic plan would scan past every other status.
    older = "" if before is None else "AND m.id < $4"
    given = () if before is None else (before,)
    statement = f"{_LISTED} {_IN_STATUSES if statuses else _OF_OWNER}".replace("/* older */", older)
    return await db.fetch_as(MediaRow, statement, owner_id, limit, list(statuses), *given)


async def history(db: DatabasePool, media_id: UUID, *, after: int, limit: int) -> list[HistoryRow]:
    """Up to `limit` events of a media item, oldest first, after the event `after`."""
    return await db.fetch_as(HistoryRow, _HISTORY, media_id, after, limit)


async def attempts(db: DatabasePool, media_id: UUID) -> list[AttemptRow]:
    """Every attempt of a media item, oldest first."""
    return await db.fetch_as(AttemptRow, _ATTEMPTS, media_id)


async def money_spent(db: DatabasePool, media_id: UUID) -> str:
    """Whether a media item has cost money: a MoneySpent."""
    spent = f"SELECT {MONEY_SPENT} AS money_spent FROM media m WHERE m.id = $1"
    row = await db.fetchrow_as(_Spent, spent, media_id)
    return MoneySpent.NO if row is None else row.money_spent


async def last_changes(db: DatabasePool, media_ids: Sequence[UUID]) -> list[tuple[UUID, datetime]]:
    """`updated_at` of each of these media."""
    rows = await db.fetch_as(_Changed, "SELECT id, updated_at FROM media WHERE id = ANY($1::uuid[])", media_ids)
    return [(row.id, row.updated_at) for row in rows]
