"""Media that wait for a paused model are put on hold (SHELVED), and returned to the queue afterwards.

A pause may affect most of a long queue, so it is done in batches. No status changes, and clients see no change
of the media: what it waits for is shown beside it (`queue_position.py`).
"""

from typing import Final
from uuid import UUID

from app.core.database.pool import DatabasePool
from app.core.database.rows import Row
from app.jobs.sql import HAS_OPEN_ATTEMPT, OPEN_STATUSES, WAITING_RANK
from app.jobs.states import HIGHEST_PRIORITY, SHELVED, MediaStatus

# ruff: noqa: S608 - the statements are put together from constants; values are always arguments


class _MediaId(Row, frozen=True):
    id: UUID


_WAITS: Final = f"m.status = '{MediaStatus.IN_QUEUE}'"
# The index's own order, so that no planner reads the whole table in the hope of finding some soon.
_IN_ORDER: Final = "ORDER BY m.model, m.rank"

# The pause is locked with its media: it cannot end while some are just being shelved. Where there are none, nothing is
# locked. Media with an open attempt, which may be paid already, stay where they are.
SHELVE: Final = f"""
WITH chosen AS MATERIALIZED (
    SELECT waiting.id FROM paused_models p CROSS JOIN LATERAL (
        SELECT m.id FROM media m
        WHERE {_WAITS} AND m.model = p.model AND m.rank BETWEEN 0 AND {HIGHEST_PRIORITY} AND NOT {HAS_OPEN_ATTEMPT}
        {_IN_ORDER} LIMIT $1 FOR NO KEY UPDATE OF m SKIP LOCKED
    ) waiting LIMIT $1 FOR KEY SHARE OF p
)
UPDATE media m SET rank = {SHELVED} FROM chosen WHERE m.id = chosen.id RETURNING m.id"""

# From model to model: the shelved ones come first in each, and models that are still paused are not read through.
UNSHELVE: Final = f"""
WITH RECURSIVE head AS (
    (SELECT m.model, m.rank FROM media m WHERE {_WAITS} {_IN_ORDER} LIMIT 1)
    UNION ALL
    SELECT following.* FROM head h CROSS JOIN LATERAL (
        SELECT m.model, m.rank FROM media m WHERE {_WAITS} AND m.model > h.model {_IN_ORDER} LIMIT 1
    ) following
), back AS MATERIALIZED (
    SELECT shelved.id FROM head h CROSS JOIN LATERAL (
        SELECT m.id FROM media m WHERE {_WAITS} AND m.model = h.model AND m.rank = {SHELVED}
        {_IN_ORDER} LIMIT $1 FOR NO KEY UPDATE OF m SKIP LOCKED
    ) shelved
    WHERE h.rank = {SHELVED} AND h.model NOT IN (SELECT p.model FROM paused_models p) LIMIT $1
)
UPDATE media m SET rank = {WAITING_RANK} FROM back WHERE m.id = back.id RETURNING m.id"""

# A purchase that became known after its media was shelved: the worker that submitted it had lost the lease.
UNSHELVE_PURCHASED: Final = f"""
UPDATE media m SET rank = {WAITING_RANK}
WHERE {_WAITS} AND m.rank = {SHELVED}
    AND m.id IN (SELECT a.media_id FROM attempts a WHERE a.status IN ({OPEN_STATUSES}))
RETURNING m.id"""


async def shelve(db: DatabasePool, *, limit: int) -> int:
    """Put up to `limit` media that wait for paused models on hold, so that no claim reads through them; how many."""
    return len(await db.fetch_as(_MediaId, SHELVE, limit))


async def unshelve(db: DatabasePool, *, limit: int) -> int:
    """Return up to `limit` shelved media whose model is not paused to the queue; how many."""
    return len(await db.fetch_as(_MediaId, UNSHELVE, limit))


async def unshelve_purchased(db: DatabasePool) -> int:
    """Return media to the queue whose purchase became known after they were shelved; how many."""
    return len(await db.fetch_as(_MediaId, UNSHELVE_PURCHASED))
