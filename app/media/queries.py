"""Reading media: plain functions, one statement each. Nothing here changes a row."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import asyncpg

from app.core.connections import Connections
from app.media.states import MediaStatus

# ruff: noqa: S608 - the statements are put together from the constants below; values are always arguments

_FILES: Final = f"""CASE WHEN m.status = '{MediaStatus.COMPLETED}' THEN (
        SELECT json_agg(json_build_object('id', f.id, 'index', f.index, 'media_type', f.media_type,
            'bytes', f.bytes, 'width', f.width, 'height', f.height, 'sha256', f.sha256) ORDER BY f.index)
        FROM files f WHERE f.media_id = m.id
    ) END AS files"""

_RESOURCE: Final = f"""SELECT m.id, m.job_id, m.status, m.prompt, m.model, m.input, m.metadata, m.progress,
    m.number_of_tries, m.next_run, m.error, m.created_at, m.updated_at, m.started_at, m.completed_at,
    {_FILES}
FROM media m"""

_BY_KEY: Final = f"""{_RESOURCE.replace("SELECT ", "SELECT k.fingerprint, ", 1)}
JOIN idempotency_keys k ON k.media_id = m.id WHERE k.owner_id = $1 AND k.key = $2"""

_BY_JOB: Final = f"{_RESOURCE} WHERE m.job_id = $1 AND m.owner_id = $2"
_BY_ID: Final = f"{_RESOURCE} WHERE m.id = $1 AND m.owner_id = $2"

_JOB: Final = """SELECT m.job_id, m.id AS media_id, m.status, m.progress, m.number_of_tries, m.next_run, m.error,
    m.updated_at
FROM media m WHERE m.job_id = $1 AND m.owner_id = $2"""

_CONTENT: Final = """SELECT m.status, f.key, f.media_type
FROM media m LEFT JOIN files f ON f.media_id = m.id AND f.index = $3
WHERE m.id = $1 AND m.owner_id = $2"""

_NEWEST: Final = "ORDER BY m.id DESC LIMIT $2"

_HISTORY: Final = """SELECT id, event, status, at, detail FROM media_history
WHERE media_id = $1 AND id > $2 ORDER BY id LIMIT $3"""

_ATTEMPTS: Final = """SELECT id, number, status, model, model_version, external_id, sent, error, cost,
    created_at, submitted_at, finished_at
FROM attempts WHERE media_id = $1 ORDER BY number"""


async def media_by_job(hot: Connections, job_id: UUID, owner_id: UUID) -> asyncpg.Record | None:
    """The complete media of a job, files as a JSON text."""
    return await hot.fetchrow(_BY_JOB, job_id, owner_id)


async def media_by_id(hot: Connections, media_id: UUID, owner_id: UUID) -> asyncpg.Record | None:
    """The complete media, files as a JSON text."""
    return await hot.fetchrow(_BY_ID, media_id, owner_id)


async def media_by_key(hot: Connections, owner_id: UUID, key: str) -> asyncpg.Record | None:
    """The complete media that an idempotency key led to, and the `fingerprint` of its request."""
    return await hot.fetchrow(_BY_KEY, owner_id, key)


async def job(hot: Connections, job_id: UUID, owner_id: UUID) -> asyncpg.Record | None:
    """The light status of a job."""
    return await hot.fetchrow(_JOB, job_id, owner_id)


async def content(hot: Connections, media_id: UUID, owner_id: UUID, index: int) -> asyncpg.Record | None:
    """The status of a media and the place of one of its files; `key` is null where there is no such file."""
    return await hot.fetchrow(_CONTENT, media_id, owner_id, index)


async def newest(
    hot: Connections, owner_id: UUID, *, status: MediaStatus | None, before: UUID | None, limit: int
) -> Sequence[asyncpg.Record]:
    """Up to `limit` complete media of an owner, newest first, older than `before`."""
    conditions, values = ["m.owner_id = $1"], list[object]()
    for condition, value in (("m.status", status), ("m.id", before)):
        if value is not None:
            values.append(value)
            # A statement of its own for each combination: a generic plan would scan past every other status.
            conditions.append(f"{condition} {'<' if condition == 'm.id' else '='} ${len(values) + 2}")
    return await hot.fetch(f"{_RESOURCE} WHERE {' AND '.join(conditions)} {_NEWEST}", owner_id, limit, *values)


async def history(hot: Connections, media_id: UUID, *, after: int, limit: int) -> Sequence[asyncpg.Record]:
    """Up to `limit` events of a media, oldest first, after the event `after`; `detail` is a JSON text."""
    return await hot.fetch(_HISTORY, media_id, after, limit)


async def attempts(hot: Connections, media_id: UUID) -> Sequence[asyncpg.Record]:
    """Every try of a media, first one first; `error` is a JSON text."""
    return await hot.fetch(_ATTEMPTS, media_id)
