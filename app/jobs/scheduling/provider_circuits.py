"""Circuit breakers: a provider whose key or credit is bad gets no submissions for a while, from any worker.

While the breaker is open the claim passes over the provider's media (`transitions/claim.py`); every now and then one
of them may try (a trial). An operator's pause is an open breaker without trials, which only the operator resets; models
are paused in `model_pauses.py`.
"""

from datetime import datetime, timedelta
from typing import Final

from app.core.database.pool import DatabasePool
from app.core.database.rows import Row
from app.core.database.text import storable
from app.jobs.states import PAUSED_BY_OPERATOR
from app.media_generator.errors import ProviderError

# ruff: noqa: S608 - the statements are put together from constants of `states.py`; values are always arguments


class TrippedProvider(Row, frozen=True):
    """A provider to which nothing is submitted."""

    provider: str
    code: str
    """Of the ProviderError; `paused`: by the operator."""
    message: str
    closed_at: datetime
    """Since when it is unavailable."""
    trial_at: datetime
    """When one media may try again; infinity: never."""


class _First(Row, frozen=True):
    first: bool


class _Provider(Row, frozen=True):
    provider: str


_TRIP: Final = f"""INSERT INTO provider_gates AS g (provider, code, message, trial_at)
VALUES ($1, $2, $3, now() + $4::interval)
ON CONFLICT (provider) DO UPDATE SET code = excluded.code, message = excluded.message, trial_at = excluded.trial_at
    WHERE g.code <> '{PAUSED_BY_OPERATOR}'
RETURNING xmax = 0 AS first"""
_RESET: Final = f"DELETE FROM provider_gates WHERE provider = $1 AND code <> '{PAUSED_BY_OPERATOR}'"

_PAUSE: Final = f"""INSERT INTO provider_gates AS g (provider, code, message, trial_at)
VALUES ($1, '{PAUSED_BY_OPERATOR}', $2, 'infinity')
ON CONFLICT (provider) DO UPDATE SET code = excluded.code, message = excluded.message, trial_at = excluded.trial_at,
    closed_at = CASE WHEN g.code = excluded.code THEN g.closed_at ELSE excluded.closed_at END"""
_RESUME: Final = f"DELETE FROM provider_gates WHERE provider = $1 AND code = '{PAUSED_BY_OPERATOR}' RETURNING provider"

_TRIPPED: Final = "SELECT provider, code, message, closed_at, trial_at FROM provider_gates ORDER BY provider"


async def trip(db: DatabasePool, provider: str, error: ProviderError, *, pause: timedelta) -> bool:
    """Open a provider's breaker until a trial after `pause` succeeds; False: it was open already."""
    row = await db.fetchrow_as(_First, _TRIP, provider, error.code, storable(error.message), pause)
    return row is not None and row.first


async def reset(db: DatabasePool, provider: str) -> None:
    """Close a provider's breaker: it has accepted a submission."""
    await db.execute(_RESET, provider)


async def pause(db: DatabasePool, provider: str, message: str) -> None:
    """Submit nothing to a provider until `resume`; `message` is what clients read."""
    await db.execute(_PAUSE, provider, message)


async def resume(db: DatabasePool, provider: str) -> bool:
    """End a pause; False: there was none."""
    return await db.fetchrow_as(_Provider, _RESUME, provider) is not None


async def tripped(db: DatabasePool) -> list[TrippedProvider]:
    """The providers to which nothing is submitted now, by name."""
    return await db.fetch_as(TrippedProvider, _TRIPPED)
