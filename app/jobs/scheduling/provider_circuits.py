"""Gates: a provider whose key or credit is bad is closed for a while, for all workers at once.

The claim passes over its media (`claiming.py`); every now and then one of them may try. An operator's pause is a gate
that lets nobody try, and that nobody else opens; models are paused in `pauses.py`.
"""

from datetime import timedelta
from typing import Final

import asyncpg

from app.core.database.pool import DatabasePool
from app.core.database.text import storable
from app.jobs.states import PAUSED_BY_OPERATOR
from app.media_generator.errors import ProviderError

# ruff: noqa: S608 - the statements are put together from constants of `states.py`; values are always arguments

_CLOSE: Final = f"""INSERT INTO provider_gates AS g (provider, code, message, trial_at)
VALUES ($1, $2, $3, now() + $4::interval)
ON CONFLICT (provider) DO UPDATE SET code = excluded.code, message = excluded.message, trial_at = excluded.trial_at
    WHERE g.code <> '{PAUSED_BY_OPERATOR}'
RETURNING xmax = 0 AS first"""
_OPEN_AGAIN: Final = f"DELETE FROM provider_gates WHERE provider = $1 AND code <> '{PAUSED_BY_OPERATOR}'"

_PAUSE: Final = f"""INSERT INTO provider_gates AS g (provider, code, message, trial_at)
VALUES ($1, '{PAUSED_BY_OPERATOR}', $2, 'infinity')
ON CONFLICT (provider) DO UPDATE SET code = excluded.code, message = excluded.message, trial_at = excluded.trial_at,
    closed_at = CASE WHEN g.code = excluded.code THEN g.closed_at ELSE excluded.closed_at END"""
_RESUME: Final = f"DELETE FROM provider_gates WHERE provider = $1 AND code = '{PAUSED_BY_OPERATOR}' RETURNING provider"

_CLOSED: Final = "SELECT provider, code, message, closed_at, trial_at FROM provider_gates ORDER BY provider"


async def close(db: DatabasePool, provider: str, error: ProviderError, *, pause: timedelta) -> bool:
    """Buy nothing from a provider until a trial after `pause` goes well; False: it was closed or paused already."""
    row = await db.fetchrow(_CLOSE, provider, error.code, storable(error.message), pause)
    return row is not None and bool(row["first"])


async def open_again(db: DatabasePool, provider: str) -> None:
    """The provider has sold something: it is well."""
    await db.execute(_OPEN_AGAIN, provider)


async def pause(db: DatabasePool, provider: str, message: str) -> None:
    """Buy nothing from a provider until `resume`; `message` is what clients are told."""
    await db.execute(_PAUSE, provider, message)


async def resume(db: DatabasePool, provider: str) -> bool:
    """End a pause; False: there was none."""
    return await db.fetchrow(_RESUME, provider) is not None


async def closed(db: DatabasePool) -> list[asyncpg.Record]:
    """The providers from which nothing is bought now: `provider`, `code`, `message`, `closed_at`, `trial_at`."""
    return await db.fetch(_CLOSED)
