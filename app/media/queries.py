"""Reading media: plain functions, one statement each. Nothing here changes a row."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from app.core.database.pool import DatabasePool
from app.jobs.queries import MOST_AHEAD
from app.jobs.sql import SPENT_SO_FAR, names
from app.jobs.states import FINAL, MediaStatus, MoneySpent
from app.media_generator.costs import CostBasis
from app.media_generator.errors import Sent

# ruff: noqa: S608 - the statements are put together from the constants below; values are always arguments

_FILES: Final = f"""CASE WHEN m.status IN ({names(FINAL)}) THEN (
        SELECT json_agg(json_build_object('id', f.id, 'index', f.index, 'media_type', f.media_type,
            'bytes', f.bytes, 'width', f.width, 'height', f.height, 'sha256', f.sha256,
            'seconds', f.seconds, 'poster', f.poster_key IS NOT NULL) ORDER BY f.index)
        FROM files f WHERE f.media_id = m.id
    ) END AS files"""

# What provably was not bought counts for nothing. Amounts of several currencies are no sum: /attempts tells them.
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
    ) END AS ahead, m.queue, m.owner_id, m.provider, m.rank"""
"""For a media that waits: its place among its owner's own, and what else `line.py` needs."""

_COLUMNS: Final = f"""m.id, m.job_id, m.status, m.prompt, m.model, m.input, m.metadata, m.progress,
    m.number_of_tries, m.next_run, m.error, m.created_at, m.updated_at, m.started_at, m.completed_at,
    m.priority, m.deadline, m.on_unknown, m.cancel, m.tags, m.route, {_FILES}, {_COST}"""
_RESOURCE: Final = f"SELECT {_COLUMNS}, {_AHEAD} FROM media m"
_LISTED: Final = f"SELECT {_COLUMNS} FROM media m"

_BY_KEY: Final = f"""{_RESOURCE.replace("SELECT ", "SELECT k.fingerprint, ", 1)}
JOIN idempotency_keys k ON k.media_id = m.id WHERE k.owner_id = $1 AND k.key = $2"""

_BY_JOB: Final = f"{_RESOURCE} WHERE m.job_id = $1 AND m.owner_id = $2"
_BY_ID: Final = f"{_RESOURCE} WHERE m.id = $1 AND m.owner_id = $2"

_JOB: Final = f"""SELECT m.job_id, m.id AS media_id, m.model, m.status, m.progress, m.number_of_tries, m.next_run,
    m.error, m.updated_at, m.deadline, m.cancel, {_AHEAD}
FROM media m WHERE m.job_id = $1 AND m.owner_id = $2"""

_NEWEST: Final = "ORDER BY m.id DESC LIMIT $2"

_HISTORY: Final = """SELECT id, event, status, at, detail FROM media_history
WHERE media_id = $1 AND id > $2 ORDER BY id LIMIT $3"""

_ATTEMPTS: Final = """SELECT id, number, status, model, model_version, external_id, sent, error, cost,
    currency, cost_basis, units, estimate, created_at, submitted_at, finished_at
FROM attempts WHERE media_id = $1 ORDER BY number"""


async def media_by_job(db: DatabasePool, job_id: UUID, owner_id: UUID) -> asyncpg.Record | None:
    """The complete media of a job, files as a JSON text."""
    return await db.fetchrow(_BY_JOB, job_id, owner_id)


async def media_by_id(db: DatabasePool, media_id: UUID, owner_id: UUID) -> asyncpg.Record | None:
    """The complete media, files as a JSON text."""
    return await db.fetchrow(_BY_ID, media_id, owner_id)


async def media_by_key(db: DatabasePool, owner_id: UUID, key: str) -> asyncpg.Record | None:
    """The complete media that an idempotency key led to, and the `fingerprint` of its request."""
    return await db.fetchrow(_BY_KEY, owner_id, key)


async def job(db: DatabasePool, job_id: UUID, owner_id: UUID) -> asyncpg.Record | None:
    """The light status of a job."""
    return await db.fetchrow(_JOB, job_id, owner_id)


async def resources(db: DatabasePool, media_ids: Sequence[UUID]) -> list[asyncpg.Record]:
    """These media, complete, in any order, whoever they belong to."""
    return await db.fetch(f"{_LISTED} WHERE m.id = ANY($1::uuid[])", media_ids)


async def newest(
    db: DatabasePool, owner_id: UUID, *, status: MediaStatus | None, before: UUID | None, limit: int
) -> Sequence[asyncpg.Record]:
    """Up to `limit` complete media of an owner, newest first, older than `before`."""
    conditions, values = ["m.owner_id = $1"], list[object]()
    for condition, value in (("m.status", status), ("m.id", before)):
        if value is not None:
            values.append(value)
            # A statement of its own for each combination: a generic plan would scan past every other status.
            conditions.append(f"{condition} {'<' if condition == 'm.id' else '='} ${len(values) + 2}")
    return await db.fetch(f"{_LISTED} WHERE {' AND '.join(conditions)} {_NEWEST}", owner_id, limit, *values)


async def history(db: DatabasePool, media_id: UUID, *, after: int, limit: int) -> Sequence[asyncpg.Record]:
    """Up to `limit` events of a media, oldest first, after the event `after`; `detail` is a JSON text."""
    return await db.fetch(_HISTORY, media_id, after, limit)


async def money_spent(db: DatabasePool, media_id: UUID) -> str:
    """Whether a media has cost money, a MoneySpent."""
    row = await db.fetchrow(f"SELECT {SPENT_SO_FAR} FROM media m WHERE m.id = $1", media_id)
    return MoneySpent.NO if row is None else row[0]


async def changes(db: DatabasePool, media_ids: Sequence[UUID]) -> list[tuple[UUID, datetime]]:
    """When each of these media was changed last."""
    rows = await db.fetch("SELECT id, updated_at FROM media WHERE id = ANY($1::uuid[])", media_ids)
    return [(row["id"], row["updated_at"]) for row in rows]


async def attempts(db: DatabasePool, media_id: UUID) -> Sequence[asyncpg.Record]:
    """Every try of a media, first one first; `error` is a JSON text."""
    return await db.fetch(_ATTEMPTS, media_id)
