"""Reads of all owners' jobs, for operators. Nothing here changes a row."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID

from app.core.database.pool import DatabasePool
from app.core.database.rows import Row
from app.jobs.sql import ENDED_WITHOUT_RESULT, MONEY_SPENT, OPEN_STATUSES, literals
from app.jobs.states import AttemptStatus, MediaStatus, MoneySpent

# ruff: noqa: S608 - the statements are put together from constants; values are always arguments

# A purchase whose result is stored, or may still arrive, is not repeated.
_KEPT: Final = f"""(EXISTS (SELECT FROM files f WHERE f.media_id = m.id) OR EXISTS (SELECT FROM attempts a
    WHERE a.media_id = m.id
        AND (a.status IN ({OPEN_STATUSES}) OR (a.status = '{AttemptStatus.UNKNOWN}' AND a.reference IS NOT NULL))))"""

_SELECT: Final = f"""SELECT m.job_id, m.id AS media_id, m.status, m.model, m.owner_id, o.name AS owner, m.priority,
    m.number_of_tries, m.error->>'code' AS error_code, m.error->>'message' AS error_message,
    spent.cost, spent.currency,
    CASE WHEN m.status NOT IN ({literals(ENDED_WITHOUT_RESULT)}) THEN NULL WHEN {_KEPT} THEN '{MoneySpent.NO}'
        ELSE {MONEY_SPENT} END AS retry_pays_again,
    m.created_at, m.started_at, m.completed_at, m.next_run, m.deadline, now() - m.created_at AS age
FROM media m LEFT JOIN owners o ON o.id = m.owner_id, LATERAL (
    SELECT CASE WHEN min(a.currency) = max(a.currency) THEN sum(a.cost) END AS cost,
        CASE WHEN min(a.currency) = max(a.currency) THEN min(a.currency) END AS currency
    FROM attempts a WHERE a.media_id = m.id AND a.cost IS NOT NULL
) spent"""
"""Amounts in several currencies are not added up: `cost` is null then, as where none is known."""

# Ids sort by the clock of the process that created them: they narrow the search, and `created_at` decides.
_CLOCKS_DIFFER: Final = "interval '1 day'"

_HOLDER: Final = """SELECT m.takeovers, m.next_run - now() AS until_next_run, w.name AS worker,
    now() - w.seen_at AS since_heartbeat
FROM media m LEFT JOIN workers w ON w.id = m.worker_id WHERE m.id = $1"""
_WORKERS: Final = "SELECT id FROM workers"
_PROVIDER_WAITS: Final = f"SELECT id FROM media WHERE status = '{MediaStatus.IN_QUEUE}' AND provider = $1 LIMIT 1"


class OperatorJob(Row, frozen=True):
    """A job with what an operator needs to judge it."""

    job_id: UUID
    media_id: UUID
    status: str
    model: str
    owner_id: UUID
    owner: str | None
    """Its name."""
    priority: int
    number_of_tries: int
    error_code: str | None
    """Of the last failure, as `error_message`."""
    error_message: str | None
    cost: Decimal | None
    currency: str | None
    retry_pays_again: str | None
    """A MoneySpent: whether another attempt would be charged again; None: it cannot be retried."""
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    next_run: datetime
    deadline: datetime | None
    age: timedelta


class LeaseHolder(Row, frozen=True):
    """The worker that holds a media item."""

    takeovers: int
    """How many workers died while holding the media."""
    until_next_run: timedelta
    """Negative: it is due."""
    worker: str | None
    """Its name; None: no worker holds the media, or it has been removed."""
    since_heartbeat: timedelta | None


class _Id(Row, frozen=True):
    id: UUID


@dataclass(frozen=True, slots=True)
class Filter:
    """Which jobs; a filter left out matches all."""

    statuses: tuple[MediaStatus, ...] = ()
    models: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    error: str | None = None
    """The code of the last failure."""
    older_than: timedelta | None = None
    """How long ago it was requested, at least."""
    newer_than: timedelta | None = None
    """How long ago it was requested, at most."""

    @property
    def everything(self) -> bool:
        """Whether it matches every job."""
        return self == Filter()


async def jobs(db: DatabasePool, wanted: Filter, *, limit: int, oldest_first: bool = False) -> list[OperatorJob]:
    """Up to `limit` jobs, newest first by default."""
    conditions, values = list[str](), list[object]()

    def only(condition: str, value: Sequence[str] | timedelta | None) -> None:
        if value:
            values.append(value)
            conditions.append(condition.replace("$", f"${len(values)}"))

    only("m.status = ANY($::text[])", wanted.statuses)
    only("m.model = ANY($::text[])", wanted.models)
    only("m.provider = ANY($::text[])", wanted.providers)
    only("m.error->>'code' = $", wanted.error)
    only("m.created_at <= now() - $::interval", wanted.older_than)
    only("m.created_at >= now() - $::interval", wanted.newer_than)
    only(f"m.id >= {_id_of(f'now() - $::interval - {_CLOCKS_DIFFER}')}", wanted.newer_than)
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    order = "ASC" if oldest_first else "DESC"
    return await db.fetch_as(OperatorJob, f"{_SELECT} {where} ORDER BY m.id {order} LIMIT {limit:d}", *values)


async def jobs_by_id(db: DatabasePool, ids: Sequence[UUID]) -> list[OperatorJob]:
    """The jobs with these ids, of jobs or of media, oldest first."""
    by_id = f"{_SELECT} WHERE m.id = ANY($1::uuid[]) OR m.job_id = ANY($1::uuid[]) ORDER BY m.id"
    return await db.fetch_as(OperatorJob, by_id, ids)


async def holder(db: DatabasePool, media_id: UUID) -> LeaseHolder:
    """Who holds a media item, and when it is due."""
    (row,) = await db.fetch_as(LeaseHolder, _HOLDER, media_id)
    return row


async def count_workers(db: DatabasePool) -> int:
    """How many workers report to the database."""
    return len(await db.fetch_as(_Id, _WORKERS))


async def provider_waits(db: DatabasePool, provider: str) -> bool:
    """Whether any media waits for a provider."""
    return await db.fetchrow_as(_Id, _PROVIDER_WAITS, provider) is not None


def _id_of(moment: str) -> str:
    """The first UUID version 7 of a moment, in SQL."""
    milliseconds = f"(extract(epoch FROM {moment}) * 1000)::bigint"
    return f"(lpad(to_hex(greatest({milliseconds}, 0)), 12, '0') || repeat('0', 20))::uuid"
