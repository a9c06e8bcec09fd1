"""The SQL of callbacks: the note at an attempt that its provider has called, and the keys of its signatures."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

import asyncpg

from app.core.database.pool import DatabasePool
from app.jobs.sql import OPEN, UNSETTLED
from app.jobs.states import RESUMED, MediaStatus, MoneySpent

# ruff: noqa: S608 - the statements are put together from constants of `states.py`; values are always arguments

KEYS_FRESH: Final = timedelta(hours=1)
"""After which keys are fetched again."""
KEYS_DOUBTED: Final = timedelta(minutes=5)
"""How old keys must be for a signature that they do not fit to raise doubts about them."""

# Of a media that is over whoever looks after the purchase looks at once.
_NOTE: Final = f"""
UPDATE attempts a SET called_back = a.status IN ({OPEN}) AND a.look_at IS NULL,
    look_at = CASE WHEN a.look_at IS NULL THEN NULL ELSE least(a.look_at, now()) END
FROM media m
WHERE a.id = $1 AND m.id = a.media_id AND split_part(a.model, '/', 1) = $2
    AND {UNSETTLED}
RETURNING m.id AS media_id, m.owner_id, a.reference IS NULL AS unbound"""

# What it waits for is no pause between two tries any more. Two statements: who locks an attempt before its media gets
# into the way of those that do it the other way round.
_CALLED: Final = f"""
UPDATE attempts a SET called_back = true WHERE a.id = $1 AND a.status IN ({OPEN})"""
_HASTEN: Final = f"""
UPDATE media m SET rank = {RESUMED}, next_run = now() FROM attempts a
WHERE a.id = $1 AND a.status IN ({OPEN}) AND m.id = a.media_id
    AND m.status = '{MediaStatus.IN_QUEUE}' AND m.rank < {RESUMED}"""

# Its owner was told that stopping it had cost nothing.
_OWN_UP: Final = f"""
UPDATE media m SET cancel = jsonb_set(m.cancel, '{{money_spent}}', '"{MoneySpent.YES}"'), updated_at = now()
FROM attempts a WHERE a.id = $1 AND m.id = a.media_id AND m.cancel->>'money_spent' <> '{MoneySpent.YES}'"""

# What is closed by now is cleared by whoever comes by.
_UNHEARD: Final = f"""
UPDATE attempts a SET called_back = false FROM media m
WHERE a.called_back AND m.id = a.media_id AND (m.worker_id = $1 OR a.status NOT IN ({OPEN}))
RETURNING m.id"""

_KEYS: Final = "SELECT keys FROM provider_keys WHERE provider = $1"
_FRESH: Final = "SELECT provider FROM provider_keys WHERE fetched_at > now() - $1::interval"
_STORE_KEYS: Final = """INSERT INTO provider_keys (provider, keys) VALUES ($1, $2)
ON CONFLICT (provider) DO UPDATE SET keys = excluded.keys, fetched_at = now()"""
_MAKE_KEY: Final = """WITH made AS (INSERT INTO provider_keys (provider, keys) VALUES ($1, ARRAY[$2])
    ON CONFLICT DO NOTHING RETURNING keys)
SELECT keys FROM made UNION ALL SELECT keys FROM provider_keys WHERE provider = $1"""
# Of a media that another attempt has completed nobody reads an answer any more, nor drops it.
_AWAITED: Final = f"""SELECT 1 FROM attempts a JOIN media m ON m.id = a.media_id
WHERE a.id = $1 AND split_part(a.model, '/', 1) = $2 AND {UNSETTLED}
    AND m.status <> '{MediaStatus.COMPLETED}'"""
_DOUBT: Final = """UPDATE provider_keys SET fetched_at = '-infinity'
WHERE provider = $1 AND fetched_at < now() - $2::interval"""


async def note(db: DatabasePool, attempt_id: UUID, provider: str) -> asyncpg.Record | None:
    """Note that a provider has called back: `media_id`, `owner_id`, whether its purchase is `unbound` as yet.

    None: it has no such attempt, or what became of that is known.
    """
    return await db.fetchrow(_NOTE, attempt_id, provider)


async def hasten(db: DatabasePool, attempt_id: UUID) -> None:
    """Let a media in the queue that turned out to be bought be claimed, and its provider asked, at once."""
    await db.execute(_CALLED, attempt_id)
    await db.execute(_HASTEN, attempt_id)


async def own_up(db: DatabasePool, attempt_id: UUID) -> None:
    """Say of a media that was cancelled for nothing that it has cost money after all."""
    await db.execute(_OWN_UP, attempt_id)


async def unheard(db: DatabasePool, worker_id: UUID) -> list[UUID]:
    """The media in a worker's hands whose providers have called since it was asked last."""
    return [row["id"] for row in await db.fetch(_UNHEARD, worker_id)]


async def keys(db: DatabasePool, provider: str) -> list[str]:
    """What signatures of a provider are checked with; empty: nobody has fetched it yet."""
    row = await db.fetchrow(_KEYS, provider)
    return [] if row is None else row["keys"]


async def fresh(db: DatabasePool) -> set[str]:
    """The providers whose keys need not be fetched."""
    return {row["provider"] for row in await db.fetch(_FRESH, KEYS_FRESH)}


async def store_keys(db: DatabasePool, provider: str, found: Sequence[str]) -> None:
    """Keep what signatures of a provider are checked with."""
    await db.execute(_STORE_KEYS, provider, list(found))


async def secret(db: DatabasePool, provider: str, fresh: str) -> str:
    """The key of a provider's unguessable addresses: the one that is there, or `fresh` from now on."""
    # Whoever loses the race to be the first sees nothing of the winner's in the same statement.
    while True:
        row = await db.fetchrow(_MAKE_KEY, provider, fresh)
        if row is not None:
            found: list[str] = row["keys"]
            return found[0]


async def awaited(db: DatabasePool, attempt_id: UUID, provider: str) -> bool:
    """Whether a provider has this attempt, its outcome is not known, and its media is not completed."""
    return await db.fetchrow(_AWAITED, attempt_id, provider) is not None


async def doubt(db: DatabasePool, provider: str) -> None:
    """A signature did not fit: perhaps the keys have changed; a worker fetches them again soon."""
    await db.execute(_DOUBT, provider, KEYS_DOUBTED)
