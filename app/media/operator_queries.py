"""Reading the jobs of all owners, as an operator looks at them. Nothing here changes a row."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

import asyncpg

from app.core.database.pool import DatabasePool
from app.jobs.sql import ENDED_WITHOUT_RESULT, MONEY_SPENT, OPEN_STATUSES, literals
from app.jobs.states import AttemptStatus, MediaStatus, MoneySpent

# ruff: noqa: S608 - the statements are put together from constants; values are always arguments

# What was bought and is there, or may still come, is not bought again.
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
"""Amounts of several currencies are no sum: `cost` is null then, as it is where none is known."""

# Ids sort by the clock of the process that made them, so they narrow down what the database's own times then decide.
_CLOCKS_DIFFER: Final = "interval '1 day'"

_HOLDER: Final = """SELECT m.takeovers, m.next_run - now() AS until_next_run, w.name AS worker,
    now() - w.seen_at AS silent_for
FROM media m LEFT JOIN workers w ON w.id = m.worker_id WHERE m.id = $1"""
_WORKERS: Final = "SELECT id, name, now() - seen_at AS silent_for FROM workers ORDER BY name"
_PROVIDER_WAITS: Final = f"SELECT FROM media WHERE status = '{MediaStatus.IN_QUEUE}' AND provider = $1 LIMIT 1"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which jobs; what is left out does not matter."""

    statuses: tuple[MediaStatus, ...] = ()
    models: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    error: str | None = None
    """The code of the last failure."""
    older_than: timedelta | None = None
    """How long ago it was asked for, at least."""
    newer_than: timedelta | None = None
    """How long ago it was asked for, at most."""

    @property
    def everything(self) -> bool:
        """Whether it lets every job through."""
        return self == Filter()


async def jobs(db: DatabasePool, wanted: Filter, *, limit: int, oldest_first: bool = False) -> Sequence[asyncpg.Record]:
    """Up to `limit` jobs, newest first unless told otherwise.

    `retry_pays_again`, a MoneySpent, says whether another try would be paid a second time; null: none can be asked for.
    """
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
    return await db.fetch(f"{_SELECT} {where} ORDER BY m.id {order} LIMIT {limit:d}", *values)


async def jobs_by_id(db: DatabasePool, ids: Sequence[UUID]) -> Sequence[asyncpg.Record]:
    """The jobs of these ids, which may be those of jobs or of media, oldest first."""
    by_id = f"{_SELECT} WHERE m.id = ANY($1::uuid[]) OR m.job_id = ANY($1::uuid[]) ORDER BY m.id"
    return await db.fetch(by_id, ids)


async def holder(db: DatabasePool, media_id: UUID) -> asyncpg.Record:
    """Who holds a media (`worker`, `silent_for`), its `takeovers`, and how long `until_next_run`."""
    (row,) = await db.fetch(_HOLDER, media_id)
    return row


async def workers(db: DatabasePool) -> Sequence[asyncpg.Record]:
    """The workers that report: `id`, `name`, `silent_for`."""
    return await db.fetch(_WORKERS)


async def provider_waits(db: DatabasePool, provider: str) -> bool:
    """Whether anything waits for a provider."""
    return await db.fetchrow(_PROVIDER_WAITS, provider) is not None


def _id_of(moment: str) -> str:
    """The first UUID version 7 of a moment, in SQL."""
    milliseconds = f"(extract(epoch FROM {moment}) * 1000)::bigint"
    return f"(lpad(to_hex(greatest({milliseconds}, 0)), 12, '0') || repeat('0', 20))::uuid"
