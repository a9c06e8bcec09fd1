"""Worker rows: one for each worker process.

Its heartbeat keeps the leases of all its jobs; only the database's clock is ever asked.
"""

from datetime import timedelta
from typing import Final
from uuid import UUID

from app.core.database.pool import DatabasePool

_REGISTER: Final = "INSERT INTO workers (id, name) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING"

_BEAT: Final = """UPDATE workers SET seen_at = now(),
    steady_since = CASE WHEN seen_at < now() - $2::interval / 2 THEN now() ELSE steady_since END
WHERE id = $1 RETURNING id"""

_LEAVE: Final = "DELETE FROM workers WHERE id = $1"

# After an outage of the database, or a stall of the machine, everybody looks silent: who has not reported steadily for
# a whole lease since then, up to now, declares nobody dead.
_BURY: Final = """DELETE FROM workers w WHERE w.seen_at < now() - $2::interval
    AND EXISTS (SELECT FROM workers me WHERE me.id = $1 AND me.steady_since <= now() - $2::interval
        AND me.seen_at >= now() - $2::interval / 2)
RETURNING w.name"""


async def register(db: DatabasePool, worker_id: UUID, name: str) -> None:
    """Make the row of a worker."""
    await db.execute(_REGISTER, worker_id, name)


async def beat(db: DatabasePool, worker_id: UUID, *, lease: timedelta) -> bool:
    """Report; False: the row is gone, and with it every lease."""
    return await db.fetchrow(_BEAT, worker_id, lease) is not None


async def leave(db: DatabasePool, worker_id: UUID) -> None:
    """Remove the worker's own row, when its jobs are handed back."""
    await db.execute(_LEAVE, worker_id)


async def bury_silent(db: DatabasePool, worker_id: UUID, *, lease: timedelta) -> list[str]:
    """Remove the rows of workers that have been silent for a whole lease; their names."""
    return [row["name"] for row in await db.fetch(_BURY, worker_id, lease)]
