"""The keys with which callbacks are verified: fetched by workers, kept in `provider_keys`, read by the API."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from app.core.database.pool import DatabasePool
from app.core.database.rows import Row
from app.jobs.sql import UNSETTLED
from app.jobs.states import MediaStatus

# ruff: noqa: S608 - the statements are put together from constants of `states.py`; values are always arguments

FRESH_FOR: Final = timedelta(hours=1)
"""After which keys are fetched again."""
INVALIDATED_AFTER: Final = timedelta(minutes=5)
"""How old keys must be for a signature that does not match to invalidate them."""


class _Keys(Row, frozen=True):
    keys: list[str]


class _Provider(Row, frozen=True):
    provider: str


class _Attempt(Row, frozen=True):
    id: UUID


_KEYS: Final = "SELECT keys FROM provider_keys WHERE provider = $1"
_FRESH: Final = "SELECT provider FROM provider_keys WHERE fetched_at > now() - $1::interval"
_STORE_KEYS: Final = """INSERT INTO provider_keys (provider, keys) VALUES ($1, $2)
ON CONFLICT (provider) DO UPDATE SET keys = excluded.keys, fetched_at = now()"""
_MAKE_KEY: Final = """WITH inserted AS (INSERT INTO provider_keys (provider, keys) VALUES ($1, ARRAY[$2])
    ON CONFLICT DO NOTHING RETURNING keys)
SELECT keys FROM inserted UNION ALL SELECT keys FROM provider_keys WHERE provider = $1"""
# Once another attempt has completed the media, nobody would read or delete this answer.
_EXPECTS_ANSWER: Final = f"""SELECT a.id FROM attempts a JOIN media m ON m.id = a.media_id
WHERE a.id = $1 AND split_part(a.model, '/', 1) = $2 AND {UNSETTLED}
    AND m.status <> '{MediaStatus.COMPLETED}'"""
_INVALIDATE: Final = """UPDATE provider_keys SET fetched_at = '-infinity'
WHERE provider = $1 AND fetched_at < now() - $2::interval"""


async def keys_of(db: DatabasePool, provider: str) -> list[str]:
    """The keys that signatures of a provider are verified with; empty: none has been fetched yet."""
    row = await db.fetchrow_as(_Keys, _KEYS, provider)
    return [] if row is None else row.keys


async def providers_with_fresh_keys(db: DatabasePool) -> set[str]:
    """The providers whose keys need not be fetched."""
    return {row.provider for row in await db.fetch_as(_Provider, _FRESH, FRESH_FOR)}


async def store_keys(db: DatabasePool, provider: str, found: Sequence[str]) -> None:
    """Keep the keys that signatures of a provider are verified with."""
    await db.execute(_STORE_KEYS, provider, list(found))


async def url_key(db: DatabasePool, provider: str, new: str) -> str:
    """The key of a provider's unguessable callback URLs: the stored one, or `new` from now on."""
    # A process that loses the race to be the first does not see the winner's row in the same statement.
    while True:
        row = await db.fetchrow_as(_Keys, _MAKE_KEY, provider, new)
        if row is not None:
            return row.keys[0]


async def expects_answer(db: DatabasePool, attempt_id: UUID, provider: str) -> bool:
    """Whether a provider has this attempt, its outcome is unknown, and its media is not completed."""
    return await db.fetchrow_as(_Attempt, _EXPECTS_ANSWER, attempt_id, provider) is not None


async def invalidate_keys(db: DatabasePool, provider: str) -> None:
    """A signature did not match: perhaps the keys have changed; a worker fetches them again soon."""
    await db.execute(_INVALIDATE, provider, INVALIDATED_AFTER)
