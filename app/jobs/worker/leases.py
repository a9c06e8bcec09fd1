"""Leases: one row for each worker process, whose heartbeat keeps the leases of all its jobs.

Only the database's clock is ever read.
"""

from datetime import timedelta
from typing import Final
from uuid import UUID

from app.core.database.pool import DatabasePool
from app.core.database.rows import Row


class _WorkerId(Row, frozen=True):
    id: UUID


class _WorkerName(Row, frozen=True):
    name: str


_REGISTER: Final = "INSERT INTO workers (id, name) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING"

_HEARTBEAT: Final = """UPDATE workers SET seen_at = now(),
    steady_since = CASE WHEN seen_at < now() - $2::interval / 2 THEN now() ELSE steady_since END
WHERE id = $1 RETURNING id"""

_UNREGISTER: Final = "DELETE FROM workers WHERE id = $1"

# After an outage of the database, or a stall of the machine, every worker looks silent: a worker that has not reported
# steadily for a whole lease since then, up to now, removes nobody.
_REMOVE_EXPIRED: Final = """DELETE FROM workers w WHERE w.seen_at < now() - $2::interval
    AND EXISTS (SELECT FROM workers me WHERE me.id = $1 AND me.steady_since <= now() - $2::interval
        AND me.seen_at >= now() - $2::interval / 2)
RETURNING w.name"""


async def register(db: DatabasePool, worker_id: UUID, name: str) -> None:
    """Make the row of a worker."""
    await db.execute(_REGISTER, worker_id, name)


async def heartbeat(db: DatabasePool, worker_id: UUID, *, lease: timedelta) -> bool:
    """Report; False: the row is gone, and with it every lease."""
    return await db.fetchrow_as(_WorkerId, _HEARTBEAT, worker_id, lease) is not None


async def unregister(db: DatabasePool, worker_id: UUID) -> None:
    """Remove the worker's own row, when its jobs are returned."""
    await db.execute(_UNREGISTER, worker_id)


async def remove_expired(db: DatabasePool, worker_id: UUID, *, lease: timedelta) -> list[str]:
    """Remove the rows of workers that have been silent for a whole lease; their names."""
    return [row.name for row in await db.fetch_as(_WorkerName, _REMOVE_EXPIRED, worker_id, lease)]
