"""The SQL that sets apart what waits for a paused model, and puts it back. Run by `transitions.py`.

A pause may concern most of a long queue, so it is worked off in batches. No status moves, and clients see no change of
the media: what it waits for is told beside it (`line.py`).
"""

from typing import Final

from app.jobs.sql import HAS_OPEN, OPEN, WAITING_RANK
from app.jobs.states import HIGHEST_PRIORITY, SHELVED, MediaStatus

# ruff: noqa: S608 - the statements are put together from constants of `states.py`; values are always arguments

_WAITS: Final = f"m.status = '{MediaStatus.IN_QUEUE}'"
# The index's own order, so that no planner reads the whole table in the hope of finding some soon.
_IN_ORDER: Final = "ORDER BY m.model, m.rank"

# The pause is locked with its media: it cannot end while some are just being shelved. Where there are none, nothing is
# locked. What may be paid already is left where it is.
SHELVE: Final = f"""
WITH chosen AS MATERIALIZED (
    SELECT waiting.id FROM paused_models p CROSS JOIN LATERAL (
        SELECT m.id FROM media m
        WHERE {_WAITS} AND m.model = p.model AND m.rank BETWEEN 0 AND {HIGHEST_PRIORITY} AND NOT {HAS_OPEN}
        {_IN_ORDER} LIMIT $1 FOR NO KEY UPDATE OF m SKIP LOCKED
    ) waiting LIMIT $1 FOR KEY SHARE OF p
)
UPDATE media m SET rank = {SHELVED} FROM chosen WHERE m.id = chosen.id RETURNING m.id"""

# From model to model: what is shelved comes first in each, and those that are paused still are not read through.
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

# A purchase that became known after its media was shelved: who bought it had lost the lease.
UNSHELVE_BOUGHT: Final = f"""
UPDATE media m SET rank = {WAITING_RANK}
WHERE {_WAITS} AND m.rank = {SHELVED} AND m.id IN (SELECT a.media_id FROM attempts a WHERE a.status IN ({OPEN}))
RETURNING m.id"""
