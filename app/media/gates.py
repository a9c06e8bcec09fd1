"""Gates: a provider whose key or credit is bad is closed for a while, for all workers at once.

The claim passes over its media (`claiming.py`); every now and then one of them may try.
"""

from datetime import timedelta
from typing import Final

import asyncpg

from app.core.connections import Connections
from app.core.storable import storable
from app.media_generator.errors import ProviderError

_CLOSE: Final = """INSERT INTO provider_gates AS g (provider, code, message, trial_at)
VALUES ($1, $2, $3, now() + $4::interval)
ON CONFLICT (provider) DO UPDATE SET code = excluded.code, message = excluded.message, trial_at = excluded.trial_at
RETURNING xmax = 0 AS first"""

_CLOSED: Final = "SELECT provider, code, message, closed_at, trial_at FROM provider_gates ORDER BY provider"


async def close(hot: Connections, provider: str, error: ProviderError, *, pause: timedelta) -> bool:
    """Buy nothing from a provider until a trial after `pause` goes well; False: it was closed already."""
    row = await hot.fetchrow(_CLOSE, provider, error.code, storable(error.message), pause)
    return row is not None and bool(row["first"])


async def open_again(hot: Connections, provider: str) -> None:
    """The provider has sold something: it is well."""
    await hot.execute("DELETE FROM provider_gates WHERE provider = $1", provider)


async def closed(hot: Connections) -> list[asyncpg.Record]:
    """The providers from which nothing is bought now: `provider`, `code`, `message`, `closed_at`, `trial_at`."""
    return await hot.fetch(_CLOSED)
